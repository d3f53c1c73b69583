"""Which methods a change of code touches: a hash of a method's source and of the parts that it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import selftaught
from selftaught.check.legs import Baseline
from selftaught.check.reading import is_older, read_result
from selftaught.check.results import result_path
from selftaught.method import Method, find
from selftaught.records import content_hash

ROOT = Path(selftaught.__file__).parent
PARTS = frozenset({"control", "curate", "feedback", "learn", "measure", "methods", "refine", "routines", "search"})
"""Packages that are followed: what methods are made of. The frame that runs them (run, engines, ...) is not."""


def is_changed(method: Method, folder: Path, world: str) -> bool:
    """Whether a method has no result in `folder`, an older one, or one of other code."""
    found = read_result(result_path(folder, method.id, world))
    return found is None or is_older(found) or found["versions"].get("code") != parts_hash(method)


def parts_hash(method: Method, also: Sequence[Path] = ()) -> str:
    """Hash of the code of a method, of its baselines' methods, and of the parts that they import, directly or not.

    Of a method in a file of the user's, the modules beside that file count too. Comments, docstrings and layout do not
    change it.

    Args:
        also: further files, which count with the parts that they import.
    """
    rivals = method.claim.all_baselines.values() if method.claim else ()
    methods = [method, *(find(one.method) for one in rivals if isinstance(one, Baseline) and one.method)]
    files: dict[str, str] = {}
    waiting = [*(one.path.resolve() for one in methods), *also]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        if name not in files:
            files[name], imported = _read(path)
            waiting += imported
    return content_hash(files)[:12]


@cache
def _read(path: Path) -> tuple[str, list[Path]]:
    """Hash of a file's code, and the files of the parts that it imports."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    beside = {} if path.is_relative_to(ROOT) else {file.stem: file for file in path.parent.glob("*.py")}
    own = {beside[name] for name in _modules(tree) if name in beside}
    return content_hash(ast.dump(tree)), sorted({file for name in _imports(tree) for file in _files(name)} | own)


def _modules(tree: ast.AST) -> Iterator[str]:
    """Names of the top-level modules that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from [node.module.partition(".")[0]] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)


def _imports(tree: ast.AST) -> Iterator[str]:
    """Modules of this package that a file imports; names of `selftaught` itself stand for their homes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "selftaught":
            yield node.module
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
                if node.module == "selftaught" and alias.name in selftaught._WHERE:
                    yield f"selftaught.{selftaught._WHERE[alias.name][0]}"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("selftaught"))


def _files(name: str) -> list[Path]:
    """The file of a module of the parts; none for others."""
    package, *rest = name.split(".")[1:] or [""]
    if package not in PARTS:
        return []
    place = ROOT / package
    for part in rest:
        place /= part
    found = [place.with_suffix(".py"), place / "__init__.py"]
    return [one for one in found if one.is_file()]
