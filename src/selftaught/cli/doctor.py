"""`selftaught doctor`: the command."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from selftaught.cli.common import Call, add_quiet, add_task_options, task_of
from selftaught.console import Console
from selftaught.tasks.doctor import examine_verifier
from selftaught.terminal import print_json, print_table, print_wrapped

WORDS = {True: "holds", False: "FAILS", None: "not tried"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor`."""
    add_task_options(parser, train=50, dev=0, test=0)
    add_quiet(parser)


def execute(call: Call) -> int:
    """Print what each check found; 1 where one fails."""
    with task_of(call.args) as task:
        problems = (*task.train, *task.dev, *task.test)
        found = examine_verifier(task, problems, Console(quiet=call.args.quiet))
        verifier = task.verifier.version
    failed = sum(one.holds is False for one in found)
    if call.args.json:
        print_json({"task": task.name, "verifier": verifier, "checks": [asdict(one) for one in found]})
    else:
        print_table(((one.name, WORDS[one.holds], one.detail) for one in found), columns=("check", "", ""))
        outcome = f"{failed} of {len(found)} checks fail" if failed else "no check fails"
        print_wrapped(f"{verifier} on {len(problems)} problems: {outcome}")
    return 1 if failed else 0
