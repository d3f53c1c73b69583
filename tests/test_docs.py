"""The documentation does what it says: its commands parse, its code runs, its generated parts are current."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import itertools
import json
import pkgutil
import re
import runpy
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

import selftaught as st
from selftaught.cli.main import call_of, main
from selftaught.console import Console
from selftaught.engines import Request, Sampling
from selftaught.engines.scripted import ScriptedEngine, scripted_learner
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.method import find, methods
from selftaught.models import Policy
from selftaught.records import Prompt, Verdict, make_problem
from selftaught.run.ask import Ask
from selftaught.run.ask_reading import AskEffects
from selftaught.tasks import Kind, Task
from selftaught.testing import make_run

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def load_generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "scripts" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()
PAGES_AT_ROOT = (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
WRITTEN = {p.relative_to(ROOT).as_posix(): p.read_text("utf-8") for p in (*PAGES_AT_ROOT, *DOCS.rglob("*.md"))}
GENERATED = {f"docs/{path}": text for path, text in generate.pages().items()}
PICTURES = {f"docs/{path}": text for path, text in generate.pictures().items()}
PAGES = WRITTEN | GENERATED


class Block(NamedTuple):
    """A fenced block of a page: its language, its title, and what is in it."""

    language: str
    title: str
    code: str


def blocks(page: str) -> list[Block]:
    fence = re.compile(r"^(?P<fence>`{3,})(?P<head>[^\n]*)\n(?P<code>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)
    found = []
    for block in fence.finditer(PAGES[page]):
        language, _, rest = block["head"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        found.append(Block(language, title[1] if title else "", block["code"]))
    return found


def spans(page: str) -> list[str]:
    """The page's inline code, each span on one line."""
    prose = re.sub(r"^(`{3,}).*?^\1", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


def commands(page: str) -> list[list[str]]:
    """The commands in the page's shell blocks, a list of words each."""
    lines = "\n".join(b.code for b in blocks(page) if b.language in ("sh", "bash", "shell", "console"))
    split = (shlex.split(line, comments=True) for line in lines.replace("\\\n", " ").splitlines())
    return [words for words in split if words]


def write_files(page: str, folder: Path) -> None:
    """The page's titled blocks as files, and what its scripts make of them."""
    for block in blocks(page):
        if block.title and not block.title.startswith("src/"):
            (folder / block.title).write_text(block.code, "utf-8")
    for words in commands(page):
        if words[0] == "python":
            runpy.run_path(str(folder / words[1]))


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a folder with a page's files the current one."""

    def enter(page: str) -> Path:
        monkeypatch.chdir(tmp_path)
        write_files(page, tmp_path)
        return tmp_path

    return enter


def test_there_is_something_to_test() -> None:
    assert len(WRITTEN) >= 8
    assert sum(len(commands(page)) for page in PAGES) >= 20
    assert all(blocks(page) for page in PAGES if page.startswith("docs/tutorials/"))


# --- generated parts ---


def test_every_method_has_a_page_with_its_options_and_source() -> None:
    for method in methods().values():
        page = GENERATED[f"docs/methods/{method.id}.md"]
        assert method.summary in page
        assert method.path.read_text("utf-8").rstrip() in page
        assert f"arxiv.org/abs/{method.paper}" in page or method.paper in page
        for option in method.options:
            assert f"| `--{option.name.replace('_', '-')}` |" in page
            assert option.help, f"{method.id}: the docstring says nothing of {option.name}"


def test_the_reference_shows_every_command_with_its_options() -> None:
    page = GENERATED["docs/reference/commands.md"]
    for command in ("run", "solve", "eval", "methods"):
        assert f"usage: selftaught {command}" in page
    assert "--dry-run" in page


def test_the_readme_lists_the_methods_as_they_are() -> None:
    readme = WRITTEN["README.md"]
    assert generate.with_table(readme) == readme, "run `make format`"
    assert len(generate.PICKS) == 10
    for method in map(find, generate.PICKS):
        assert (ROOT / generate.source(method)).is_file()
        assert f"[{method.id}]({generate.source(method)})" in readme
    counts = re.findall(r"\[(\w+)\]\((src/selftaught/methods/[\w/]+)\) (\d+)", readme)
    assert sum(int(count) for *_, count in counts) == len(methods())
    for _, folder, count in counts:
        mine = [m for m in methods().values() if (ROOT / folder) == m.path.parent]
        assert {m.path for m in mine} == set((ROOT / folder).glob("[!_]*.py"))
        assert len(mine) == int(count)


def test_the_page_of_methods_lists_each_one_under_its_family() -> None:
    page = GENERATED["docs/reference/methods.md"]
    for folder, found in generate.families().items():
        section = page.partition(f"\n### {folder.name}\n")[2].partition("\n#")[0]
        assert next(line for line in section.splitlines() if line).endswith(".")
        assert [m.id for m in found] == re.findall(r"^\| \[([\w-]+)\]\(\.\./methods/", section, re.MULTILINE)


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="methods:begin"):
        generate.with_table("# a page")
    with pytest.raises(ValueError, match="methods:end"):
        generate.with_table(f"{generate.END}{generate.BEGIN}")


