"""Write the README's demo figure and numbers from a finished run.

python scripts/showcase.py runs/demo           # write docs/assets/demo.{json,svg} and the README's section
python scripts/showcase.py --check             # change nothing; exit 1 if the README does not match demo.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from selftaught.report import Round, before_after_figure

ROOT = Path(__file__).resolve().parent.parent
README, ASSETS = ROOT / "README.md", ROOT / "docs" / "assets"
BEGIN, END = "<!-- demo:begin -->", "<!-- demo:end -->"


def figure(summary: dict[str, Any]) -> str:
    """Draw the run as a standalone SVG."""
    rounds = [
        Round(
            r["number"], r["policy"], r["records"], r["accuracy"], tuple(r["ci95"]), r["n_dev"], promoted=r["promoted"]
        )
        for r in summary["rounds"]
    ]
    return before_after_figure(summary, rounds)


def section(s: dict[str, Any]) -> str:
    """Format the README section for the run with this summary."""
    vote, tokens, paired = s["majority_at_equal_tokens"], s["tokens"], s["paired_difference"]
    rows = [("before", s["before"]), (f"before, majority vote over {vote['samples']} samples (equal tokens)", vote)]
    rows.append(("**after**", s["after"]))
    table = "\n".join(f"| {name} | {_percent(row['accuracy'])} | {_interval(row['ci95'])} |" for name, row in rows)
    return f"""### Result of the demo

![Dev accuracy per round, and test accuracy before and after](docs/assets/demo.svg)

| {s["n_test"]} held-out test problems, evaluated once | accuracy | 95 % interval |
|---|---|---|
{table}

The paired difference between after and before is {100 * paired["mean"]:.1f} percentage points
{_interval(paired["ci95"])}. The method (`{s["method"]}`) generated {tokens["generated"]:,} tokens and trained on
{tokens["trained"]:,}. The whole run, including the test evaluation of all three systems, took
{s["seconds"] / 60:.1f} minutes on two CPU cores and {s["peak_rss_mb"] / 1024:.1f} GB of memory; the framework
itself used {100 * s["overhead"]:.1f} % of that time. `make demo` prints these numbers.
They vary slightly between machines, because floating-point sums do."""


def with_section(readme: str, data: dict[str, Any]) -> str:
    """Replace the demo section between the two markers of the README."""
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{section(data)}\n{END}{rest.partition(END)[2]}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(ci: list[float]) -> str:
    return f"[{100 * ci[0]:.1f}, {100 * ci[1]:.1f}]"


def main() -> int:
    """Write or check the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"))
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    kept = ASSETS / "demo.json"
    data = json.loads((kept if args.check else args.run / "summary.json").read_text("utf-8"))
    wanted = with_section(README.read_text("utf-8"), data)
    if args.check:
        stale = wanted != README.read_text("utf-8") or figure(data) != (ASSETS / "demo.svg").read_text("utf-8")
        if stale:
            print("README.md or docs/assets/demo.svg does not match docs/assets/demo.json; run scripts/showcase.py")
        return int(stale)
    ASSETS.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    (ASSETS / "demo.svg").write_text(figure(data), "utf-8")
    README.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
