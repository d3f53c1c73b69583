"""Documentation made from code: the table of methods, a page per method, the reference of the command line.

    python scripts/generate.py --readme            # write the table into README.md
    python scripts/generate.py --readme --check    # change nothing; exit 1 where it is stale

mkdocs loads this file as a hook (see mkdocs.yml) and gets the pages from `pages`; none is written to disk.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selftaught.check.results import COLUMNS, result_cells, result_path
from selftaught.cli import main as cli
from selftaught.glossary import GLOSSARY
from selftaught.method import Method, methods
from selftaught.models.resolve import TINY

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "results"
BEGIN, END = "<!-- methods:begin -->", "<!-- methods:end -->"
SHAPES = {
    "recipe": "many problems, new weights",
    "solver": "one problem, test time",
    "study": "a published finding, reproduced",
}
TASK = "chain_sum:min_terms=2,max_terms=2"
COMMANDS_HEAD = """# Commands

Beside the options below, `run`, `solve` and `eval --solver` take those of the method they are given: each method's
page lists them, and so does `selftaught run rest-em --help`.
"""


OPTIONS_HEAD = """# Options of methods

An option has the same name and meaning in every method. Options that are not listed here are symbols of a method's
paper; its page explains them. *Quick run* is the value to try first where the default is larger.
"""


def ordered() -> list[Method]:
    """Every method, by shape and then by name."""
    return sorted(methods().values(), key=lambda m: (list(SHAPES).index(m.shape), m.id))


def paper(reference: str) -> str:
    """An arXiv number or an address as a link."""
    if re.fullmatch(r"\d{4}\.\d{4,5}", reference):
        return f"[{reference}](https://arxiv.org/abs/{reference})"
    return f"[{reference}]({reference})" if reference.startswith("http") else reference


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


def source(method: Method) -> str:
    """Where a method is written, from the root of the repository."""
    return method.path.resolve().relative_to(ROOT).as_posix()


def table(link: Any) -> str:
    """The table of methods, with what checking their claims found; `link(method)` is where a name leads."""
    head = ("method", "shape", "paper", "what it does", *COLUMNS)
    rows = [(f"[{m.id}]({link(m)})", m.shape, paper(m.paper), cell(m.summary), *checked(m)) for m in ordered()]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def checked(method: Method) -> tuple[str, str, str]:
    """What `selftaught check` found on the tiny world, in `COLUMNS`; dashes where there is no result."""
    path = result_path(RESULTS, method.id, "tiny")
    return result_cells(json.loads(path.read_text("utf-8"))) if path.is_file() else ("–", "–", "–")


def with_table(readme: str) -> str:
    """The README with the table of methods between its two marks.

    Raises:
        ValueError: the marks are not there, once each and in order.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"expected one {BEGIN} and after it one {END}")
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{table(source)}\n{END}{rest.partition(END)[2]}"


# --- pages ---


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown of every generated page."""
    made = {f"methods/{m.id}.md": method_page(m) for m in ordered()}
    return {
        "methods/index.md": methods_page(),
        **made,
        "reference/commands.md": commands_page(),
        "reference/options.md": options_page(),
    }


def pictures() -> dict[str, str]:
    """Path below docs/ -> every picture that is drawn from committed measurements."""
    sys.path.insert(0, str(Path(__file__).parent))
    import pictures as draw

    abilities = json.loads((TINY / "abilities.json").read_text("utf-8"))
    return {
        "assets/tiny-levels.svg": draw.levels(abilities),
        "assets/tiny-roles.svg": draw.roles(abilities),
        "assets/tiny-claims.svg": draw.claims(RESULTS),
    }


def methods_page() -> str:
    """The list of methods."""
    kinds = "\n".join(f"- **{shape}**: {what}" for shape, what in SHAPES.items())
    return f"""# Methods

Each method is one function in one file. There are three shapes:

{kinds}

{table(lambda m: f"{m.id}.md")}

`selftaught methods` prints this list, and `selftaught methods --json` the same as data.
"""


def method_page(method: Method) -> str:
    """One method: what its docstring says, its options, how to use it, and its source."""
    words = {"verifier": "a verifier", "reference": "reference answers", "dev": "verdicts on dev"}
    needs = " and ".join(words[n] for n in method.needs)
    facts = f"*{method.shape}: {SHAPES[method.shape]}* · paper {paper(method.paper)} · needs {needs or 'no labels'}"
    code = method.path.read_text("utf-8").rstrip()
    return f"""# {method.id}

{facts}

{about(method)}

{claim_of(method)}## Options

{options_table(method)}

## Use

{usage(method)}

## Source

