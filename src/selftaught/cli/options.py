"""Command-line options from a method's signature."""

from __future__ import annotations

import argparse
import math
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from selftaught.cli.parsing import not_a_choice
from selftaught.errors import BadInput
from selftaught.method import REQUIRED, Method, Option
from selftaught.models import Policy

PLAIN = (int, float, str, Path)
METHOD_WINS = ("--temperature",)  # flags of a command that a method with an option of that name takes over
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def add_options(parser: argparse.ArgumentParser, method: Method) -> None:
    """An option for every keyword-only parameter of the method.

    `top_k` becomes `--top-k`; if the command has an option of that name, `--method-top-k`, except for `--temperature`,
    which becomes the method's. A bool becomes a pair, `--x` and `--no-x`. Parameters of a type that one word cannot
    express keep their defaults.

    Raises:
        BadInput: such a parameter has no default.
    """
    summary = method.summary.replace("%", "%%")
    group = parser.add_argument_group(f"options of {method.id}", summary, conflict_handler="resolve")
    for option in method.options:
        place: dict[str, Any] = {"dest": f"option_{option.name}", "default": option.default}
        if option.default is REQUIRED:
            place |= {"required": True, "default": None}
        place["help"] = _help(option)
        if option.kind is bool:
            group.add_argument(_flag(parser, option), action=argparse.BooleanOptionalAction, **place)
        elif read := reader(option.kind):
            flag, choices = _flag(parser, option), choices_of(option.kind)
            shown = read.__name__ if choices else read.__name__.upper()
            read = _checked(read, flag, choices) if choices else read
            group.add_argument(flag, type=read, metavar=shown, **place)
        elif option.default is REQUIRED:
            raise BadInput(f"option {option.name!r} of {method.id} can be set from Python only", where=str(method.path))


def options_of(args: argparse.Namespace, method: Method) -> dict[str, Any]:
    """The method's options as parsed."""
    return {o.name: getattr(args, f"option_{o.name}", o.default) for o in method.options}


def _help(option: Option) -> str:
    default = "required" if option.default is REQUIRED else f"default {option.default_shown}"
    return f"{option.help.removesuffix('.')} ({default})".strip().replace("%", "%%")


def _flag(parser: argparse.ArgumentParser, option: Option) -> str:
    taken = parser._option_string_actions  # pyright: ignore[reportPrivateUsage]
    name = option.name.replace("_", "-")
    while f"--{name}" not in METHOD_WINS and (f"--{name}" in taken or f"--no-{name}" in taken):
        name = f"method-{name}"
    return f"--{name}"


def reader(kind: Any) -> Callable[[str], Any] | None:
    """The parser of a type's values from one word, named after what it expects. None if one word cannot hold a value.

    Reads numbers, text, paths, `Literal`s, `X | None` ("none"), policies by name (`str | Policy`), and tuples and lists
    of one of these ("1,2,3"); raises ValueError for anything else.
    """
    if kind is bool:
        return _named("true|false", _bool)
    if kind is float:
        return _named("float", _float)
    if kind in PLAIN:
        return kind
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        by_name = {str(value): value for value in inside}
        return _named("|".join(by_name), lambda word: _choice(by_name, word))
    if origin in (Union, types.UnionType) and type(None) in inside and len(inside) == 2:
        read = reader(next(k for k in inside if k is not type(None)))
        return read and _named(f"{read.__name__}|none", lambda word: None if word.lower() == "none" else read(word))
    if origin in (Union, types.UnionType) and set(inside) == {str, Policy}:
        return str
    if origin in (tuple, list) and inside and all(k in (inside[0], ...) for k in inside):
        read = reader(inside[0])
        return read and _named(
            f"{read.__name__},...", lambda word: origin(read(part) for part in word.split(",") if part)
        )
    return None


def choices_of(kind: Any) -> list[str]:
    """The words for the values of a `Literal`, alone, optional or in a list; empty for another type."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return list(map(str, inside))
    if origin in (Union, types.UnionType) and type(None) in inside and len(inside) == 2:
        found = choices_of(next(k for k in inside if k is not type(None)))
        return [*found, "none"] if found else []
    return choices_of(inside[0]) if origin in (tuple, list) and inside else []


def _checked(read: Callable[[str], Any], flag: str, choices: list[str]) -> Callable[[str], Any]:
    """A reader that refuses a word in one line with all choices."""

    def checked(word: str) -> Any:
        try:
            return read(word)
        except ValueError as error:
            raise not_a_choice(str(error), flag, choices) from None

    return checked


def _named(name: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    read.__name__ = name
    return read


def _float(word: str) -> float:
    value = float(word)
    if math.isnan(value):
        raise ValueError(word)
    return value


def _bool(word: str) -> bool:
    if word.lower() not in TRUE + FALSE:
        raise ValueError(word)
    return word.lower() in TRUE


def _choice(by_name: dict[str, Any], word: str) -> Any:
    if word not in by_name:
        raise ValueError(word)
    return by_name[word]


@contextmanager
def naming_flags(options: Mapping[str, Any]) -> Iterator[None]:
    """Name the flag in the message about a wrong value of an option, which methods know by its name alone."""
    try:
        yield
    except BadInput as error:
        name = next((one for one in options if not error.where and error.what.startswith(f"{one} must be ")), None)
        if name is None:
            raise
        raise BadInput(error.what, where=f"--{name.replace('_', '-')}", fix=error.fix) from error
