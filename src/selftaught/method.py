"""Methods: plain functions with one of four decorators, found by their file, never registered.

- `solver`: `async (ask, problem, *, ...) -> Attempt`, one problem at test time;
- `judge`: `async (ask, attempt, *, ...) -> Feedback`, or of several attempts at one problem, a tuple of feedback;
- `recipe`: `(run, base, task, *, ...) -> Policy`, many problems, new weights;
- `study`: `(run, policy, task, *, ...) -> StudyReport`, a published finding reproduced.

The keyword-only parameters are the method's options, with the paper's values as defaults. A method also declares what
its paper claims (`claim=Claim(...)`), which `selftaught check` tests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar

from selftaught.check.claim import Claim
from selftaught.discovery import find, methods, names
from selftaught.errors import BadInput, suggest
from selftaught.identity import solver_name
from selftaught.models.policy import require_lasting
from selftaught.options import REQUIRED, Option, check_choice, options_of, same
from selftaught.presets import NEEDS, PAPER, Need, Preset, check_needs, check_presets

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
    "judge",
    "methods",
    "names",
    "recipe",
    "solver",
    "study",
]

Shape = Literal["solver", "judge", "recipe", "study"]
P = ParamSpec("P")
R = TypeVar("R")


class Method(Generic[P, R]):
    """A decorated function: callable as before, with its id, options, needs and claim.

    Attributes:
        id: the function's name with dashes; of a preset, the id it is declared by.
        shape: "solver", "judge", "recipe" or "study".
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
        there = {o.name: o.default for o in options_of(self.function)}
        sets = ", ".join(f"`{name}={value!r}` ({there[name]!r} there)" for name, value in self.preset.options.items())
        differs = " ".join(self.preset.differs.split()).removeprefix(self.summary).strip()
        parts = (self.summary, differs, f"Preset of `{self.preset_of}`: {sets}. The host:", own)
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
        return tuple(replace(o, default=own.get(o.name, o.default)) for o in options_of(self.function))

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
            check_choice(option, bound[option.name])
        return bound

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
        if self.shape in ("solver", "judge"):
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
judge = _decorator("judge")
recipe = _decorator("recipe")
study = _decorator("study")
