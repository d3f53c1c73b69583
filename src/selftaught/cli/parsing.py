"""Parsing a command line: the method named on it decides which options there are."""

from __future__ import annotations

import argparse
import difflib
import itertools
import textwrap
from collections.abc import Collection
from typing import Any, NoReturn

from selftaught.errors import BadInput, suggest
from selftaught.feedback.userfile import is_userfile
from selftaught.machine.threads import set_num_threads
from selftaught.method import Method, find, methods, names

SHAPES = {"run": "recipe", "solve": "solver", "eval": "solver"}  # commands that run a method, and its shape
MAX_NAMED = 20  # methods named in a message


def not_a_choice(word: str, flag: str, choices: list[str]) -> BadInput:
    """The error of a word that is none of an option's choices."""
    close = difflib.get_close_matches(word, choices, cutoff=0.5)
    fix = suggest(word, choices) if close else ""
    return BadInput(f"must be one of {', '.join(choices)}, got {word!r}", where=flag, fix=fix)


class HelpFormatter(argparse.HelpFormatter):
    """argparse's, but words with a hyphen stay on one line."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.indent("\n".join(self._split_lines(text, width - len(indent))), indent)


class Parser(argparse.ArgumentParser):
    """argparse, with errors as one line that says what to do."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, "allow_abbrev": False, **how})

    @property
    def command(self) -> str:
        """The command's name."""
        return self.prog.split()[-1]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            flag = next(iter(action.option_strings), action.dest)
            raise not_a_choice(str(value), flag, list(map(str, action.choices)))

    def error(self, message: str) -> NoReturn:
        """Raise BadInput instead of printing the usage."""
        raise BadInput(message, where=self.command, fix=f"see {self.prog} --help")


def parse(parser: Parser, words: list[str]) -> argparse.Namespace:
    """Parse, and set the number of threads.

    Unknown options are refused first: argparse would report a misspelled one as a missing one.

    Raises:
        BadInput: an option is unknown, with the nearest names; or an argument is wrong.
    """
    flags = list(parser._option_string_actions)  # pyright: ignore[reportPrivateUsage]
    for word in itertools.takewhile(lambda w: w != "--", words):
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in flags:
            raise BadInput(f"unknown option {flag!r}", where=parser.command, fix=suggest(flag, flags))
    args, left = parser.parse_known_args(words)
    if (threads := getattr(args, "threads", None)) is not None:
        if threads < 1:
            raise BadInput(f"must be ≥ 1, got {threads}", where="--threads", fix="use the number of cores")
        set_num_threads(threads)
    if left:
        word = next((word for word in left if word != "--"), left[0])
        raise BadInput(f"unexpected argument {word!r}", where=parser.command, fix=f"see {parser.prog} --help")
    return args


def method_of(parser: Parser, words: list[str]) -> Method | None:
    """The method named on the command line; None for `eval` without a solver, and where only help is wanted.

    Raises:
        BadInput: none is named, or one that the command cannot run.
    """
    command, shape = parser.command, SHAPES[parser.command]
    positionals, options = _scan(parser, words)
    named = options.get("--solver") if command == "eval" else next(iter(positionals), None)
    if named is None:
        if command == "eval" or {"-h", "--help"} & set(words):
            return None
        if command == "solve":
            raise BadInput("solve needs a question", fix='write it in quotes: selftaught solve "What is 17 + 25?"')
        raise BadInput(f"{command} needs a method", fix=_choices(shape))
    method = find(named)
    if method.shape != shape:
        raise BadInput(f"{method.id} is a {method.shape}, not a {shape}", where=command, fix=_choices(shape))
    return method


def with_default_method(parser: Parser, words: list[str], default: str) -> list[str]:
    """The words of `solve`, with the default method in front where they hold only a question."""
    positionals, _ = _scan(parser, words)
    if len(positionals) != 1:
        return words
    (only,) = positionals
    named = only in names() or is_userfile(only) or bool(difflib.get_close_matches(only, names(), cutoff=0.8))
    return words if named else [default, *words]


def _scan(parser: Parser, words: list[str]) -> tuple[list[str], dict[str, str]]:
    """The positional words, and the value of every option; options not known yet are taken to have one."""
    known = parser._option_string_actions  # pyright: ignore[reportPrivateUsage]
    values: dict[str, str] = {}
    positionals, flag = list[str](), ""
    for place, word in enumerate(words):
        if flag:
            values[flag], flag = word, ""
        elif word == "--":
            positionals += words[place + 1 :]
            break
        elif _is_option(word, known):
            name, equals, value = word.partition("=")
            if equals:
                values[name] = value
            elif name not in known or known[name].nargs != 0:
                flag = name
        else:
            positionals.append(word)
    return positionals, values


def _is_option(word: str, known: Collection[str]) -> bool:
    """Whether a word is an option, not a question such as "-2 + 5 = ?"; as argparse decides it."""
    name = word.partition("=")[0]
    if word.startswith("--"):
        return " " not in name
    return len(word) > 1 and word.startswith("-") and (name in known or " " not in word)


def _choices(shape: str) -> str:
    names = [m.id for m in methods().values() if m.shape == shape]
    more = f", ... ({len(names)} in all, see selftaught methods)" if len(names) > MAX_NAMED else ""
    return f"choose one of {', '.join(names[:MAX_NAMED])}{more}"