````python title="{source(method)}"
{code}
````
"""


def about(method: Method) -> str:
    """A method's docstring as Markdown, without its `Args:` section, which becomes the table of options."""
    text = inspect.getdoc(method.function) or ""
    text = re.sub(r"^Args:\n(?:[ \t]+.*\n?|\n)+", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(Source|Differs from the paper|Costs)\b", r"**\1**", text, flags=re.MULTILINE)
    return re.sub(r"(?<![\w/.])\d{4}\.\d{5}(?!\d)", lambda found: paper(found[0]), text).strip()


def claim_of(method: Method) -> str:
    """What the method claims, and how it is checked."""
    if method.claim is None:
        return ""
    names = [b if isinstance(b, str) else b.name for b in method.claim.baselines]
    verdict, effect, over = checked(method)
    found = f"Found: {verdict}, by {effect} over {over}." if verdict != "–" else "Not checked yet."
    say = f"{method.claim.text} Held against: {', '.join(names)}. {found}"
    return f"## Claim\n\n{say}\n\n```sh\nselftaught check {method.id}\n```\n\n"


def options_table(method: Method) -> str:
    """The keyword-only parameters: flag, type, default, meaning."""
    if not method.options:
        return "None."
    rows = [
        f"| `--{o.name.replace('_', '-')}` | {getattr(o.kind, '__name__', o.kind)} | `{o.default}` | {cell(o.help)} |"
        for o in method.options
    ]
    return "\n".join(["| option | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


def usage(method: Method) -> str:
    """How to call it, from the shell and from Python."""
    name, called = method.id, f'st.find_method("{method.id}")'
    shell = {
        "recipe": f"selftaught run {name} --task {TASK}",
        "solver": f'selftaught solve {name} "What is 17 + 25?"\nselftaught eval --solver {name} --task {TASK}',
    }
    python = {
        "recipe": f"{called}(run, run.base, task)\n    print(st.conclude(run).paired)",
        "solver": f"print(run.measure(run.base, solver={called}).accuracy)",
        "study": f"print({called}(run, run.base, task))",
    }
    command = f"```sh\n{shell[method.shape]}\n```\n\n" if method.shape in shell else ""
    return f"""{command}```python
import selftaught as st

task = st.load_task("{TASK}")
with st.Run("runs/mine", model="smollm2-135m", task=task) as run:
    {python[method.shape]}
```"""


def options_page() -> str:
    """The glossary of options, and which methods have each."""
    users: dict[str, list[str]] = {}
    for method in ordered():
        for option in method.options:
            users.setdefault(option.name, []).append(f"[{method.id}](../methods/{method.id}.md)")
    head = ("option", "meaning", "unit", "quick run", "methods")
    rows = [
        (f"`--{name.replace('_', '-')}`", cell(one.meaning), one.unit, str(one.quick or ""), ", ".join(users[name]))
        for name, one in sorted(GLOSSARY.items())
        if name in users
    ]
    return "\n".join(
        [OPTIONS_HEAD, *("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)), ""]
    )


def commands_page() -> str:
    """What `--help` prints for each command."""
    parts = [f"## selftaught {name}\n\n```text\n{said(name)}\n```\n" for name in cli.COMMANDS]
    return "\n".join([COMMANDS_HEAD, *parts])


def said(command: str) -> str:
    """What `selftaught COMMAND --help` prints, 100 columns wide and without colour."""
    out, before = io.StringIO(), dict(os.environ)
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            cli.main([command, "--help"])
    finally:
        os.environ.clear()
        os.environ.update(before)
    return out.getvalue().rstrip()


# --- measurements in written pages ---

MEASURED = re.compile(r"<!-- measured: ([a-z-]+) -->")
"""Where a written page wants what `selftaught check` found for a method."""


def with_measurements(page: str) -> str:
    """A written page with the results of its methods in the places marked for them."""
    return MEASURED.sub(lambda found: measured(found[1]), page)


def measured(name: str) -> str:
    """What checking a method's claim found on the tiny world: a row for each system, and how it came about."""
    path = result_path(RESULTS, name, "tiny")
    if not path.is_file():
        return f"Not checked yet: `selftaught check {name} --ablate` measures it."
    found = json.loads(path.read_text("utf-8"))
    rows = [(f"**{name}**", f"{found['score']:.3f}", "", f"{found['method_tokens']:,}")]
    for one in (*found["baselines"], *found["ablations"]):
        kind = "" if one["in_claim"] else " (not of the claim)" if one in found["baselines"] else " (ablation)"
        rows.append((cell(one["name"]) + kind, f"{one['score']:.3f}", effect(one), f"{one['tokens']:,}"))
    head = ("system", "accuracy", f"{name} minus it, 95 % interval", "tokens")
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
    made = f"{found['verdict'].capitalize()}: {found['seeds']} seeds, {found['problems']} test problems"
    more = [f"{what.replace('_', ' ')} {value:.3f}" for what, value in found.get("extra_metrics", {}).items()]
    said = ["", f"Of {name}, on the test problems: {', '.join(more)}."] if more else []
    return "\n".join([f"{made}, `{found['command']}`. {decided(found)}", "", *lines, *said])


def decided(found: Mapping[str, Any]) -> str:
    """Which baseline decides a verdict, for whom it takes beating all of them, and which is best by its mean."""
    claimed = {one["name"]: one for one in found["baselines"] if one["in_claim"]}
    best = max(claimed, key=lambda name: claimed[name]["score"])  # no claim on the tiny world asks for less
    said = f"The verdict takes every baseline of the claim; {found['against']} decides it."
    return said if found["against"] == best else f"{said} The best by its mean is {best}: {effect(claimed[best])}."


def effect(one: Mapping[str, Any]) -> str:
    """A difference and its interval."""
    low, high = one["ci95"]
    return f"{one['effect']:+.3f} [{low:+.3f}, {high:+.3f}]"


# --- mkdocs ---


def on_config(config: Any) -> Any:
    """Add a line of navigation for each method."""
    for entry in config.nav:
        if "Methods" in entry:
            entry["Methods"] = ["methods/index.md", *({m.id: f"methods/{m.id}.md"} for m in ordered())]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Put measurements into written pages."""
    del page, config, files
    return with_measurements(markdown)


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those of docs/."""
    from mkdocs.structure.files import File  # pyright: ignore[reportMissingImports]

    for path, text in (pages() | pictures()).items():
        files.append(File.generated(config, path, content=text))
    return files


def main() -> int:
    """Write or check the generated part of README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", action="store_true", required=True, help="the table of methods in README.md")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where it is stale")
    check = parser.parse_args().check
    old = README.read_text("utf-8")
    try:
        new = with_table(old)
    except ValueError as error:
        print(f"{README.name}: {error}", file=sys.stderr)
        return 1
    if old == new:
        return 0
    if check:
        print(f"{README.name}: the table of methods is stale; run make format", file=sys.stderr)
        return 1
    README.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
