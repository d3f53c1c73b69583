"""Generate documentation from code: the tables of methods, a page per method, the command-line reference.

    python scripts/generate.py --readme            # write the table into README.md
    python scripts/generate.py --readme --check    # change nothing; exit 1 if it is out of date

mkdocs loads this file as a hook (see mkdocs.yml) and gets the pages from `pages`; they are not written to disk.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from selftaught.check.reading import (
    COLUMNS,
    OLDER,
    contrast_text,
    contrasts_of,
    effect_text,
    headline,
    is_older,
    needed_text,
    q_values,
    result_cells,
    sure_text,
)
from selftaught.check.results import result_path
from selftaught.cli import main as cli
from selftaught.glossary import GLOSSARY
from selftaught.method import NEEDS, Method, methods
from selftaught.models import resolve
from selftaught.run.judgments import takes_groups
from selftaught.worlds import synthetic_worlds
from selftaught.worlds.kit.calibration.freeze import FILE as CALIBRATION
from selftaught.worlds.world import DEFAULT_WORLD

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "results"
BEGIN, END = "<!-- methods:begin -->", "<!-- methods:end -->"
SHAPES = {
    "recipe": "trains new weights on many problems",
    "solver": "answers one problem at test time",
    "judge": "scores answers",
    "study": "reproduces a published finding",
}
PICKS = (
    "rest-em",
    "star",
    "b-star",
    "self",
    "critique-in-the-loop",
    "mcts-dpo",
    "score",
    "self-consistency",
    "self-refine",
    "iterative-deepening",
)
"""The methods that the README shows."""
TASK = "chain_sum:min_terms=2,max_terms=2"
COMMANDS_HEAD = """# Commands

In addition to the options below, `run`, `solve` and `eval --solver` take the options of the method they run. Each
method's page lists them, and so does `selftaught run rest-em --help`.
"""


OPTIONS_HEAD = """# Options of methods

An option has the same name and meaning in every method. Options that are not listed here are symbols of a method's
paper; its page explains them. *Quick run* is the value to try first where the default is larger.
"""


def ordered() -> list[Method]:
    """Return all methods, sorted by shape and name."""
    return sorted(methods().values(), key=lambda m: (list(SHAPES).index(m.shape), m.id))


def paper(reference: str) -> str:
    """Format an arXiv number or a URL as a link."""
    if re.fullmatch(r"\d{4}\.\d{4,5}", reference):
        return f"[{reference}](https://arxiv.org/abs/{reference})"
    return f"[{reference}]({reference})" if reference.startswith("http") else reference


def cell(text: str) -> str:
    """Escape text for a table cell."""
    return text.replace("|", "\\|")


def source(method: Method) -> str:
    """Path of a method's source file, relative to the repository root if it is in it."""
    path = method.path.resolve()
    return (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()


def table(found: Sequence[Method], link: Callable[[Method], str]) -> str:
    """Format a table of methods with the results of their claims; `link(method)` is the link target of a name."""
    head = ("method", "family", "paper", "what it does", *COLUMNS)
    rows = [(f"[{m.id}]({link(m)})", m.family, paper(m.paper), cell(m.described), *checked(m)) for m in found]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def families() -> dict[Path, list[Method]]:
    """Group the methods by family; keys are the families' folders, relative to the repository root."""
    found: dict[Path, list[Method]] = {}
    for method in ordered():
        found.setdefault(Path(source(method)).parent, []).append(method)
    return found


VERDICTS = """Each claim is tested twice. *As published*: the baselines get as many samples, rounds or steps as in the
paper. *At equal compute*: each baseline may read, sample and train as much as the method does (a trained token counts
as three). The figure is the gain over the baseline that decides, with its 95 % interval.

- *reproduced*: better than every baseline of the claim, by more than chance explains (all intervals are on the claimed
  side)
- *contradicted*: worse than one of them
- *no effect of the smallest size of interest*: a gain worth having is ruled out
- *inconclusive*: the interval allows both
- *not testable here*: a condition fails without which the claim says nothing, such as that the trained critic is better
  than the untrained one; or a baseline cannot be given the method's compute

*How sure*: what a result rests on, and its q-value: of the claims reproduced with a q of at most 0.05, one in twenty is
expected to be a coincidence."""
"""What the words of the table mean."""


def overview() -> str:
    """Format what the README says of the methods: claims and results of some, and how many each family has."""
    picks = [method for found in families().values() for method in found if method.id in PICKS]
    if len(picks) != len(PICKS):
        raise ValueError(f"PICKS has names of no method: {set(PICKS) - {m.id for m in picks}}")
    counts = ", ".join(f"[{folder.name}]({folder.as_posix()}) {len(found)}" for folder, found in families().items())
    head = ("method", "paper", "what was claimed", *COLUMNS)
    rows = [(f"[{m.id}]({source(m)})", paper(m.paper), cell(said_of(m)), *checked(m)) for m in picks]
    shown = "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))
    return f"""{shown}

{VERDICTS}{older_note(picks)}

These are {len(picks)} of {len(methods())} methods, which `selftaught methods` lists. By family: {counts}."""


def said_of(method: Method) -> str:
    """What was claimed of a method."""
    return method.claim.text if method.claim else ""


def checked(method: Method) -> tuple[str, ...]:
    """Results of `selftaught check` on the default world, in the order of `COLUMNS`; dashes if there are none."""
    found = result_of(method.id)
    if found is None:
        return ("–",) * len(COLUMNS)
    return tuple(map(cell, result_cells(found, all_q().get(method.id))))


@cache
def all_q() -> dict[str, float]:
    """The q-value of each result on the default world."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    return q_values([one for one in found if one.get("world", DEFAULT_WORLD) == DEFAULT_WORLD])


def result_of(name: str) -> dict[str, Any] | None:
    """The result of a method on the default world, if there is one."""
    path = result_path(RESULTS, name)
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def older_note(found: Sequence[Method]) -> str:
    """A sentence on results that were measured before claims had contrasts; empty without any."""
    older = [m.id for m in found if (result := result_of(m.id)) and is_older(result)]
    if not older:
        return ""
    return f"""

*{OLDER.capitalize()}*: measured by an earlier version of the check on the world now called `underfit`,
at equal tokens over five seeds of 160 problems, where *not reproduced* may mean that the effect was too small to be
seen; to be measured again."""


def with_table(readme: str) -> str:
    """Replace the table of methods between the two markers of the README.

    Raises:
        ValueError: a marker is missing or duplicated, or they are in the wrong order.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"expected one {BEGIN} followed by one {END}")
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{overview()}\n{END}{rest.partition(END)[2]}"


