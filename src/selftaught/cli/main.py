"""The command line: `selftaught run`, `solve`, `eval`, `check`, `lineage`, `methods`, `new`, `worlds`."""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from selftaught.errors import BadInput, suggest
from selftaught.feedback.userfile import is_userfile
from selftaught.machine.disk import disk_full_error
from selftaught.machine.threads import set_num_threads, use_short_spin
from selftaught.method import Method, find, methods
from selftaught.records import ReferenceHidden
from selftaught.terminal import make_printable, print_text

COMMANDS = {
    "run": "teach a model with a method, with proof on held-out problems",
    "solve": "answer one question with a test-time method",
    "eval": "measure a model, alone or under a test-time method",
    "check": "test what a method's paper claims, against its baselines at equal tokens",
    "lineage": "walk whatever a run made back to the policy it started from",
    "methods": "list the methods",
    "new": "write a method of your own to start from, with a claim and a test",
    "worlds": "build or examine the model of a world in which claims are checked",
}
OWN = ("check", "lineage", "methods", "new", "worlds")  # commands with a module of their own, selftaught.cli.NAME
SHAPES = {"run": "recipe", "solve": "solver", "eval": "solver"}
INTERRUPTED = 130
MOST_NAMED = 20  # methods named in a message
OTHER_NAMES = {  # what other tools call an option -> our names of it
    "--temperature": ("--heat",), "--lr": ("--learning-rate",), "--n": ("--attempts", "--samples"),
    "--num-samples": ("--samples", "--attempts"), "--samples": ("--attempts",),
    "--batch": ("--batch-size", "--max-batch-size"),
    "--rows": ("--max-batch-size",), "--max-num-seqs": ("--max-batch-size",), "--spend": ("--max-cost",),
    "--served": ("--served-model-name",),
    "--max-new-tokens": ("--max-tokens",), "--num-threads": ("--threads",), "--method": ("--solver",),
    "--limit": ("--test",), "--output": ("--out",), "--output-dir": ("--out",), "--rank": ("--lora-rank",),
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """argparse, with errors as one line that says what to do."""

    def error(self, message: str) -> NoReturn:
        """Raise BadInput instead of printing the usage."""
        raise BadInput(message, where=self.prog.split()[-1], fix=f"see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    make_printable(sys.stdout)
    make_printable(sys.stderr)
    use_short_spin()  # before anything brings torch
    try:
        return _outcome(words)
    except KeyboardInterrupt:
        if argv is None:  # this process is the command: a second Ctrl-C ends it at once and without a word
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        resumes = "; the same command resumes" if words[:1] in (["run"], ["eval"], ["check"]) else ""
        print_text(f"selftaught: interrupted{resumes}", to=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


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
    if words[0] not in COMMANDS:
        raise BadInput(f"unknown command {words[0]!r}", fix=suggest(words[0], COMMANDS))
    name, rest = words[0], words[1:]
    parser = Parser(prog=f"selftaught {name}", description=COMMANDS[name], allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    if name in OWN:
        module = import_module(f"selftaught.cli.{name}")
        getattr(module, f"add_{name}")(parser)
        return getattr(module, f"run_{name}")(_parse(parser, rest))
    return _command(name, parser, rest, f"selftaught {shlex.join(words)}")


def _command(name: str, parser: Parser, words: list[str], command: str) -> int:
    from selftaught.cli import commands
    from selftaught.cli.options import add_options, chosen

    getattr(commands, f"add_{name}")(parser)
    if name == "solve":
        words = _with_method(parser, words, commands.DEFAULT_SOLVER)
    method = _method_of(name, parser, words)
    if method:
        add_options(parser, method)
    args = _parse(parser, words)
    return getattr(commands, name)(args, method, chosen(args, method) if method else {}, command=command)


def _overview() -> None:
    print_text("usage: selftaught COMMAND [options]\n\nLanguage models that teach themselves.\n")
    for name, what in COMMANDS.items():
        print_text(f"  {name:9s}{what}")
    print_text("\nselftaught COMMAND --help tells more. Example:\n")
    print_text("  selftaught run rest-em --task chain_sum:min_terms=2,max_terms=2 --model smollm2-135m")


def _with_method(parser: Parser, words: list[str], usual: str) -> list[str]:
    """The words of `solve`, with the usual method where they hold a question alone."""
    positionals, _ = _scan(parser, words)
    if len(positionals) != 1:
        return words
    (only,) = positionals
    by_name = only in methods() or is_userfile(only) or bool(difflib.get_close_matches(only, methods(), cutoff=0.8))
    return words if by_name else [usual, *words]


def _method_of(command: str, parser: Parser, words: list[str]) -> Method | None:
    """The method named on the command line, found before parsing since it decides which options there are."""
    positionals, options = _scan(parser, words)
    named = options.get("--solver") if command == "eval" else next(iter(positionals), None)
    if named is None:
        if command == "eval" or {"-h", "--help"} & set(words):
            return None
        if command == "solve":
            raise BadInput("solve needs a question", fix='write it in quotes: selftaught solve "What is 17 + 25?"')
        raise BadInput(f"{command} needs a method", fix=_known(SHAPES[command]))
    method = find(named)
    if method.shape != SHAPES[command]:
        fix = _known(SHAPES[command])
        raise BadInput(f"{method.id} is a {method.shape}, not a {SHAPES[command]}", where=command, fix=fix)
    return method


def _scan(parser: Parser, words: list[str]) -> tuple[list[str], dict[str, str]]:
    """The positional words, and the value of every option; options not known yet are taken to have one."""
    known = parser._option_string_actions  # pyright: ignore[reportPrivateUsage]
    values: dict[str, str] = {}
    positionals, flag = list[str](), ""
    for word in words:
        if flag:
            values[flag], flag = word, ""
        elif word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            if equals:
                values[name] = value
            elif name not in known or known[name].nargs != 0:
                flag = name
        else:
            positionals.append(word)
    return positionals, values


def _known(shape: str) -> str:
    names = [m.id for m in methods().values() if m.shape == shape]
    more = f", ... ({len(names)} in all, see selftaught methods)" if len(names) > MOST_NAMED else ""
    return f"choose one of {', '.join(names[:MOST_NAMED])}{more}"


def _parse(parser: Parser, words: list[str]) -> argparse.Namespace:
    """Parse, refusing unknown options first: a misspelt one should not be told as a missing one."""
    flags = list(parser._option_string_actions)  # pyright: ignore[reportPrivateUsage]
    for word in itertools.takewhile(lambda w: w != "--", words):
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in flags:
            meant = next((o for o in OTHER_NAMES.get(flag, ()) if o in flags), None)
            fix = f"it is called {meant!r} here" if meant else suggest(flag, flags)
            raise BadInput(f"unknown option {flag!r}", where=parser.prog.split()[-1], fix=fix)
    args, left = parser.parse_known_args(words)
    if (threads := getattr(args, "threads", None)) is not None:
        if threads < 1:
            raise BadInput(f"got {threads}", where="--threads", fix="use 1 or more")
        set_num_threads(threads)
    if left:
        raise BadInput(
            f"unexpected argument {left[0]!r}", where=parser.prog.split()[-1], fix=f"see {parser.prog} --help"
        )
    return args


if __name__ == "__main__":
    sys.exit(main())
