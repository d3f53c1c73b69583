"""Presets and aliases: declared on one function, found everywhere, and told apart from their host."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import selftaught
from selftaught.cli.main import main
from selftaught.discovery import lookup, names
from selftaught.errors import BadInput
from selftaught.identity import code_hash, identify
from selftaught.method import NEEDS, Claim, Method, Preset, find, methods, recipe, solver, study
from selftaught.records import Attempt, Problem
from selftaught.run.ask import Ask
from selftaught.testing import conformance, make_run

HOST = '''"""A method with a preset and an alias."""

from selftaught import Baseline, Claim, Preset, solver, vote


@solver(
    paper="2203.11171",
    claim=Claim("A vote beats one sample.", baselines=("sample",), options={"samples": 5}),
    presets={
        "vote-of-three": Preset(
            paper="2311.17311",
            options={"samples": 3},
            differs="Vote among three samples. The host takes many.",
            claim=Claim("Three suffice.", ("greedy", Baseline("one", options={"samples": 1})), min_effect=0.1),
        ),
        "vote-hot": Preset(paper="https://example.org/hot", options={"temperature": 1.0}, differs="Sample at 1."),
    },
    also=("plurality", "most-frequent"),
)
async def counted(ask, problem, *, samples: int = 40, temperature: float = 0.7):
    """Sample answers and return one of the most frequent.

    Source: Wang et al., 2203.11171.

    Differs from the paper: nothing is shown first.

    Costs `samples` answers.

    Args:
        samples: answers sampled.
        temperature: of sampling.
    """
    drafts = await ask.sample(problem.prompt, samples, temperature=temperature)
    won = vote(drafts)
    return won.voters[0] if won else drafts[0]
'''


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of methods that joins the package's; what is written into it is found like the rest."""
    package = __import__("selftaught.methods", fromlist=["methods"])
    folder = tmp_path / "methods" / "grown"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""Methods of a test."""\n', "utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "methods")])
    names.cache_clear()
    yield folder
    names.cache_clear()
    for name in [name for name in sys.modules if name.startswith("selftaught.methods.grown")]:
        del sys.modules[name]
    vars(package).pop("grown", None)


def said(capsys: pytest.CaptureFixture[str], words: str, status: int = 0) -> str:
    capsys.readouterr()
    assert main(words.split()) == status
    out, err = capsys.readouterr()
    return err if status else out


def test_a_preset_and_an_alias_are_found_without_another_file_naming_them(
    family: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (family / "counted.py").write_text(HOST, "utf-8")
    host, three = find("counted"), find("vote-of-three")
    assert find("plurality") is find("most_frequent") is host
    assert (three.id, three.preset_of, three.paper, three.family) == ("vote-of-three", "counted", "2311.17311", "grown")
    assert three.summary == "Vote among three samples."
    assert (three.bind({}), host.bind({})["samples"]) == ({"samples": 3, "temperature": 0.7}, 40)
    assert methods()["vote-of-three"] is three
    assert set(names()) - set(methods()) >= {"plurality", "most-frequent"}

    listed = {m["id"]: m for m in json.loads(said(capsys, "methods --family grown --json"))}
    assert {name: (m["preset_of"], m["also"]) for name, m in listed.items()} == {
        "counted": (None, ["plurality", "most-frequent"]),
        "vote-hot": ("counted", []),
        "vote-of-three": ("counted", []),
    }
    text = " ".join(said(capsys, "methods --family grown").split())
    assert "Preset of counted:" in text
    assert "Also plurality," in text

    assert "answers sampled (default 3)" in " ".join(said(capsys, "solve vote-of-three --help").split())
    assert "answers sampled (default 40)" in " ".join(said(capsys, "eval --solver plurality --help").split())
    assert "did you mean 'vote-of-three'" in said(capsys, "solve vote-of-thre 3?", 2)
    assert "did you mean 'plurality'" in said(capsys, "solve pluralty 3?", 2)
    assert "vote-hot: the method declares no claim" in said(capsys, "check vote-hot", 2)
    assert "solver, not a recipe" in said(capsys, "run plurality --task x", 2)

    generate = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "generate.py"))
    pages = generate["pages"]()
    page = pages["methods/vote-of-three.md"]
    assert "preset of [counted](counted.md)" in page
    assert "Preset of `counted`: `samples=3` (40 there)." in page
    assert "The host takes many." in page
    assert "| `--samples` | int | `3` | answers sampled. |" in page
    assert "selftaught check vote-of-three" in page
    assert "also found as `plurality`, `most-frequent`" in pages["methods/counted.md"]
    assert not any("plurality" in path for path in pages)
    assert "| [vote-of-three](../methods/vote-of-three.md) | grown |" in pages["reference/methods.md"]
    assert "grown) 3" in generate["overview"]()

    conformance(three)


def test_new_methods_get_no_name_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "src" / "selftaught" / "methods").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    for name, host in (("rft", "rft"), ("id-sampling", "iterative-deepening")):
        message = said(capsys, f"new recipe {name} --paper 2312.06585 --family loops", 2)
        assert f"{host} is found by this name already; choose another name" in message


MODULES = """
import sys
from selftaught.method import find
method = find({name!r})
loaded = [n for n, m in sys.modules.items() if n.startswith("selftaught.methods.") and not hasattr(m, "__path__")]
print(method.id, *loaded)
"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("rest-em", "rest-em selftaught.methods.improve.self_training.rest_em"),
        ("rft", "rft selftaught.methods.improve.self_training.rest_em"),
        ("id-sampling", "iterative-deepening selftaught.methods.solve.budget.iterative_deepening"),
    ],
)
def test_finding_an_id_a_preset_or_an_alias_imports_one_file(name: str, found: str) -> None:
    code = MODULES.format(name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found


def test_an_id_that_is_quoted_elsewhere_by_accident_is_found_where_it_is_declared(family: Path) -> None:
    (family / "counted.py").write_text(HOST, "utf-8")
    (family / "aaa.py").write_text('TABLE = {"vote-of-three": 1, "plurality": 2}\nalso = ("vote-hot",)\n', "utf-8")
    (family / "computed.py").write_text(
        HOST.replace("counted", "computed")
        .replace('"vote-of-three"', '"-".join(("spelt", "out"))')
        .replace("vote-hot", "elect-hot")
        .replace('("plurality", "most-frequent")', "()"),
        "utf-8",
    )
    assert find("vote-of-three").preset_of == find("vote-hot").preset_of == find("plurality").id == "counted"
    assert find("spelt-out").preset_of == "computed"  # no text holds it
    assert lookup("no-such-thing") is None
    assert lookup("table") is None


def test_two_files_that_declare_one_id_are_refused(family: Path) -> None:
    (family / "counted.py").write_text(HOST, "utf-8")
    (family / "other.py").write_text(HOST.replace("counted", "other").replace("vote-hot", "other-hot"), "utf-8")
    (family / "other.py").write_text(re.sub("also=.*", "", (family / "other.py").read_text("utf-8")), "utf-8")
    for call in (lambda: find("vote-of-three"), methods):
        with pytest.raises(BadInput, match=r"other\.py:6: 'vote-of-three' is declared in .*counted\.py:6 too; choose"):
            call()


# --- a run of a preset ---


def test_a_run_records_a_preset_under_its_own_id_with_its_options(tmp_path: Path) -> None:
    rft = find("rft")
    with make_run(tmp_path) as run:
        rft(run, run.base, run.task, samples=8)
        config = run.journal.meta_object("config")
    assert (config["method"], config["option.rounds"], config["option.samples"]) == ("rft", 1, 8)
    assert (config["option.top_k"], config["option.per_problem"]) == (0, 10)
    assert config["code"] == code_hash(find("rest-em").function)
    with make_run(tmp_path) as run, pytest.raises(BadInput, match="method is 'rft' there, 'rest-em' here"):
        find("rest-em")(run, run.base, run.task, rounds=1, samples=8, top_k=0)


@recipe(needs=("verifier",))
def calling(run: Any, base: Any, task: Any) -> Any:
    """Call a preset."""
    return find("rft")(run, base, task, samples=8)


def test_a_preset_within_another_method_is_labelled_by_its_id(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        calling(run, run.base, run.task)
        config = run.journal.meta_object("config")
    assert (config["calling/rft.option.rounds"], config["calling/rft.option.samples"]) == (1, 8)


# --- what a preset is ---

WITHIN = Preset(
    paper="2203.14465", options={"turns": 3, "how": "short"}, differs="Answer thrice.", needs=("reference",)
)


@solver(needs=("verifier",), presets={"within": WITHIN}, also=("another-name",))
async def outer(
    ask: Ask, problem: Problem, *, turns: int = 2, how: Literal["short", "long"] | None = None, hint: str
) -> Attempt:
    """Answer twice."""
    del turns, how
    return await ask(f"{problem.question}{hint}")


def test_a_preset_is_its_host_with_other_defaults_that_can_be_changed() -> None:
    within = outer.presets_by_id["within"]
    assert isinstance(within, Method)
    assert within.function is outer.function
    assert (within.shape, within.needs, outer.needs) == ("solver", ("reference",), ("verifier",))
    assert [option.default for option in within.options[:2]] == [3, "short"]
    assert within.bind({"hint": ""}) == {"turns": 3, "how": "short", "hint": ""}
    assert within.bind({"hint": "", "turns": 5})["turns"] == 5
    assert repr(within.with_options(turns=2, how="short")) == "<solver within(turns=2)>"  # relative to the preset
    assert (within.described, outer.described) == (
        "Preset of outer: Answer thrice.",
        "Answer twice. Also another-name.",
    )
    assert within.__doc__ == within.doc
    assert within.doc.startswith(
        "Answer thrice.\n\nPreset of `outer`: `turns=3` (2 there), `how='short'` (None there)."
    )


@pytest.mark.parametrize(("value", "kind"), [("five", "int"), (2.5, "int"), (True, "int"), (None, "int")])
def test_a_value_of_another_type_is_refused_where_the_preset_is_declared(value: Any, kind: str) -> None:
    wrong = Preset(paper=WITHIN.paper, options={"turns": value}, differs=WITHIN.differs)
    with pytest.raises(
        BadInput, match=f"preset 'within' of outer: turns must be of type {kind}, got {value!r}"
    ) as error:
        solver(presets={"within": wrong})(outer.function)
    assert re.match(r".*test_presets\.py:\d+: ", str(error.value))


def test_a_preset_is_told_apart_from_its_host_and_from_what_it_was() -> None:
    host, within = identify(outer), identify(outer.presets_by_id["within"])
    assert (host.name, within.name, within.label) == ("outer", "within", "within")
    assert host.key != within.key
    assert identify(outer.with_options(turns=3, how="short")).key not in (host.key, within.key)
    assert not within.ambiguity
    changed = Preset(paper=WITHIN.paper, options={"turns": 4}, differs=WITHIN.differs)
    other = solver(presets={"within": changed})(outer.function).presets_by_id["within"]
    assert (identify(other).label, identify(other).key == within.key) == ("within", False)
    assert code_hash(other.function) == code_hash(outer.function)


# --- what is refused ---


def preset(**changes: Any) -> Preset:
    return Preset(**{"paper": "2203.14465", "options": {"turns": 3}, "differs": "Answer thrice.", **changes})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"presets": {"p": preset(options={"trns": 1})}}, "preset 'p' of outer sets 'trns', which is no option of its"
            " host; did you mean 'turns'?"),
        ({"presets": {"p": preset(options={"how": "shrt"})}}, "preset 'p' of outer: how must be one of 'short', 'long',"
            " None, got 'shrt'; did you mean 'short'?"),
        ({"presets": {"p": preset(options={})}}, "preset 'p' of outer sets no option that differs from the host's;"),
        ({"presets": {"p": preset(options={"turns": 2})}}, "preset 'p' of outer sets no option that differs"),
        ({"presets": {"p": preset(paper="22.1")}}, "preset 'p' of outer has paper='22.1'; write an arXiv number"),
        ({"presets": {"p": preset(differs=" ")}}, "preset 'p' of outer does not say what differs; add differs="),
        ({"presets": {"p": preset(needs=("verifyer",))}}, "preset 'p' of outer: unknown need 'verifyer'; did you mean"),
        ({"presets": {"p": {"turns": 3}}}, "preset 'p' is no Preset; write Preset("),
        ({"presets": {"outer": preset()}}, "preset 'outer' has the name of its host; choose another id"),
        ({"presets": {"A_b": preset()}}, "preset 'A_b' of outer is no id; use lowercase letters and digits"),
        ({"presets": {"rest-em": preset()}}, "preset 'rest-em' of outer is the id of another method; choose another"),
        ({"presets": {"p": preset()}, "also": ("p",)}, "outer declares 'p' twice; choose another id"),
        ({"also": ("a", "a")}, "outer declares 'a' twice; choose another id"),
        ({"also": ("star",)}, "alias 'star' of outer is the id of another method; choose another id"),
        ({"also": ("x.y",)}, "alias 'x.y' of outer is no id"),
        ({"also": ("outer",)}, "alias 'outer' has the name of its host"),
        ({"also": "abc"}, "also must be a tuple, got 'abc'; write also=(\"abc\",)"),
    ],
)  # fmt: skip
def test_a_preset_that_does_not_fit_is_one_line_with_the_place_of_its_host(given: Any, message: str) -> None:
    line = outer.function.__code__.co_firstlineno
    with pytest.raises(BadInput) as refused:
        solver(**given)(outer.function)
    assert str(refused.value).startswith(f"{__file__}:{line}: {message}")
    assert "\n" not in str(refused.value)


