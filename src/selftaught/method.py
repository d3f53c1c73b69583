"""Methods: plain functions with one of four decorators, found by their file, never registered.

- `solver`: `async (ask, problem, *, ...) -> Attempt`, one problem at test time;
- `judge`: `async (ask, attempt, *, ...) -> Feedback`, or of several attempts at one problem, a tuple of feedback;
- `recipe`: `(run, base, task, *, ...) -> Policy`, many problems, new weights;
- `study`: `(run, policy, task, *, ...) -> StudyReport`, a published finding reproduced.

The keyword-only parameters are the method's options, with the paper's values as defaults. A method also declares what
its paper claims (`claim=Claim(...)`), which `selftaught check` tests.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cache, cached_property, update_wrapper
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from selftaught.check.claim import Claim
from selftaught.errors import BadInput, suggest
from selftaught.feedback.userfile import load_function
from selftaught.identity import solver_name

Shape = Literal["solver", "judge", "recipe", "study"]
Need = Literal["verifier", "reference", "dev"]
REQUIRED = inspect.Parameter.empty
PAPER = re.compile(r"\d{4}\.\d{4,5}|https://[^\s\"'\\<>{}|]+")
"""An arXiv number or an address."""


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


class Method:
    """A decorated function: callable as before, with its id, options, needs and claim.

    Attributes:
        id: the function's name with dashes.
        shape: "solver", "judge", "recipe" or "study".
        paper: arXiv number or URL of the source.
        needs: "verifier" (its choices use verdicts), "reference" (it reads the reference answers of train problems),
            "dev" (a study that reads verdicts on dev problems).
        claim: what its paper claims, as `selftaught check` tests it, or None.
        overrides: the options set by `with_options` that differ from the defaults.
    """

    def __init__(
        self, function: Callable[..., Any], shape: Shape, paper: str, needs: tuple[Need, ...], claim: Claim | None
    ) -> None:
        self.function, self.paper, self.needs, self.claim = function, paper, needs, claim
        self.shape: Shape = shape
        self.id = function.__name__.replace("_", "-")
        self.overrides: dict[str, Any] = {}
        update_wrapper(self, function)
        if "dev" in needs and shape != "study":
            raise BadInput("only studies may need verdicts on dev", where=self.id, fix='remove "dev" from needs')

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

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
        """The keyword-only parameters, in order."""
        docs = _option_docs(inspect.getdoc(self.function) or "")
        found = inspect.signature(self.function).parameters.values()
        mine = [p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]
        return tuple(Option(p.name, _kind(p, self.function), p.default, docs.get(p.name, "")) for p in mine)

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

    def with_options(self, **options: Any) -> Method:
        """A copy with other defaults and a name that shows them: `self-refine(turns=2)`.

        Raises:
            BadInput: the method has no such option.
        """
        default = {option.name: option.default for option in self.options}
        for name in (name for name in options if name not in default):
            raise BadInput(f"{self.id} has no option {name!r}", where=self.id, fix=suggest(name, default))
        other = copy(self)
        other.overrides = {n: value for n, value in (self.overrides | options).items() if not _same(value, default[n])}
        return other

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run the method.

        A recipe or study gets guarded views of the run and the task, without what it did not declare to need. A recipe
        stopped by the budget returns the champion.
        """
        args, options = self._in_place(args, options)
        bound = self.bind(options)
        if self.shape in ("solver", "judge"):
            return self.function(*args, **bound)
        run = args[0]
        with run.method_scope(self, bound) as guarded:
            return self.function(*(guarded(arg) for arg in args), **bound)
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
        where = f"{inspect.getsourcefile(function)}:{function.__code__.co_firstlineno}"
        raise BadInput(
            f"cannot resolve the type {stated!r} of option {parameter.name!r} ({error})", where=where
        ) from None


def _option_docs(doc: str) -> dict[str, str]:
    """Descriptions of the parameters in the `Args:` section of a docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    found = re.findall(r"^ {4}(\w+): ((?:.*\n?)(?:^ {8}.*\n?)*)", section.group(1) if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _decorator(shape: Shape) -> Callable[..., Callable[[Callable[..., Any]], Method]]:
    def configured(
        *, paper: str = "", needs: tuple[Need, ...] = (), claim: Claim | None = None
    ) -> Callable[[Callable[..., Any]], Method]:
        return lambda function: Method(function, shape, paper, needs, claim)

    return configured


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default


solver = _decorator("solver")
judge = _decorator("judge")
recipe = _decorator("recipe")
study = _decorator("study")


@cache
def methods() -> dict[str, Method]:
    """All methods of the package by id, found by importing the modules under `selftaught.methods`."""
    package = importlib.import_module("selftaught.methods")
    found: dict[str, Method] = {}
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.ispkg:
            found |= _of(importlib.import_module(module.name))
    return dict(sorted(found.items()))


def _of(module: Any) -> dict[str, Method]:
    mine = (v for v in vars(module).values() if isinstance(v, Method) and v.function.__module__ == module.__name__)
    return {method.id: method for method in mine}


def _of_its_file(wanted: str) -> Method | None:
    """The method whose file has its name, as all in the package do; imports only that file."""
    package = importlib.import_module("selftaught.methods")
    if not re.fullmatch(r"[a-z0-9-]+", wanted):
        return None
    for root in map(Path, package.__path__):
        for path in root.rglob(f"{wanted.replace('-', '_')}.py"):
            parts = path.relative_to(root).with_suffix("").parts
            if found := _of(importlib.import_module(".".join((package.__name__, *parts)))).get(wanted):
                return found
    return None


def find(name: str) -> Method:
    """Find a method by its id, or by `file.py:function`.

    Raises:
        BadInput: there is none; the message suggests the nearest names.
    """
    if name.endswith(".py") or name.rpartition(":")[0].endswith(".py"):
        return _from_file(name)
    wanted = name.replace("_", "-")
    if (found := _of_its_file(wanted)) is not None:
        return found
    known = methods()
    if wanted not in known:
        raise BadInput(f"unknown method {name!r}", where="method", fix=suggest(wanted, known))
    return known[wanted]


def _from_file(name: str) -> Method:
    path, colon, function = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    found, _ = load_function(path + colon + function.replace("-", "_"), what="method")
    if not isinstance(found, Method):
        raise BadInput(f"{function!r} is not a method", where=path, fix="decorate it with @recipe or @solver")
    return found
