"""The command line: `selftaught run`, `solve`, `eval`, `check`, `audit`, `doctor`, `lineage`, `export`,
`methods`, `new`, `worlds`."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from selftaught.cli.parsing import SHAPES, Parser, method_of, parse, with_default_method
from selftaught.errors import BadInput, suggest
from selftaught.machine.disk import disk_full_error
from selftaught.machine.threads import use_short_spin
from selftaught.records import ReferenceHidden
from selftaught.terminal import make_printable, print_text

if TYPE_CHECKING:
    from selftaught.cli.common import Call

COMMANDS = {  # each has a module of its name, with `add_arguments(parser)` and `execute(call)`
    "run": "train a model with a method, and test the result on held-out problems",
    "solve": "answer one question with a test-time method",
    "eval": "measure a model, alone or with a test-time method",
    "check": "test what a method's paper claims, as published and at equal compute",
    "audit": "recompute what a run claims from its journal",
    "doctor": "examine a verifier on made-up replies, before a run trusts it",
    "lineage": "trace policies, records and attempts back to the model a run started from",
    "export": "write a run's data for other trainers, or its champion as a model folder with a card",
    "methods": "list the methods",
    "new": "write the files of a method of your own, with a claim and a test",
    "worlds": "build or examine the model of a world in which claims are checked",
}
INTERRUPTED, TERMINATED = 130, 143
DRAINING = (["run"], ["eval"], ["solve"])  # commands that keep what is in flight when they are terminated


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM), as by a scheduler: it winds up as after Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, 2 for bad input, 130 when interrupted, 143 when terminated."""
    words = list(sys.argv[1:] if argv is None else argv)
    make_printable(sys.stdout)
    make_printable(sys.stderr)
    use_short_spin()  # before anything brings torch
    if argv is None and words[:1] in DRAINING and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        return _outcome(words)
    except KeyboardInterrupt as stop:
        if argv is None:  # this process is the command: a second Ctrl-C ends it at once and without a word
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resumable = words[:1] in (["run"], ["eval"], ["check"]) or "--calibrate" in words
        resumes = "; the same command resumes" if resumable else ""
        ended = "terminated" if isinstance(stop, Terminated) else "interrupted"
        print_text(f"selftaught: {ended}{resumes}", to=sys.stderr)
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    except BrokenPipeError:  # the reader went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _terminate(*_: object) -> None:
    raise Terminated


def _outcome(words: list[str]) -> int:
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except BadInput as error:
        return _refuse(error)
    except ReferenceHidden as error:
        return _refuse(BadInput(str(error)))
    except BaseExceptionGroup as group:  # of several failures at the same time, the first tells enough
        if (error := _first_bad_input(group)) is None:
            raise
        return _refuse(error)
    except SystemExit as done:  # argparse has printed its help
        return int(done.code or 0)
    except BrokenPipeError:
        raise
    except OSError as error:
        if (full := disk_full_error(error, error.filename or "")) is None:
            raise
        return _refuse(full)


def _first_bad_input(group: BaseExceptionGroup[BaseException]) -> BadInput | None:
    """The first `BadInput` in a group that holds nothing else; an interrupt among them goes first."""
    alone, others = group.split(BadInput)
    if others is not None and others.subgroup(KeyboardInterrupt):
        raise KeyboardInterrupt from None
    found: BaseException | None = alone if others is None else None
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, BadInput) else None


def _refuse(error: BadInput) -> int:
    print_text(f"selftaught: {error}", to=sys.stderr)
    return 2


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        _overview()
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print_text(version("selftaught"))
        return 0
    command, call = call_of(words)
    return command.execute(call)


def call_of(words: list[str]) -> tuple[ModuleType, Call]:
    """The command that a command line names, and its call.

    Raises:
        BadInput: there is no such command, or one of its arguments is wrong.
    """
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        raise BadInput(f"unknown command {name!r}", fix=suggest(name, COMMANDS))
    parser = Parser(prog=f"selftaught {name}", description=COMMANDS[name])
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    command = import_module(f"selftaught.cli.{name}")
    return command, _parsed(command, parser, rest, f"selftaught {shlex.join(words)}")


def _parsed(command: ModuleType, parser: Parser, words: list[str], command_line: str) -> Call:
    from selftaught.cli.common import Call
    from selftaught.cli.options import add_options, options_of

    command.add_arguments(parser)
    if parser.command not in SHAPES:
        return Call(parse(parser, words), command_line)
    if parser.command == "solve":
        words = with_default_method(parser, words, command.DEFAULT_SOLVER)
    method = method_of(parser, words)
    if method:
        add_options(parser, method)
    args = parse(parser, words)
    return Call(args, command_line, method, options_of(args, method) if method else {})


def _overview() -> None:
    print_text("usage: selftaught COMMAND [options]\n\nLanguage models that teach themselves.\n")
    for name, what in COMMANDS.items():
        print_text(f"  {name:9s}{what}")
    print_text("\nselftaught COMMAND --help lists the options. Example:\n")
    print_text("  selftaught run rest-em --task chain_sum:min_terms=2,max_terms=2 --model smollm2-135m")


if __name__ == "__main__":
    sys.exit(main())
