"""The command line: `selftaught run`, `solve`, `eval`, `check`, `lineage`, `methods`, `worlds`."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from selftaught.disk import full_disk
from selftaught.errors import BadInput, nearest
from selftaught.method import Method, find, methods

COMMANDS = {
    "run": "teach a model with a method, with proof on held-out problems",
    "solve": "answer one question with a test-time method",
    "eval": "measure a model, alone or under a test-time method",
    "check": "test what a method's paper claims, against its baselines at equal tokens",
    "lineage": "walk whatever a run made back to the policy it started from",
    "methods": "list the methods",
    "worlds": "build or examine the model of a world in which claims are checked",
}
OWN = ("check", "lineage", "worlds")  # commands with a module of their own, selftaught.NAME.command
SHAPES = {"run": "recipe", "solve": "solver", "eval": "solver"}
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """argparse, with errors as one line that says what to do."""

    def error(self, message: str) -> NoReturn:
        """Raise BadInput instead of printing the usage."""
        raise BadInput(message, where=self.prog.split()[-1], fix=f"see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except BadInput as error:
        return _refuse(error)
    except SystemExit as done:  # argparse has printed its help
        return int(done.code or 0)
    except KeyboardInterrupt:
        resumes = "; the same command goes on from here" if words[:1] in (["run"], ["eval"], ["check"]) else ""
        print(f"selftaught: interrupted{resumes}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if (full := full_disk(error, error.filename or "")) is None:
            raise
        return _refuse(full)


def _refuse(error: BadInput) -> int:
    print(f"selftaught: {error}", file=sys.stderr)
    return 2


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        _overview()
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("selftaught"))
        return 0
    if words[0] not in COMMANDS:
        raise BadInput(f"unknown command {words[0]!r}", fix=nearest(words[0], COMMANDS))
    name, rest = words[0], words[1:]
    parser = Parser(prog=f"selftaught {name}", description=COMMANDS[name], allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    if name == "methods":
        return _list_methods(as_json=_parse(parser, rest).json)
    if name in OWN:
        module = import_module(f"selftaught.{name}.command")
        getattr(module, f"add_{name}")(parser)
        return getattr(module, f"run_{name}")(_parse(parser, rest))
    return _command(name, parser, rest, f"selftaught {shlex.join(words)}")


def _command(name: str, parser: Parser, words: list[str], command: str) -> int:
    from selftaught import commands
    from selftaught.options import add_options, chosen

    getattr(commands, f"add_{name}")(parser)
    method = _method_of(name, parser, words)
    if method:
        add_options(parser, method)
    args = _parse(parser, words)
    return getattr(commands, name)(args, method, chosen(args, method) if method else {}, command=command)


def _overview() -> None:
    print("usage: selftaught COMMAND [options]\n\nLanguage models that teach themselves.\n")
    for name, what in COMMANDS.items():
        print(f"  {name:9s}{what}")
    print("\nselftaught COMMAND --help tells more. Example:\n")
    print("  selftaught run rest-em --task chain_sum:min_terms=2,max_terms=2 --model smollm2-135m")


def _method_of(command: str, parser: Parser, words: list[str]) -> Method | None:
    """The method named on the command line, found before parsing since it decides which options there are."""
    positional, options = _scan(parser, words)
    named = options.get("--solver") if command == "eval" else positional
    if named is None:
        if command == "eval" or {"-h", "--help"} & set(words):
            return None
        raise BadInput(f"{command} needs a method", fix=_known(SHAPES[command]))
    method = find(named)
    if method.shape != SHAPES[command]:
        fix = _known(SHAPES[command])
        raise BadInput(f"{method.id} is a {method.shape}, not a {SHAPES[command]}", where=command, fix=fix)
    return method


def _scan(parser: Parser, words: list[str]) -> tuple[str | None, dict[str, str]]:
    """The first positional word, and the value of every option; options not known yet are taken to have one."""
    known = parser._option_string_actions  # pyright: ignore[reportPrivateUsage]
    values: dict[str, str] = {}
    positional, flag = None, ""
    for word in words:
        if flag:
            values[flag], flag = word, ""
        elif word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            if equals:
                values[name] = value
            elif name not in known or known[name].nargs != 0:
                flag = name
        elif positional is None:
            positional = word
    return positional, values


def _known(shape: str) -> str:
    return "choose one of " + ", ".join(m.id for m in methods().values() if m.shape == shape)


def _parse(parser: Parser, words: list[str]) -> argparse.Namespace:
    """Parse, refusing unknown options first: a misspelt one should not be told as a missing one."""
    flags = list(parser._option_string_actions)  # pyright: ignore[reportPrivateUsage]
    for word in itertools.takewhile(lambda w: w != "--", words):
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in flags:
            raise BadInput(f"unknown option {flag!r}", where=parser.prog.split()[-1], fix=nearest(flag, flags))
    args, left = parser.parse_known_args(words)
    if left:
        raise BadInput(
            f"unexpected argument {left[0]!r}", where=parser.prog.split()[-1], fix=f"see {parser.prog} --help"
        )
    return args


def _list_methods(*, as_json: bool) -> int:
    found = [
        {"id": m.id, "shape": m.shape, "paper": m.paper, "summary": m.summary, "path": _shown(m.path)}
        for m in methods().values()
    ]
    if as_json:
        print(json.dumps(found, indent=1))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("method", "shape", "paper", "what it does", box=None, header_style="bold")
    for row in found:
        table.add_row(row["id"], row["shape"], row["paper"], row["summary"])
    Console().print(table)
    return 0


def _shown(path: Path) -> str:
    """A path inside the package as it stands in the repository."""
    package = Path(__file__).parent
    return str(Path("src/selftaught") / path.relative_to(package)) if path.is_relative_to(package) else str(path)


if __name__ == "__main__":
    sys.exit(main())