# --- pages ---


def pages() -> dict[str, str]:
    """Map paths below docs/ to the Markdown of generated pages."""
    made = {f"methods/{m.id}.md": method_page(m) for m in ordered()}
    return {
        "reference/methods.md": methods_page(),
        **made,
        "reference/commands.md": commands_page(),
        "reference/options.md": options_page(),
    }


def pictures() -> dict[str, str]:
    """Map paths below docs/ to the figures drawn from committed measurements."""
    sys.path.insert(0, str(Path(__file__).parent))
    import pictures as draw

    return {"assets/tiny-claims.svg": draw.claims(RESULTS)}


def methods_page() -> str:
    """Page of all methods, by shape and family."""
    parts, last = list[str](), ""
    for folder, found in families().items():
        if found[0].shape != last:
            last = found[0].shape
            parts.append(f"## {last.capitalize()}: {SHAPES[last]}")
        parts.append(f"### {folder.name}\n\n{about_family(found[0])}")
        parts.append(table(found, lambda m: f"../methods/{m.id}.md"))
    listed = "\n\n".join(parts)
    return f"""# Methods

Each method is one function in one file, in the folder of its family; a preset is a published variant of a method, the
same function with other options. `selftaught check` tests the claim of its paper; the last columns show the results.

{listed}

`selftaught methods` prints this list, `--family F` one family of it, and `--json` prints it as JSON.
"""


def about_family(method: Method) -> str:
    """Return what the folder of a method's family says about it."""
    package = method.function.__module__.rpartition(".")[0]
    return (sys.modules[package].__doc__ or "").strip()


