"""`selftaught methods`: the command."""

from __future__ import annotations

import argparse
from pathlib import Path

import selftaught
from selftaught.cli.common import Call
from selftaught.method import methods
from selftaught.terminal import print_json, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `methods`: there are none."""


def execute(call: Call) -> int:
    """List the methods."""
    found = [
        {"id": m.id, "shape": m.shape, "paper": m.paper, "summary": m.summary, "path": _shown(m.path)}
        for m in methods().values()
    ]
    if call.args.json:
        print_json(found)
        return 0
    rows = ((row["id"], row["shape"], row["paper"], row["summary"]) for row in found)
    print_table(rows, columns=("method", "shape", "paper", "what it does"))
    return 0


def _shown(path: Path) -> str:
    """A path inside the package, as in the repository."""
    package = Path(selftaught.__file__).parent
    return str(Path("src/selftaught") / path.relative_to(package)) if path.is_relative_to(package) else str(path)