def test_needs_are_words_that_exist() -> None:
    assert solver(needs=tuple(n for n in NEEDS if n != "dev"))(outer.function).needs[-1] == "env"
    with pytest.raises(BadInput, match=r"outer: unknown need 'verifer'; did you mean 'verifier'"):
        solver(needs=("verifer",))(outer.function)  # pyright: ignore
    with pytest.raises(BadInput, match=re.escape("needs must be a tuple, got 'verifier'; write needs=(\"verifier\",)")):
        study(needs="verifier")(outer.function)  # pyright: ignore


# --- in a user's file ---


def test_the_presets_of_a_user_s_file_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own_votes.py"
    file.write_text(HOST, "utf-8")
    assert find(f"{file}:vote-of-three").bind({})["samples"] == find(f"{file}:vote_of_three").bind({})["samples"] == 3
    assert find(f"{file}:plurality").id == find(f"{file}:counted").id == "counted"
    assert "(default 3)" in said(capsys, f"solve {file}:vote-of-three --help")
    assert "no function 'vote_of_thre' in the method's file; did you mean 'vote-of-three'" in said(
        capsys, f"solve {file}:vote-of-thre 3?", 2
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('{"samples": 3}', '{"sampels": 3}', "preset 'vote-of-three' of counted sets 'sampels', which is no option"),
        ("vote-hot", "counted", "preset 'counted' has the name of its host; choose another id"),
        ("vote-hot", "star", "preset 'star' of counted is the id of another method; choose another id, or remove"),
        ("2311.17311", "none", "preset 'vote-of-three' of counted has paper='none'; write an arXiv number"),
    ],
)
def test_a_broken_preset_of_a_user_s_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    file = tmp_path / f"own_{abs(hash(new))}.py"
    file.write_text(HOST.replace(old, new), "utf-8")
    told = said(capsys, f"solve {file}:counted 3?", 2)
    assert told.startswith(f"selftaught: {file}:6: {message}")
    assert told.count("\n") == 1


def test_two_functions_of_a_file_cannot_declare_one_preset(tmp_path: Path) -> None:
    file = tmp_path / "own_twice.py"
    file.write_text(HOST + HOST.partition("\n\n\n")[2].replace("async def counted", "async def counted_again"), "utf-8")
    with pytest.raises(BadInput, match=r"own_twice\.py:\d+: 'plurality' is declared in .*own_twice\.py:6 too"):
        find(f"{file}:vote-of-three")


def test_a_broken_preset_of_the_package_is_one_line(family: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (family / "counted.py").write_text(HOST.replace('{"samples": 3}', '{"sampels": 3}'), "utf-8")
    message = f"selftaught: {family / 'counted.py'}:6: preset 'vote-of-three' of counted sets 'sampels'"
    for words in ("methods", "solve vote-hot 3?", "solve counted 3?"):
        assert said(capsys, words, 2).startswith(message)


def test_a_claim_of_a_preset_may_compare_with_another_preset() -> None:
    claim = Claim("x", baselines=("greedy",))
    made = solver(presets={"p": preset(claim=claim)})(outer.function).presets_by_id["p"]
    assert made.claim is claim
    assert selftaught.Preset is Preset