def method_page(method: Method) -> str:
    """Page of one method: its docstring, options, usage and source."""
    needs = " and ".join(NEEDS[n] for n in method.needs)
    facts = f"*{method.shape}: {SHAPES[method.shape]}* · paper {paper(method.paper)} · needs {needs or 'no labels'}"
    facts += f" · preset of [{method.preset_of}]({method.preset_of}.md)" if method.preset_of else ""
    facts += f" · also found as `{'`, `'.join(method.also)}`" if method.also else ""
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
    """Format a method's docstring as Markdown, without its `Args:` section, which becomes the table of options."""
    text = re.sub(r"^Args:\n(?:[ \t]+.*\n?|\n)+", "", method.doc, flags=re.MULTILINE)
    text = re.sub(r"^(Source|Differs from the paper|Costs)\b", r"**\1**", text, flags=re.MULTILINE)
    return re.sub(r"(?<![\w/.])\d{4}\.\d{5}(?!\d)", lambda found: paper(found[0]), text).strip()


def claim_of(method: Method) -> str:
    """The method's claim, its result, and the command that checks it."""
    if method.claim is None:
        return ""
    names = list(method.claim.leg_baselines) or ["none"]
    say = f"{method.claim.text} Baselines: {', '.join(names)}."
    return f"## Claim\n\n{say}\n\n{result_text(result_of(method.id))}\n\n```sh\nselftaught check {method.id}\n```\n\n"


def result_text(found: Mapping[str, Any] | None) -> str:
    """A result as Markdown: both verdicts, what is not compared and why, the conditions, and what they rest on."""
    if found is None:
        return "Not checked yet."
    if is_older(found):
        return f"Result ({OLDER}, equal tokens): {contrast_text(headline(found))}."
    lines = [f"Measured on {sure_text(found, all_q().get(found['id']))}."]
    for name, one in contrasts_of(found).items():
        left = "; ".join(
            f"{what} ({why})" for what, why in one.get("left_out", {}).items() if what not in one["failed"]
        )
        note = f". Not compared: {left}" if left else ""
        lines.append(f"- *{name.replace('_', ' ')}*: {contrast_text(one, found['direction'])}{note}")
    return "\n".join([lines[0], "", *lines[1:], *conditions_table(found["preconditions"])])