def test_the_table_replaces_whatever_stood_between_the_marks() -> None:
    page = f"above\n{generate.BEGIN}\n| what stood here |\n{generate.END}\nbelow\n"
    new = generate.with_table(page)
    assert new.startswith("above\n")
    assert new.endswith("\nbelow\n")
    assert "what stood here" not in new
    assert generate.with_table(new) == new


def test_pictures_are_drawings_of_the_measurements() -> None:
    assert len(PICTURES) == 1
    for path, picture in PICTURES.items():
        drawn = ElementTree.fromstring(picture)
        assert drawn.tag.endswith("svg"), path
        assert len(list(drawn.iter())) > 10, path


def test_measurements_come_from_results_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = {name for text in WRITTEN.values() for name in generate.MEASURED.findall(text)}
    assert marks <= set(methods())
    monkeypatch.setattr(generate, "RESULTS", tmp_path)
    page = "above\n\n<!-- measured: star -->\n\nbelow"
    assert "Not checked yet: `selftaught check star --ablate`" in generate.with_measurements(page)
    row = {"name": "greedy", "score": 0.4, "effect": 0.1, "ci95": [0.05, 0.15], "tokens": 1200, "in_claim": True}
    vote = row | {"name": "vote", "score": 0.6, "in_claim": False}
    less = row | {"name": "one | round", "in_claim": False}
    found = {"score": 0.5, "method_tokens": 34000, "baselines": [row, vote], "ablations": [less], "against": "greedy"}
    found |= {"verdict": "reproduced", "seeds": 5, "problems": 800, "command": "selftaught check star"}
    found |= {"effect": 0.1, "ci95": [0.05, 0.15]}
    (tmp_path / "star.json").write_text(json.dumps(found), "utf-8")
    made = generate.with_measurements(page)
    assert "Older check. Equal tokens: reproduced. 5 seeds, 800 test problems, `selftaught check star`. " in made
    assert "the verdict is determined by greedy.\n" in made
    assert "| **star** | 0.500 |  | 34,000 |" in made
    assert "| greedy | 0.400 | +0.100 [+0.050, +0.150] | 1,200 |" in made
    assert "| vote (not in the claim) |" in made
    assert "| one \\| round (ablation) |" in made
    other = row | {"name": "other", "score": 0.3, "effect": 0.2, "ci95": [-0.01, 0.41]}
    found |= {"baselines": [row, vote, other], "against": "other", "extra_metrics": {"wrong_to right": 0.25}}
    (tmp_path / "star.json").write_text(json.dumps(found), "utf-8")
    made = generate.with_measurements(page)
    assert "determined by other. greedy has the highest mean: +0.100 [+0.050, +0.150].\n" in made
    assert "Metrics of star on the test problems: wrong to right 0.250." in made
    published = {"verdict": "contradicted", "effect": -0.1, "ci95": [-0.15, -0.05], "against": "greedy"}
    rows = [{**row, "compute": 1200, "contrast": name} for name in ("as_published", "equal_compute")]
    found |= {"contrasts": {"as_published": published}, "method_compute": 34000, "baselines": rows, "ablations": []}
    (tmp_path / "star.json").write_text(json.dumps(found), "utf-8")
    made = generate.with_measurements(page)
    assert "below" in made
    assert made.count("As published: contradicted. 5 seeds, 800 test problems") == 1
    assert "Older" not in made
    assert "| greedy, at equal compute | 0.400 | +0.100 [+0.050, +0.150] | 1,200 |" in made


