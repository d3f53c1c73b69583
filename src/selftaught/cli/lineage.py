"""`selftaught lineage RUN [ID]`: the command."""

from __future__ import annotations

import argparse
from pathlib import Path

from selftaught.cli.common import Call
from selftaught.errors import BadInput
from selftaught.journal import JournalReader
from selftaught.lineage.folder import RunFolder
from selftaught.lineage.text import run_lines, short_id, tree_lines
from selftaught.lineage.walk import walk
from selftaught.terminal import print_json, print_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lineage`."""
    parser.add_argument("run", type=Path, help="folder of a run, which may be in progress")
    what = "id of an attempt, a tree, a policy or one of its records (POLICY:NUMBER), or the start of an id"
    parser.add_argument("id", nargs="?", help=f"{what} (default: all policies; with --json the champion)")
    depth = "maximum number of links to follow (0: all; default %(default)s)"
    parser.add_argument("--depth", type=int, default=0, help=depth)
    width = "records per policy and steps per tree to show (0: all; default %(default)s)"
    parser.add_argument("--width", type=int, default=3, help=width)


def execute(call: Call) -> int:
    """Print a lineage. Raises BadInput for an unknown id, or a folder that is no run."""
    args = call.args
    for name in ("depth", "width"):
        if getattr(args, name) < 0:
            raise BadInput(f"got {getattr(args, name)}", where=f"--{name}", fix="use 0 or more")
    with JournalReader(args.run) as reader:
        facts = RunFolder(args.run, reader)
        if args.id is not None or args.json:
            found = walk(facts, [facts.champion if args.id is None else facts.resolve_id(args.id)])
            if args.json:
                print_json({"run": str(args.run)} | found.to_json())
                return 0
            lines = tree_lines(found, depth=args.depth, width=args.width)
        else:
            found = walk(facts, facts.policies)
            counts = {"attempt": reader.count("sample"), "tree": reader.count("tree")}
            lines = [*run_lines(found, facts.champion, facts.config, counts), *_examples(facts)]
        for line in lines:
            print_text(line)
    return 0


def _examples(facts: RunFolder) -> list[str]:
    """An example command for each kind of id in the run."""
    records = [f"{version}:0" for version in facts.policies if facts.records(version)]
    kinds = (facts.reader.keys("sample", limit=1), facts.reader.keys("tree", limit=1), records[-1:])
    return [f"  selftaught lineage {facts.folder} {short_id(id)}" for ids in kinds for id in ids]
