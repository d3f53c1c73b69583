"""The command line: `selftaught run`, `solve`, `eval`, `methods`."""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from selftaught.errors import BadInput, nearest
from selftaught.method import Method, Option, find, methods

COMMANDS = {
    "run": "teach a model with a method, with proof on held-out problems",
    "solve": "answer one question with a test-time method",
    "eval": "measure a model, alone or under a test-time method",
    "methods": "list the methods",
}


class Parser(argparse.ArgumentParser):
    """argparse, with errors as one line that says what to do."""

    def error(self, message: str) -> NoReturn:
        """Raise BadInput instead of printing the usage."""
        raise BadInput(message, where=self.prog, fix=f"see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except BadInput as error:
        print(f"selftaught: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("selftaught: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


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
    from selftaught import commands

    name, rest = words[0], words[1:]
    if name == "methods":
        return _list_methods(_parse(_base("methods"), rest))
    method = _method_of(name, rest)
    parser = _base(name)
    getattr(commands, f"add_{name}")(parser, method)
    if method:
        _add_options(parser, method)
    args = _parse(parser, rest)
    options = {o.name: getattr(args, f"option_{o.name}") for o in method.options} if method else {}
    return getattr(commands, name)(args, method, options, command=f"selftaught {shlex.join(words)}")


def _overview() -> None:
    print("usage: selftaught COMMAND [options]\n\nLanguage models that teach themselves.\n")
    for name, what in COMMANDS.items():
        print(f"  {name:9s}{what}")
    print("\nselftaught COMMAND --help tells more. Example:\n")
    print("  selftaught run rest-em --task chain_sum:min_terms=2,max_terms=2 --model smollm2-135m")


def _base(command: str) -> Parser:
    parser = Parser(prog=f"selftaught {command}", description=COMMANDS[command], allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    return parser


def _method_of(command: str, words: list[str]) -> Method | None:
    """The method named on the command line, found before parsing since it decides which options there are."""
    if command == "eval":
        named = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--solver"]
        named += [word.partition("=")[2] for word in words if word.startswith("--solver=")]
        wanted = ("solver",)
    else:
        named = [word for word in words[:1] if not word.startswith("-")]
        wanted = ("recipe",) if command == "run" else ("solver",)
        if not named and "--help" not in words and "-h" not in words:
            raise BadInput(f"{command} needs a method", fix=_known(wanted))
    if not named:
        return None
    method = find(named[-1])
    if method.shape not in wanted:
        raise BadInput(f"{method.id} is a {method.shape}, not a {wanted[0]}", where=command, fix=_known(wanted))
    return method


def _known(shapes: tuple[str, ...]) -> str:
    return "choose one of " + ", ".join(m.id for m in methods().values() if m.shape in shapes)


def _add_options(parser: Parser, method: Method) -> None:
    """An option for every keyword-only parameter of the method."""
    group = parser.add_argument_group(f"options of {method.id}", method.summary)
    for option in method.options:
        flag, shown = "--" + option.name.replace("_", "-"), f"{option.help} (default {option.default})".replace("%", "%%")
        place: dict[str, Any] = {"dest": f"option_{option.name}", "default": option.default, "help": shown}
        if option.kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **place)
        else:
            group.add_argument(flag, type=_reader(option), metavar=option.kind.__name__.upper(), **place)


def _reader(option: Option) -> Any:
    def read(text: str) -> Any:
        return option.kind(text)

    read.__name__ = option.kind.__name__
    return read


def _parse(parser: Parser, words: list[str]) -> argparse.Namespace:
    """Parse, refusing unknown options first: a misspelt one should not be told as a missing one."""
    flags = [flag for action in parser._actions for flag in action.option_strings]  # pyright: ignore[reportPrivateUsage]
    for word in itertools.takewhile(lambda w: w != "--", words):
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in flags:
            raise BadInput(f"unknown option {flag!r}", where=parser.prog, fix=nearest(flag, flags))
    args, left = parser.parse_known_args(words)
    if left:
        raise BadInput(f"unexpected argument {left[0]!r}", where=parser.prog, fix=f"see {parser.prog} --help")
    return args


def _list_methods(args: argparse.Namespace) -> int:
    found = [
        {"id": m.id, "shape": m.shape, "paper": m.paper, "summary": m.summary, "path": _shown(m.path)}
        for m in methods().values()
    ]
    if args.json:
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