# --- words ---

BRITISH = r"behaviour|optimis|summaris|criticis|recognis|normalis|generalis|judgement|learnt|neighbour|colour|labelled"
DIALECT = r"is told|to be had|came about|so many|whatever|walk(?:s|ed)? back|mends?|under way"


@pytest.mark.parametrize(
    "page", sorted(WRITTEN | {p: t for p, t in GENERATED.items() if p.startswith("docs/reference")})
)
def test_pages_are_in_plain_american_english(page: str) -> None:
    """British spellings and phrases that a reader of the field would stumble over; names in code are not looked at."""
    prose = re.sub(r"`[^`]*`", "", re.sub(r"^(`{3,}).*?^\1", "", PAGES[page], flags=re.MULTILINE | re.DOTALL))
    assert re.findall(rf"\b(?:{BRITISH}|{DIALECT})\w*", prose) == []


# --- links ---


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page: str) -> None:
    prose = re.sub(r"^(`{3,}).*?^\1", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", prose):
        if "://" not in target:
            place = (ROOT / page).parent / target
            assert place.exists() or place.resolve().relative_to(ROOT).as_posix() in GENERATED | PICTURES, target


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in WRITTEN:
        assert ROOT / page in PAGES_AT_ROOT or page.removeprefix("docs/") in navigation


# --- commands and code ---


@pytest.mark.parametrize("page", sorted(page for page in PAGES if commands(page)))
def test_commands_are_real(page: str, in_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Each `selftaught` command is parsed as a whole: arguments, options, types and choices."""
    folder = in_folder(page)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for words in commands(page):
        if words[0] == "make":
            named = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            assert set(named) <= set(targets), words
        if words[0] == "selftaught":
            if {"-h", "--help", "--version"} & set(words) or len(words) == 1:
                assert main(words[1:]) == 0, (words, capsys.readouterr().err)
            else:
                call_of(words[1:])
    assert folder.is_dir()


def test_a_command_that_does_not_exist_would_be_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "star", "--rationalisation", "--help"]) == 2
    assert "--rationalization" in capsys.readouterr().err
    assert main(["run", "star", "--rounds", "many", "--help"]) == 2
    with pytest.raises(BadInput, match="unexpected argument 'tiny'"):
        call_of(["eval", "tiny", "--task", "tiny:level=3"])
    with pytest.raises(BadInput, match="required: --task"):
        call_of(["run", "star"])


@pytest.mark.parametrize("page", sorted(page for page in PAGES if any(b.language == "python" for b in blocks(page))))
def test_python_compiles_and_names_what_exists(page: str) -> None:
    files = {Path(b.title).stem for b in blocks(page) if b.title}
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(compile(block.code, page, "exec", ast.PyCF_ONLY_AST)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "st":
                assert node.attr in st.__all__
            if isinstance(node, ast.ImportFrom) and node.module and node.module not in files:
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module}.{name.name}"


STYLE = ("--spend DOLLARS: most to spend, at these prices",)
"""Examples of house style in CONTRIBUTING."""
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def flags(*texts: str) -> set[str]:
    return {flag for text in texts for flag in FLAG.findall(text)}


@pytest.mark.parametrize("page", sorted(WRITTEN))
def test_options_named_in_prose_exist(page: str) -> None:
    """Each `--option` is one of a command or a method, or of a benchmark; those of pip and make are not looked at."""
    methods_options = {f"--{o.name.replace('_', '-')}" for m in methods().values() for o in m.options}
    ours = flags(GENERATED["docs/reference/commands.md"]) | methods_options
    ours |= {flag.replace("--", "--no-", 1) for flag in methods_options}
    bench = flags("--help", *(file.read_text("utf-8") for file in (ROOT / "bench").rglob("*.py")))
    for span in spans(page):
        if span.split()[0] not in ("make", "pip") and span not in STYLE:
            known = bench if span.startswith("python -m bench.") else ours | bench
            assert flags(span) <= known, span


def members(folder: Path) -> dict[str, Any]:
    """What the documentation calls `run`, `ask`, `task` and so on."""
    task = sums()
    with st.Run(
        folder / "run", model=Policy("scripted", folder), task=task, engine=ScriptedEngine(lambda *_: "Answer: 1"),
        console=Console(quiet=True),
    ) as run:  # fmt: skip
        (attempt,) = run.attempt(run.base, task.train[:1])
        effects = AskEffects(*[lambda *_: None] * 4)  # pyright: ignore
        ask = Ask(effects, run.base, task.train[0], Sampling(), "solver", task)
        return {"run": run, "ask": ask, "task": task, "problem": task.train[0], "attempt": attempt, "st": st}


def test_members_named_in_the_docs_exist(tmp_path: Path) -> None:
    """Each `run.x`, `ask.x`, `task.x`, `problem.x`, `attempt.x` and `st.x`, in code blocks and in prose."""
    owners = members(tmp_path)
    used = re.compile(rf"(?<![\w./\"-])({'|'.join(owners)})\.([a-z_]+)(?![\w/])")
    found = 0
    for page in WRITTEN:
        for text in (*spans(page), *(block.code for block in blocks(page) if block.language == "python")):
            for owner, name in used.findall(text):
                assert hasattr(owners[owner], name), f"{page}: {owner}.{name}"
                found += 1
    assert found > 60


def names_in(*trees: ast.AST) -> set[str]:
    """Names that code uses or defines, and the words that stand in it as strings: keys, choices and fields."""
    found = set()
    for node in itertools.chain.from_iterable(map(ast.walk, trees)):
        here = (getattr(node, key, None) for key in ("id", "attr", "arg", "name", "value", "module"))
        found |= {word for text in here if isinstance(text, str) for word in text.split(".")}
    return found


@functools.cache
def package_names() -> frozenset[str]:
    trees = (ast.parse(file.read_text("utf-8")) for file in (ROOT / "src").rglob("*.py"))
    bench = {"bench", *(file.stem for file in (ROOT / "bench").rglob("*.py"))}
    return frozenset(names_in(*trees) | bench | {"st", "my_function", "my_solver"})


@pytest.mark.parametrize("page", sorted(WRITTEN))
def test_code_in_prose_uses_names_that_exist(page: str) -> None:
    """Inline code that is a Python call, lookup or compound name: each name in it, keyword arguments included."""
    known = package_names() | names_in(*(ast.parse(b.code) for b in blocks(page) if b.language == "python"))
    for span in spans(page):
        if not re.search(r"\w\(|_|\.[a-z_]+$", span) or re.search(r"\.(py|json|jsonl|html|sqlite|lock|toml)$", span):
            continue
        try:
            tree = ast.parse(span.replace("...", "st"), mode="eval")
        except SyntaxError:  # a command, a file, text
            continue
        named = {getattr(node, key, None) for node in ast.walk(tree) for key in ("id", "attr", "arg")} - {None}
        assert named <= known, f"{sorted(named - known)} in {span!r}"


def test_the_python_reference_names_what_exists() -> None:
    """Each `::: selftaught.x` of mkdocstrings is a module, or a name in one."""
    named = [name for text in WRITTEN.values() for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]
    assert len(named) > 50
    for name in named:
        assert pkgutil.resolve_name(name), name


def test_excerpts_are_what_the_source_says() -> None:
    """A block titled `src/... (what)` shows lines of that file."""
    shown = [block for page in WRITTEN for block in blocks(page) if block.title.startswith("src/")]
    assert shown
    for block in shown:
        source = (ROOT / block.title.partition(" ")[0]).read_text("utf-8")
        for line in filter(None, map(str.strip, block.code.splitlines())):
            assert line in source, f"{block.title}: {line}"


# --- the tutorials' own files ---


def test_the_data_tutorial_makes_tasks_that_load(in_folder: Callable[[str], Path]) -> None:
    page = "docs/tutorials/own-data.md"
    in_folder(page)
    loaded = set()
    for words in commands(page):
        given = dict(itertools.pairwise(words))
        if words[0] != "selftaught":
            continue
        sizes: dict[str, Any] = {split: int(given.get(f"--{split}", 0)) for split in ("train", "dev", "test")}
        with st.load_task(given["--task"], verifier=given.get("--verifier"), **sizes) as task:
            assert {split: len(task.split(split)) for split in sizes} == sizes
            loaded.add(given["--task"])
    assert loaded == {"times.jsonl", "multiples.jsonl", "squares.py:squares"}


def test_the_verifier_of_the_data_tutorial_judges(in_folder: Callable[[str], Path]) -> None:
    in_folder("docs/tutorials/own-data.md")
    with st.load_task("multiples.jsonl", verifier="judges.py:divides", train=20, dev=20, test=20) as task:
        problem = task.train[0]
        low, divisor = problem.meta["low"], problem.reference
        multiple = -(-low // divisor) * divisor
        assert task.verify(problem, f"Easy. Answer: {multiple}").verdict is Verdict.RIGHT
        assert task.verify(problem, f"Answer: {multiple + 1}").verdict is Verdict.WRONG
        assert task.verify(problem, f"Answer: {multiple + 100 * divisor * 10}").verdict is Verdict.WRONG
        assert task.verify(problem, "I cannot.").verdict is Verdict.UNKNOWN


def test_the_examples_of_new_problems_learners_and_weights_for_one_answer_run(
    in_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def script(policy: Policy, request: Request) -> str:
        text = request.prompt[-1].content
        a, b = map(int, re.findall(r"(\d+) \+ (\d+)", text)[0])
        return f"What is {a + 1} + {b + 2}?" if text.startswith("Write") else f"Answer: {a + b}"

    folder = in_folder("docs/how-to/new-problems.md")
    assert capsys.readouterr().out == ("['What is 23 times 2?'] ['a test problem in other words']\n")
    for page in ("docs/how-to/learners.md", "docs/how-to/held-out.md"):
        in_folder(page)
    with make_run(folder, script=script) as run:
        find("invent.py:inventions")(run, run.base, run.task, samples=2)
        assert run.history[0]["metrics"]["new problems"]["kept"] > 6
    with make_run(folder / "two", script=script) as run:
        find("two_learners.py:two_learners")(run, run.base, run.task, samples=2)
        assert set(run.history[-2]["learners"]) == {"a", "b", "ensemble"}
        (adapted, *_) = run.attempt(run.base, run.task.train[:1], solver=find("adapt.py:adapt"))
        assert adapted.policy != run.base.version
    with (
        st.load_task("chain_sum", train=2, dev=2, test=2, shown="visible.py:ends_well") as task,
        make_run(folder / "shown", task=task, script=lambda policy, request: f"Answer: {request.seed % 97}") as run,
    ):
        tried = run.attempt(run.base, task.train, solver=find("visible.py:until_tests_pass"))
        assert {int(one.answer or 1) % 2 for one in tried} == {0}


def test_the_game_of_the_page_of_environments_is_played(
    in_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    page = "docs/how-to/environments.md"
    folder = in_folder(page)
    said = list(range(1, 9))

    def halving(policy: Policy, request: Request) -> str:
        del policy
        left = said
        for guess, heard in zip(request.prompt[1::2], request.prompt[2::2], strict=True):
            number = int(guess.content)
            left = [n for n in left if (n > number) is (heard.content == "Too low.") and n != number]
        return str(left[len(left) // 2])

    with make_run(folder, task=st.load_task("guess.py:make_game", train=4, dev=4, test=4), script=halving) as run:
        for solver in (None, find("second_thought.py:second_thought")):
            assert all(attempt.right for attempt in run.attempt(run.base, run.task.train, solver=solver))
    (code,) = (block.code for block in blocks(page) if "demo_of_pieces" in block.code)
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out.endswith("1912\n\nAnswer: 1912 ((14, 18),)\n".replace("\n\n", "\n"))


def test_the_judges_of_the_page_of_judges_judge(
    in_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    in_folder("docs/how-to/judges.md")
    words = ["eval", "--model", "underfit", "--task", "underfit:family=chain,level=1"]
    words += ["--test", "8", "--quiet", "--json"]
    for name in ("agrees", "agrees_of_five", "rubric_once"):
        assert main([*words, "--judge", f"mine.py:{name}"]) == 0
        found = json.loads(capsys.readouterr().out)["judge"]
        assert 0 <= found["mean_score"] <= 1
        assert ("agreement" in found) is (name == "rubric_once")


def test_the_method_of_the_tutorial_conforms(in_folder: Callable[[str], Path]) -> None:
    page = "docs/tutorials/own-method.md"
    in_folder(page)
    (code,) = (block.code for block in blocks(page) if "conformance" in block.code)
    exec(compile(code, page, "exec"))


SUMS = [make_problem(f"What is {i} + {i + 1}?", str(2 * i + 1)) for i in range(40)]


def sums() -> Task:
    return Task("sums", SUMS[:20], SUMS[20:30], SUMS[30:], verifier=Exact(), kind=Kind.NUMBER)


def total(prompt: Prompt) -> int:
    return sum(int(number) for number in re.findall(r"\d+", prompt[-1].content))


def test_the_recipe_of_the_method_tutorial_learns_the_shortest_right_answers(
    in_folder: Callable[[str], Path],
) -> None:
    folder = in_folder("docs/tutorials/own-method.md")
    learned: list[Any] = []

    def script(policy: Policy, request: Request) -> str:
        del policy
        return f"{'well, ' * (request.seed % 5)}Answer: {total(request.prompt) + (request.seed % 3 == 0)}"

    def learner(base: Policy, objective: Any, records: Any, *rest: Any, **more: Any) -> Policy:
        learned.append(list(records))
        return scripted_learner(base, objective, records, *rest, **more)

    base, engine, quiet = Policy("scripted", folder), ScriptedEngine(script), Console(quiet=True)
    with st.Run(folder / "run", model=base, task=sums(), engine=engine, learner=learner, console=quiet) as run:
        st.find_method("shortest.py:shortest")(run, run.base, run.task, rounds=2, samples=8)
        sampled = [
            payload["text"] for _, _, payload, _ in run.journal.effects("sample") if payload["policy"] == "scripted"
        ]
    assert len(learned) == 2
    demos = learned[0]
    assert len({demo.prompt for demo in demos}) == len(demos) > 0
    for demo in demos:
        right = f"Answer: {total(demo.prompt)}"
        others = [text for text in sampled if text.endswith(right)]
        assert demo.target.endswith(right)
        assert len(demo.target) == min(map(len, others))


def test_the_recipe_of_the_balance_page_draws_its_probe_once(in_folder: Callable[[str], Path]) -> None:
    folder = in_folder("docs/systems/b-star.md")

    def script(policy: Policy, request: Request) -> str:
        """The hotter the more different answers, and the more of them wrong."""
        del policy
        luck = request.seed % 1000 / 1000
        wrong = luck > 1.3 - request.sampling.temperature
        return f"{request.seed % round(1 + 10 * request.sampling.temperature)}: Answer: {total(request.prompt) + wrong}"

    base, engine, quiet = Policy("scripted", folder), ScriptedEngine(script), Console(quiet=True)
    with st.Run(folder / "run", model=base, task=sums(), engine=engine, learner=scripted_learner, console=quiet) as run:
        st.find_method("balanced.py:balanced")(run, run.base, run.task, rounds=1)
        drawn = [p for _, _, p, _ in run.journal.effects("sample") if p["sampling"]["temperature"]]
        made = next((run.folder / "policies").glob("*/records.jsonl")).read_text("utf-8").splitlines()
    assert len(drawn) == 4 * 20 * 16
    assert len(made) >= 4 * 20


def test_the_presets_of_the_method_tutorial_draw_as_many_samples_as_they_say(in_folder: Callable[[str], Path]) -> None:
    folder = in_folder("docs/tutorials/own-method.md")
    drawn = {}
    for name in ("vote-of-five", "plurality", "voting"):
        engine = ScriptedEngine(lambda policy, request: f"Answer: {total(request.prompt)}")
        base, quiet = Policy("scripted", folder), Console(quiet=True)
        with st.Run(folder / name, model=base, task=sums(), engine=engine, console=quiet) as run:
            solver = st.find_method(f"voting.py:{name}")
            (attempt,) = run.attempt(run.base, run.task.train[:1], solver=solver)
        drawn[name] = engine.calls
        assert attempt.answer == str(total(attempt.problem.prompt))
    assert drawn == {"vote-of-five": 5, "plurality": 40, "voting": 40}


def test_the_reward_model_of_the_training_page_scores_answers_and_their_steps(
    in_folder: Callable[[str], Path],
) -> None:
    with make_run(in_folder("docs/how-to/training.md")) as run:
        find("ranked.py:ranked")(run, run.base, run.task, samples=2)
        (row,) = run.history
        read = [len(payload["values"]) for _, _, payload, _ in run.journal.effects("score")]
        judged = Counter(payload["role"] for _, _, payload, _ in run.journal.effects("sample"))
    assert {name: list(values) for name, values in row["metrics"].items()} == {
        "judge": ["AUROC"],
        "worst step": ["AUROC"],
    }
    assert set(read) == {1, 2}  # the end, and both steps
    assert judged == {"solve": 2 * (len(run.task.train) + len(run.task.dev))}


def test_the_believer_of_the_method_tutorial_returns_what_it_finds_most_probable(
    in_folder: Callable[[str], Path],
) -> None:
    folder, left = in_folder("docs/tutorials/own-method.md"), iter([7, 8, 9, 7])

    def likelihood(policy: Policy, prompt: Prompt, text: str) -> list[float]:
        del policy
        return [-0.1 if (text == "yes") is (prompt[-2].content == "Answer: 8") else -2.5]

    engine = ScriptedEngine(lambda *_: f"Answer: {next(left)}", likelihood=likelihood)
    quiet = Console(quiet=True)
    with st.Run(folder / "run", model=Policy("scripted", folder), task=sums(), engine=engine, console=quiet) as run:
        (attempt,) = run.attempt(run.base, run.task.train[:1], solver=st.find_method("believe.py:believe"))
    assert (attempt.answer, engine.calls) == ("8", 4)


@pytest.mark.parametrize(("answers", "asked", "wins"), [([5, 5, 9], 2, 5), ([5, 9, 9], 3, 9), ([5, 9, 7], 3, 5)])
def test_the_solver_of_the_method_tutorial_breaks_ties(
    in_folder: Callable[[str], Path], answers: list[int], asked: int, wins: int
) -> None:
    folder = in_folder("docs/tutorials/own-method.md")
    left = iter(answers)
    engine = ScriptedEngine(lambda *_: f"Answer: {next(left)}")
    quiet = Console(quiet=True)
    with st.Run(folder / "run", model=Policy("scripted", folder), task=sums(), engine=engine, console=quiet) as run:
        solver = st.find_method("tiebreak.py:tiebreak")
        (attempt,) = run.attempt(run.base, run.task.train[:1], solver=solver)
    assert attempt.answer == str(wins)
    assert engine.calls == asked