def conditions_table(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table of preconditions; none without any."""
    if not conditions:
        return []
    head = ("condition", "measured", "needed", "holds")
    rows = [
        (cell(one["name"]), "–" if one["value"] is None else f"{one['value']:.3g}", needed_text(one),
         "yes" if one["holds"] else "**no**")
        for one in conditions
    ]  # fmt: skip
    return ["", *("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))]


def options_table(method: Method) -> str:
    """Table of the keyword-only parameters: flag, type, default, meaning."""
    if not method.options:
        return "None."
    rows = [
        f"| `--{o.name.replace('_', '-')}` | {getattr(o.kind, '__name__', o.kind)} "
        f"| `{o.default_shown}` | {cell(o.help)} |"
        for o in method.options
    ]
    return "\n".join(["| option | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


def usage(method: Method) -> str:
    """Examples of using the method from the shell and from Python."""
    name, called = method.id, f'st.find_method("{method.id}")'
    shell = {
        "recipe": f"selftaught run {name} --task {TASK}",
        "solver": f'selftaught solve {name} "What is 17 + 25?"\nselftaught eval --solver {name} --task {TASK}',
    }
    groups = method.shape == "judge" and takes_groups(method)
    if method.shape == "judge" and not groups:
        shell["judge"] = f"selftaught eval --judge {name} --task {TASK}"
    what = "curate.all_pairs(tried)" if groups else "tried"
    python = {
        "judge": "tried = run.attempt(run.base, task.train, samples=2, temperature=0.7)\n"
        f"    print(run.judge(run.base, {what}, {called}))",
        "recipe": f"{called}(run, run.base, task)\n    print(st.conclude(run).paired)",
        "solver": f"print(run.measure(run.base, solver={called}).accuracy)",
        "study": f"print({called}(run, run.base, task))",
    }
    command = f"```sh\n{shell[method.shape]}\n```\n\n" if method.shape in shell else ""
    return f"""{command}```python
import selftaught as st
{"from selftaught import curate" + chr(10) if groups else ""}
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
    """Page with the `--help` output of each command."""
    parts = [f"## selftaught {name}\n\n```text\n{said(name)}\n```\n" for name in cli.COMMANDS]
    return "\n".join([COMMANDS_HEAD, *parts])


def said(command: str) -> str:
    """Output of `selftaught COMMAND --help`, 100 columns wide and without color."""
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
"""Placeholder in a page for the results of `selftaught check` on a method."""


CALIBRATED = re.compile(r"<!-- calibrated: ([a-z-]+) -->")
"""Placeholder in a page for what a world's calibration found."""


def with_measurements(page: str) -> str:
    """Replace the placeholders in a page by the results of their methods and worlds."""
    return CALIBRATED.sub(lambda found: calibrated(found[1]), MEASURED.sub(lambda found: measured(found[1]), page))


def calibrated(name: str) -> str:
    """Table of what a frozen world's calibration found: a row for each condition, a column for each model."""
    world = synthetic_worlds()[name]
    found = json.loads((world.folder / CALIBRATION).read_text("utf-8"))["models"]
    models = {
        spec: found[version]
        for spec in world.module("world").WORLD.models
        if (version := resolve(spec).version) in found
    }
    rows = list[tuple[str, ...]]()
    for checks in zip(*models.values(), strict=True):
        for conditions in zip(*(check["conditions"] for check in checks), strict=True):
            of = conditions[0]
            rows.append(
                (
                    f"{checks[0]['number']}: {cell(of['name'])}",
                    of["threshold"],
                    *map(measured_with_interval, conditions),
                )
            )
    head = ("check", "wanted", *(f"`{spec}`" for spec in models))
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def measured_with_interval(condition: Mapping[str, Any]) -> str:
    """A condition's value with its 95 % interval."""
    low, high = condition["ci95"]
    return f"{condition['value']:.3f} [{low:.3f}, {high:.3f}]"


def measured(name: str) -> str:
    """Format the results of a method's claim on the tiny world: the verdict and a row for each system."""
    path = result_path(RESULTS, name)
    if not path.is_file():
        return f"Not checked yet: `selftaught check {name} --ablate` measures it."
    found = json.loads(path.read_text("utf-8"))
    cost = "tokens" if is_older(found) else "compute"
    rows = [(f"**{name}**", f"{found['score']:.3f}", "", f"{found[f'method_{cost}']:,}")]
    for one in (*found["baselines"], *found["ablations"]):
        kind = "" if one["in_claim"] else " (not in the claim)" if one in found["baselines"] else " (ablation)"
        kind = ", at equal compute" if one.get("contrast") == "equal_compute" else kind
        rows.append((cell(one["name"]) + kind, f"{one['score']:.3f}", effect_text(one), f"{one[cost]:,}"))
    head = ("system", "accuracy", f"{name} minus it, 95 % interval", cost)
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
    verdicts = " ".join(
        f"{what.replace('_', ' ').capitalize()}: {one['verdict']}." for what, one in contrasts_of(found).items()
    )
    made = f"{verdicts} {found['seeds']} seeds, {found['problems']} test problems"
    made = f"{OLDER.capitalize()}. {made}" if is_older(found) else made
    more = [f"{what.replace('_', ' ')} {value:.3f}" for what, value in found.get("extra_metrics", {}).items()]
    said = ["", f"Metrics of {name} on the test problems: {', '.join(more)}."] if more else []
    needed = conditions_table(found.get("preconditions", ()))
    return "\n".join([f"{made}, `{found['command']}`. {decided(found)}", "", *lines, *said, *needed])


def decided(found: Mapping[str, Any]) -> str:
    """Say which baseline determines the verdict, and which has the highest mean."""
    published = [one for one in found["baselines"] if one.get("contrast") != "equal_compute"]
    claimed = {one["name"]: one for one in published if one["in_claim"]}
    against, verdict = headline(found)["against"], headline(found)["verdict"]
    if verdict == "not testable here":
        return "See below for what fails." if found["preconditions"] else ""
    said = f"The claim must hold against every baseline; the verdict is determined by {against}."
    best = max(claimed, key=lambda name: claimed[name]["score"], default=against)  # no claim asks for less
    return said if against == best else f"{said} {best} has the highest mean: {effect_text(claimed[best])}."


# --- mkdocs ---


def on_config(config: Any) -> Any:
    """Add a navigation entry for each method."""
    for entry in config.nav:
        if "Methods" in entry:
            groups = ({f.name: [{m.id: f"methods/{m.id}.md"} for m in found]} for f, found in families().items())
            entry["Methods"] = [{"All methods": "reference/methods.md"}, *groups]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Insert measurements into written pages."""
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
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it is out of date")
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
        print(f"{README.name}: the table of methods is out of date; run make format", file=sys.stderr)
        return 1
    README.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
