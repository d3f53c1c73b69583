"""Finding methods: by their file, and presets and aliases by the file that declares them; nothing is registered.

`find` imports one file only. A method is in the file of its name, as all in the package are. For the id of a preset or
an alias, the text of all files is searched, and only files that hold the id in quotes are imported.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput, suggest
from selftaught.feedback.userfile import import_source, read_names

if TYPE_CHECKING:
    from selftaught.method import Method

ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""Lowercase words joined by dashes."""
MAKERS = ("solver", "judge", "recipe", "study", "with_options")
"""What makes a method."""


def methods() -> dict[str, Method]:
    """All methods of the package by id, presets included, found by importing the modules under `selftaught.methods`.

    Raises:
        BadInput: two methods have the same id, or a preset is wrong.
    """
    return {name: method for name, method in names().items() if name == method.id}


@cache
def names() -> dict[str, Method]:
    """All names under which a method of the package is found, sorted: ids and aliases."""
    package = importlib.import_module("selftaught.methods")
    found: dict[str, Method] = {}
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.ispkg:
            for name, method in names_of(importlib.import_module(module.name)).items():
                _add(found, name, method)
    return dict(sorted(found.items()))


def names_of(module: Any) -> dict[str, Method]:
    """The methods that a module defines, with their presets and aliases, by name.

    Raises:
        BadInput: two have the same name.
    """
    from selftaught.method import Method

    found: dict[str, Method] = {}
    for value in list(vars(module).values()):
        if isinstance(value, Method) and value.function.__module__ == module.__name__:
            for name, method in ({value.id: value} | dict.fromkeys(value.also, value) | value.presets_by_id).items():
                _add(found, name, method)
    return found


def _add(found: dict[str, Method], name: str, method: Method) -> None:
    other = found.get(name)
    if other is not None and (other.function, other.id) != (method.function, method.id):
        first = location(other.function)
        raise BadInput(f"{name!r} is declared in {first} too", where=location(method.function), fix="choose another id")
    found.setdefault(name, method)


def location(function: Callable[..., Any]) -> str:
    """`file:line` of a function, its decorators included."""
    return f"{inspect.getsourcefile(function)}:{function.__code__.co_firstlineno}"


def find(name: str) -> Method:
    """Find a method, preset or alias by its id, or by `file.py:function`.

    Raises:
        BadInput: there is none; the message suggests the nearest names.
    """
    if name.endswith(".py") or name.rpartition(":")[0].endswith(".py"):
        return _in_user_file(name)
    wanted = name.replace("_", "-")
    if (found := lookup(wanted) or names().get(wanted)) is not None:
        return found
    raise BadInput(f"unknown method {name!r}", where="method", fix=suggest(wanted, names(), listed=methods()))


def lookup(wanted: str) -> Method | None:
    """The method of the package whose id or alias stands in some file; None if there is none. Imports that file alone.

    Raises:
        BadInput: two files declare it.
    """
    if not ID.fullmatch(wanted):
        return None
    files = _files(_roots())
    if path := files.get(wanted.replace("-", "_")):
        found = names_of(importlib.import_module(_module_of(path)))
        if wanted in found:
            return found[wanted]
    for candidates in _candidates(wanted, files.values()):
        found = {}
        for path in candidates:
            own = names_of(importlib.import_module(_module_of(path)))
            if wanted in own:
                _add(found, wanted, own[wanted])
        if found:
            return found[wanted]
    return None


def file_of(wanted: str) -> Path | None:
    """The file of the package whose name is the id of a method; None if there was none at the first call."""
    return _files_at_first(_roots()).get(wanted.replace("-", "_"))


def _files(roots: tuple[Path, ...]) -> dict[str, Path]:
    """Stem -> file, of all files with methods."""
    return {path.stem: path for root in roots for path in sorted(root.rglob("[!_]*.py"))}


_files_at_first = cache(_files)  # many presets are declared one after the other


def _roots() -> tuple[Path, ...]:
    return tuple(map(Path, importlib.import_module("selftaught.methods").__path__))


def _module_of(path: Path) -> str:
    root = next(root for root in _roots() if path.is_relative_to(root))
    return ".".join(("selftaught", "methods", *path.relative_to(root).with_suffix("").parts))


def _candidates(wanted: str, files: Iterable[Path]) -> Iterator[list[Path]]:
    """Files whose text seems to declare a preset or alias, then others that hold its id in quotes."""
    quoted = _quoted(wanted)
    declared = re.compile(rf"{quoted}\s*:|\balso\s*=\s*[(\[][^)\]]*{quoted}")
    texts = {path: path.read_text("utf-8") for path in files}
    likely = [path for path, text in texts.items() if declared.search(text)]
    yield likely
    yield [path for path, text in texts.items() if path not in likely and re.search(quoted, text)]


def _in_user_file(name: str) -> Method:
    from selftaught.method import Method

    path, _, function = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    wanted, as_id = function.replace("-", "_"), function.replace("_", "-")
    source, defined = read_names(path, wanted, what="method")
    text = source.decode("utf-8", "replace")
    if wanted in defined or re.search(_quoted(as_id), text):
        module = import_source(path, source)
        found = names_of(module)
        if isinstance(method := getattr(module, wanted, None) or found.get(as_id), Method):
            return method
    if wanted in defined:
        raise BadInput(f"{function!r} is not a method", where=path, fix="decorate it with @recipe or @solver")
    there = _methods_in(text)
    fix = suggest(wanted, there) if there else "decorate one with @recipe or @solver"
    raise BadInput(f"no function {wanted!r} in the method's file", where=path, fix=fix)


def _quoted(name: str) -> str:
    return rf"""["']{re.escape(name)}["']"""


def _methods_in(source: str) -> list[str]:
    """The names of the methods, presets and aliases that a file defines, read without running it."""
    found = _declared(source)
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [node.name] if any(map(_makes_method, node.decorator_list)) else []
        elif isinstance(node, ast.Assign) and _makes_method(node.value):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return found


def _makes_method(node: ast.expr) -> bool:
    """Whether it is a call such as `solver(...)`, `st.recipe(...)` or `method.with_options(...)`."""
    while isinstance(node, ast.Call):
        node = node.func
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in MAKERS


def _declared(source: str) -> list[str]:
    """The ids of presets and aliases in a file, read without running it."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "also" and isinstance(node.value, ast.Tuple | ast.List):
            found += node.value.elts
        elif isinstance(node, ast.keyword) and node.arg == "presets" and isinstance(node.value, ast.Dict):
            found += node.value.keys
    return [key.value for key in found if isinstance(key, ast.Constant) and isinstance(key.value, str)]
