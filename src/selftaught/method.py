"""Methods: plain functions with one of three decorators, found by their file, never registered.

- `solver`: `async (ask, problem, *, ...) -> Attempt`, one problem at test time;
- `recipe`: `(run, base, task, *, ...) -> Policy`, many problems, new weights;
- `study`: `(run, policy, task, *, ...) -> StudyReport`, a published finding reproduced.

The keyword-only parameters are the method's options, with the paper's values as defaults. A method also declares what
its paper claims (`claim=Claim(...)`), which `selftaught check` tests.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Set
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, update_wrapper
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from selftaught.check.claim import Claim
from selftaught.discovery import find, location, methods, names
from selftaught.errors import BadInput, suggest
from selftaught.identity import solver_name
from selftaught.models.policy import require_lasting
from selftaught.presets import NEEDS, PAPER, Need, Preset, check_needs, check_presets, keyword_only, same

__all__ = [
    "NEEDS",
    "PAPER",
    "REQUIRED",
    "Method",
    "Need",
    "Option",
    "Preset",
    "Shape",
    "find",
    "methods",
    "names",
    "recipe",
    "solver",
    "study",
]

Shape = Literal["solver", "recipe", "study"]
REQUIRED = inspect.Parameter.empty
P = ParamSpec("P")
R = TypeVar("R")


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


class Method(Generic[P, R]):
    """A decorated function: callable as before, with its id, options, needs and claim.

    Attributes:
        id: the function's name with dashes; of a preset, the id it is declared by.
        shape: "solver", "recipe" or "study".
        paper: arXiv number or URL of the source.
        needs: what it needs, words of `selftaught.method.NEEDS`.
        claim: what its paper claims, as `selftaught check` tests it, or None.
        presets: the declarations of its presets, by id.
        also: other names that find it.
        preset: of a preset, its declaration; otherwise None.
        preset_of: of a preset, the id of its host; otherwise empty.
        overrides: the options set by `with_options` that differ from the defaults.
    """

    def __init__(
        self,
        function: Callable[P, R],
        shape: Shape,
        paper: str,
        needs: tuple[Need, ...],
        claim: Claim | None,
        *,
        presets: Mapping[str, Preset] | None = None,
        also: tuple[str, ...] = (),
    ) -> None:
        self.function, self.paper, self.needs, self.claim = function, paper, needs, claim
        self.shape: Shape = shape
        self.id = function.__name__.replace("_", "-")
        self.presets, self.also = dict(presets or {}), also
        self.preset: Preset | None = None
        self.preset_of = ""
        self.overrides: dict[str, Any] = {}
        update_wrapper(self, function)
        check_needs(needs, shape, self.id)
        check_presets(self)

    @cached_property
    def presets_by_id(self) -> dict[str, Method[P, R]]:
        """Its presets, each a method."""
        return {name: self._as_preset(name, preset) for name, preset in self.presets.items()}

    def _as_preset(self, name: str, preset: Preset) -> Method[P, R]:
        needs = self.needs if preset.needs is None else preset.needs
        other = Method(self.function, self.shape, preset.paper, needs, preset.claim)
        other.id, other.preset, other.preset_of = name, preset, self.id
        other.__doc__ = other.doc
        return other

    @property
    def doc(self) -> str:
        """The docstring; of a preset, what differs and what it sets, followed by that of its host."""
        own = inspect.getdoc(self.function) or ""
        if self.preset is None:
            return own
        there = {o.name: o.default for o in _options(self.function)}
        sets = ", ".join(f"`{name}={value!r}` ({there[name]!r} there)" for name, value in self.preset.options.items())
        differs = " ".join(self.preset.differs.split()).removeprefix(self.summary).strip()
        parts = (self.summary, differs, f"Preset of `{self.preset_of}`: {sets}.", own)
        return "\n\n".join(part for part in parts if part)

    @property
    def summary(self) -> str:
        """The first line of the docstring; of a preset, the first sentence of what differs."""
        return self.preset.summary if self.preset else (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def described(self) -> str:
        """The summary as lists show it: with the host of a preset, and with aliases."""
        host = f"Preset of {self.preset_of}: " if self.preset_of else ""
        return f"{host}{self.summary}" + (f" Also {', '.join(self.also)}." if self.also else "")

    @property
    def family(self) -> str:
        """The folder that its file is in: "self_training", "voting", "study", ..."""
        return self.path.parent.name

    @property
    def path(self) -> Path:
        """The file the method is written in."""
        return Path(inspect.getsourcefile(self.function) or "")

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """The keyword-only parameters, in order; a preset's have its own defaults."""
        own = self.preset.options if self.preset else {}
        return tuple(replace(o, default=own.get(o.name, o.default)) for o in _options(self.function))

    def bind(self, options: dict[str, Any]) -> dict[str, Any]:
        """All options: `options` over those of `with_options` over the defaults.

        Raises:
            BadInput: the method has no such option, a required one is missing, or a value is not one of the choices.
        """
        known = {option.name: option.default for option in self.options}
        for name in options:
            if name not in known:
                raise BadInput(f"{self.id} has no option {name!r}", where=f"--{name}", fix=suggest(name, known))
        bound = known | self.overrides | options
        for option in self.options:
            if bound[option.name] is REQUIRED:
                raise BadInput(
                    f"{self.id} needs option {option.name!r}", where=f"--{option.name}", fix="give it a value"
                )
            _check_choice(option, bound[option.name])
        return bound

    def check_values(self, options: Mapping[str, Any]) -> None:
        """Raise BadInput for a value that is not one of the choices of its option."""
        for option in _options(self.function, set(options)):
            _check_choice(option, options[option.name])

    def with_options(self, **options: Any) -> Method[P, R]:
        """A copy with other defaults and a name that shows them: `self-refine(turns=2)`.

        Raises:
            BadInput: the method has no such option.
        """
        default = {option.name: option.default for option in self.options}
        for name in (name for name in options if name not in default):
            raise BadInput(f"{self.id} has no option {name!r}", where=self.id, fix=suggest(name, default))
        other = copy(self)
        other.overrides = {n: value for n, value in (self.overrides | options).items() if not same(value, default[n])}
        return other

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:
        """Run the method.

        A recipe or study gets guarded views of the run and the task, without what it did not declare to need. A recipe
        stopped by the budget returns the champion.
        """
        call: Callable[..., Any] = self.function
        given, chosen = self._in_place(args, options)
        bound = self.bind(chosen)
        if self.shape == "solver":
            return call(*given, **bound)
        run = given[0]
        with run.method_scope(self, bound) as guarded:
            result = call(*(guarded(arg) for arg in given), **bound)
            require_lasting(self.id, result)
            return result
        return run.champion

    def _in_place(self, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Move parameters given by name to their positions; returns those and the remaining options."""
        missing = self._places[len(args) :]
        if not missing:
            return args, options
        if lacking := [name for name in missing if name not in options]:
            what = f"{self.id} needs {', '.join(lacking)}"
            raise BadInput(what, where=self.id, fix=f"pass {', '.join(self._places)} by position or by name")
        rest = {name: value for name, value in options.items() if name not in missing}
        return (*args, *(options[name] for name in missing)), rest

    @cached_property
    def _places(self) -> tuple[str, ...]:
        """Names of the required positional parameters, such as run, base and task."""
        found = inspect.signature(self.function).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return tuple(p.name for p in found if p.kind in kinds and p.default is REQUIRED)

    def __repr__(self) -> str:
        return f"<{self.shape} {solver_name(self)}>"


def _options(function: Callable[..., Any], only: Set[str] | None = None) -> tuple[Option, ...]:
    """The keyword-only parameters, or those of them whose names are in `only`; only their types are resolved."""
    docs = _option_docs(inspect.getdoc(function) or "")
    mine = [p for p in keyword_only(function) if only is None or p.name in only]
    return tuple(Option(p.name, _kind(p, function), p.default, docs.get(p.name, "")) for p in mine)


def _check_choice(option: Option, value: Any) -> None:
    """Raise BadInput for a value that is not among the choices of a `Literal`, or of `Literal[...] | None`."""
    alternatives = get_args(option.kind) if get_origin(option.kind) in (Union, UnionType) else (option.kind,)
    if not any(get_origin(kind) is Literal for kind in alternatives):
        return
    choices = [one for kind in alternatives for one in (get_args(kind) if get_origin(kind) is Literal else (None,))]
    if value not in choices:
        expected = ", ".join(map(repr, choices))
        fix = suggest(value, [one for one in choices if isinstance(one, str)]) if isinstance(value, str) else ""
        raise BadInput(f"must be one of {expected}, got {value!r}", where=option.name, fix=fix)


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


class _Decorator(Protocol):
    """What `solver`, `recipe` and `study` are."""

    def __call__(
        self,
        *,
        paper: str = "",
        needs: tuple[Need, ...] = (),
        claim: Claim | None = None,
        presets: Mapping[str, Preset] | None = None,
        also: tuple[str, ...] = (),
    ) -> Callable[[Callable[P, R]], Method[P, R]]:
        """Declare a method; see `Method` for what is given."""
        ...


def _decorator(shape: Shape) -> _Decorator:
    def configured(
        *, paper: str = "", needs: tuple[Need, ...] = (), claim: Claim | None = None,
        presets: Mapping[str, Preset] | None = None, also: tuple[str, ...] = (),
    ) -> Callable[[Callable[P, R]], Method[P, R]]:  # fmt: skip
        return lambda function: Method(function, shape, paper, needs, claim, presets=presets, also=also)

    return configured


solver = _decorator("solver")
recipe = _decorator("recipe")
study = _decorator("study")
