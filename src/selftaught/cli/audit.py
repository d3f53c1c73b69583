"""`selftaught audit RUN`: the command."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from selftaught.audit import audit
from selftaught.cli.common import Call
from selftaught.terminal import print_json, print_table, print_wrapped

WORDS = {True: "holds", False: "DIFFERS", None: "not checked"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audit`."""
    parser.add_argument("run", type=Path, help="folder of a run that has ended, or stands still")


def execute(call: Call) -> int:
    """Print what each check found; 1 where one does not hold."""
    found = audit(call.args.run)
    if call.args.json:
        print_json({"run": str(call.args.run), "checks": [asdict(one) for one in found]})
    else:
        print_table(((one.name, WORDS[one.holds], one.detail) for one in found), columns=("check", "", ""))
        wrong = sum(one.holds is False for one in found)
        print_wrapped(f"{wrong} of {len(found)} checks found a difference" if wrong else "nothing differs")
    return 1 if any(one.holds is False for one in found) else 0
