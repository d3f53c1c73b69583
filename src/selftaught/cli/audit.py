"""`selftaught audit RUN`: the command."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from selftaught.audit import audit
from selftaught.cli.common import Call
from selftaught.console import Console
from selftaught.terminal import print_json, print_table, print_wrapped

WORDS = {True: "holds", False: "DIFFERS", None: "not checked"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audit`."""
    parser.add_argument("run", type=Path, help="folder of a run")
    trust = "run the Python files that the run's command line named as its task or verifier"
    parser.add_argument("--trust", action="store_true", help=trust)


def execute(call: Call) -> int:
    """Print what each check found; 1 where one does not hold, 3 where one could not be made."""
    found = audit(call.args.run, trust=call.args.trust, console=Console())
    wrong, unmade = (sum(one.holds is how for one in found) for how in (False, None))
    if call.args.json:
        print_json({"run": str(call.args.run), "checks": [asdict(one) for one in found]})
    else:
        print_table(((one.name, WORDS[one.holds], one.detail) for one in found), columns=("check", "", ""))
        print_wrapped(outcome(wrong, unmade, len(found)))
    return 1 if wrong else 3 if unmade else 0


def outcome(wrong: int, unmade: int, total: int) -> str:
    """What all checks found, in a line."""
    left = f"{unmade} of {total} checks could not be made" if unmade else ""
    if wrong:
        return f"{wrong} of {total} checks found a difference" + (f"; {left}" if left else "")
    return f"nothing differs, but {left}" if left else "nothing differs"
