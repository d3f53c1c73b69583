"""The options of a method: the keyword-only parameters of its function, with types, defaults and descriptions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from selftaught.discovery import location
from selftaught.errors import BadInput, suggest

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Option:
    """One keyword-only parameter of a method.

    Attributes:
        name: as in the signature.
        kind: its type, resolved; the type of its default if it has no annotation.
        default: `REQUIRED` if it has none.
        help: its description in the docstring.
    """

    name: str
    kind: Any
    default: Any
    help: str

    @property
    def default_shown(self) -> str:
        """The default as help shows it, an empty one as "none"."""
        return "none" if self.default in ("", (), []) else str(self.default)


def options_of(function: Callable[..., Any], only: Set[str] | None = None) -> tuple[Option, ...]:
    """The keyword-only parameters, or those of them whose names are in `only`; only their types are resolved."""
    docs = _option_docs(inspect.getdoc(function) or "")
    mine = [p for p in keyword_only(function) if only is None or p.name in only]
    return tuple(Option(p.name, _kind(p, function), p.default, docs.get(p.name, "")) for p in mine)


def keyword_only(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The keyword-only parameters of a function, in order."""
    found = inspect.signature(function).parameters.values()
    return [parameter for parameter in found if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


def same(value: Any, default: Any) -> bool:
    """Whether two values are equal and of one type, so that False differs from 0."""
    return type(value) is type(default) and value == default


def check_choice(option: Option, value: Any) -> None:
    """Raise BadInput for a value that is not among the choices of a `Literal`, or of `Literal[...] | None`."""
    alternatives = get_args(option.kind) if get_origin(option.kind) in (Union, UnionType) else (option.kind,)
    if not any(get_origin(kind) is Literal for kind in alternatives):
        return
    choices = [one for kind in alternatives for one in (get_args(kind) if get_origin(kind) is Literal else (None,))]
    if value not in choices:
        expected = ", ".join(map(repr, choices))
        fix = suggest(value, [one for one in choices if isinstance(one, str)]) if isinstance(value, str) else ""
        raise BadInput(f"must be one of {expected}, got {value!r}", where=option.name, fix=fix)


def check_type(option: Option, value: Any) -> None:
    """Raise BadInput for a value of another type, where the option is a number, a text, a switch, or None."""
    kinds = get_args(option.kind) if get_origin(option.kind) in (Union, UnionType) else (option.kind,)
    if not set(kinds) <= {bool, int, float, str, NoneType} or type(value) in kinds:
        return
    if type(value) is int and float in kinds:
        return
    expected = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
    raise BadInput(f"must be of type {expected}, got {value!r:.60}", where=option.name)


def _kind(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """The type of an option. Others' annotations are not resolved: they may use names that are not imported."""
    stated = parameter.annotation
    if stated is inspect.Parameter.empty:
        return str if parameter.default in (None, REQUIRED) else type(parameter.default)
    alone: Any = SimpleNamespace(__annotations__={parameter.name: stated})
    try:
        return get_type_hints(alone, getattr(function, "__globals__", {}))[parameter.name]
    except (NameError, TypeError) as error:
        what = f"cannot resolve the type {stated!r} of option {parameter.name!r} ({error})"
        raise BadInput(what, where=location(function)) from None


def _option_docs(doc: str) -> dict[str, str]:
    """Descriptions of the parameters in the `Args:` section of a docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    found = re.findall(r"^ {4}(\w+): ((?:.*\n?)(?:^ {8}.*\n?)*)", section.group(1) if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
