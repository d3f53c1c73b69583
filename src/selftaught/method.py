"""Methods: plain functions, marked by one of three decorators, found by looking, never registered.

- `solver`: `async (ask, problem, *, ...) -> Attempt`, one problem at test time;
- `recipe`: `(run, base, task, *, ...) -> Policy`, many problems, new weights;
- `study`: `(run, policy, task, *, ...) -> Report`, a published finding reproduced.

The keyword-only parameters are the method's configuration, their defaults the paper's.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, update_wrapper
from pathlib import Path
from typing import Any, Literal, get_type_hints

from selftaught.errors import BadInput, nearest

Shape = Literal["solver", "recipe", "study"]
Need = Literal["verifier", "reference"]


@dataclass(frozen=True, slots=True)
class Option:
    """One keyword-only parameter of a method: its name, type, default, and what the docstring says of it."""

    name: str
    kind: type
    default: Any
    help: str


class Method:
    """A decorated function: callable as it was, and carrying what others ask of it.

    Attributes:
        id: the function's name with dashes.
        shape: "solver", "recipe" or "study".
        paper: arXiv number or URL of the source.
        needs: "verifier" (its choices use verdicts), "reference" (it reads reference answers).
    """

    def __init__(self, function: Callable[..., Any], shape: Shape, paper: str, needs: tuple[Need, ...]) -> None:
        self.function, self.shape, self.paper, self.needs = function, shape, paper, needs
        self.id = function.__name__.replace("_", "-")
        update_wrapper(self, function)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def path(self) -> Path:
        """The file the method is written in."""
        return Path(inspect.getsourcefile(self.function) or "")

    @property
    def options(self) -> tuple[Option, ...]:
        """The keyword-only parameters, in order."""
        hints = get_type_hints(self.function)
        said = _said(inspect.getdoc(self.function) or "")
        found = inspect.signature(self.function).parameters.values()
        return tuple(
            Option(p.name, hints.get(p.name, str), p.default, said.get(p.name, ""))
            for p in found
            if p.kind is inspect.Parameter.KEYWORD_ONLY
        )

    def bind(self, options: dict[str, Any]) -> dict[str, Any]:
        """All options with their defaults filled in. Raises BadInput for one the method does not have."""
        known = {option.name: option.default for option in self.options}
        for name in options:
            if name not in known:
                raise BadInput(f"{self.id} has no option {name!r}", where=f"--{name}", fix=nearest(name, known))
        return known | options

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run the method; a recipe or study called on a run tells the run which method it is."""
        bound = self.bind(options)
        if self.shape == "solver":
            return self.function(*args, **bound)
        run, start, *rest = args
        with run.method(self, bound) as hidden:
            return self.function(run, start, *(hidden(arg) for arg in rest), **bound)

    def __repr__(self) -> str:
        return f"<{self.shape} {self.id}>"


def _said(doc: str) -> dict[str, str]:
    """What the `Args:` section of a docstring says of each parameter."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    found = re.findall(r"^ {4}(\w+): ((?:.*\n?)(?:^ {8}.*\n?)*)", section.group(1) if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _decorator(shape: Shape) -> Callable[..., Callable[[Callable[..., Any]], Method]]:
    def configured(*, paper: str = "", needs: tuple[Need, ...] = ()) -> Callable[[Callable[..., Any]], Method]:
        return lambda function: Method(function, shape, paper, needs)

    return configured


solver = _decorator("solver")
recipe = _decorator("recipe")
study = _decorator("study")


@cache
def methods() -> dict[str, Method]:
    """Every method of the package by id, found by importing the modules under `selftaught.methods`."""
    package = importlib.import_module("selftaught.methods")
    found: dict[str, Method] = {}
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.ispkg:
            found |= _of(importlib.import_module(module.name))
    return dict(sorted(found.items()))


def _of(module: Any) -> dict[str, Method]:
    mine = (v for v in vars(module).values() if isinstance(v, Method) and v.function.__module__ == module.__name__)
    return {method.id: method for method in mine}


def find(name: str) -> Method:
    """The method called `name`: an id, or `file.py:function` for one of the user's own.

    Raises:
        BadInput: there is none, with the nearest names.
    """
    path, _, function = name.rpartition(":")
    if path.endswith(".py"):
        return _from_file(Path(path), function.replace("-", "_"))
    known = methods()
    if name.replace("_", "-") not in known:
        raise BadInput(f"unknown method {name!r}", where="method", fix=nearest(name.replace("_", "-"), known))
    return known[name.replace("_", "-")]


def _from_file(path: Path, function: str) -> Method:
    if not path.is_file():
        raise BadInput("no such file", where=str(path), fix="give file.py:function")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file, any error in it is theirs to read
        raise BadInput(f"importing it failed ({type(error).__name__}: {error})", where=str(path)) from error
    found = _of(module)
    if function.replace("_", "-") not in found:
        hint = nearest(function, [m.function.__name__ for m in found.values()]) if found else "decorate it with @recipe"
        raise BadInput(f"no method {function!r} in it", where=str(path), fix=hint)
    return found[function.replace("_", "-")]
