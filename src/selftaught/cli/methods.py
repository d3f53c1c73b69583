"""`selftaught methods`: the command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import selftaught
from selftaught.cli.common import Call
from selftaught.discovery import names
from selftaught.errors import BadInput, suggest
from selftaught.method import Method, methods
from selftaught.terminal import print_json, print_table

COLUMNS = ("method", "shape", "family", "paper", "what it does")
HELP = {"recipe": "run {}", "solver": "solve {}", "judge": "eval", "study": "check"}
"""The command whose help tells of a method of each shape."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `methods`."""
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)  # to say what was meant
    parser.add_argument("--family", metavar="F", help="only those of a family, such as voting or self_training")


def execute(call: Call) -> int:
    """List the methods. Raises BadInput for an unknown family."""
    args = call.args
    found = list(methods().values())
    if args.words:
        raise _unexpected(args.words[0], {method.family for method in found})
    if args.family is not None:
        wanted, families = args.family.replace("-", "_"), {method.family for method in found}
        if wanted not in families:
            raise BadInput(f"unknown family {args.family!r}", where="--family", fix=suggest(wanted, families))
        found = [method for method in found if method.family == wanted]
    if args.json:
        print_json([_as_data(method) for method in found])
    else:
        print_table(((m.id, m.shape, m.family, m.paper, m.described) for m in found), columns=COLUMNS)
    return 0


def _unexpected(word: str, families: set[str]) -> BadInput:
    """The error of a word that is no option: a method's, a family's, or another one."""
    fix = "see selftaught methods --help"
    if (family := word.replace("-", "_")) in families:
        fix = f"use --family {family}"
    elif (method := names().get(word.replace("_", "-"))) is not None:
        fix = f"see selftaught {HELP[method.shape].format(word)} --help"
    return BadInput(f"unexpected argument {word!r}", where="methods", fix=fix)


def _as_data(method: Method) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": method.id, "shape": method.shape, "family": method.family, "paper": method.paper}
    facts |= {"preset_of": method.preset_of or None, "also": list(method.also)}
    return facts | {"summary": method.summary, "path": _shown(method.path)}


def _shown(path: Path) -> str:
    """Show a path inside the package as it is in the repository."""
    package = Path(selftaught.__file__).parent
    return str(Path("src/selftaught") / path.relative_to(package)) if path.is_relative_to(package) else str(path)
