"""Load a function from a user's Python file, given as `my_file.py:function`."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput, suggest

SOURCE = "__selftaught_source__"  # attribute of such a module: the bytes that it was made from
USER_MODULE = "_selftaught_user_"  # how the names of the modules of users' files begin


def is_user_module(name: str | None) -> bool:
    """Whether a module of that name is a user's file."""
    return (name or "").startswith(USER_MODULE)


def is_userfile(spec: str) -> bool:
    """Whether `spec` names a Python file: `my_file.py` or `my_file.py:function`."""
    path, _, name = spec.rpartition(":")
    return spec.endswith(".py") or (path.endswith(".py") and name.replace("-", "_").isidentifier())


def load_function(spec: str, *, what: str) -> tuple[Callable[..., Any], str]:
    """Import `my_file.py:function`; returns the function and a hash of the file's content.

    Args:
        spec: the file and the function in it. Runs the file, as `import` does.
        what: purpose of the function ("verifier", "task"), for messages.

    Raises:
        BadInput: no such file or function, or the file raises when it is imported.
    """
    path, _, name = (spec, "", "") if spec.endswith(".py") else spec.rpartition(":")
    source, functions = read_names(path, name, what=what)
    if name not in functions:
        missing = f"no function {name!r} in the {what}'s file"
        raise BadInput(missing, where=path, fix=suggest(name, functions))
    return getattr(import_source(path, source), name), _digest(source)


def import_source(path: str, source: bytes) -> Any:
    """The module of a user's file with that content. Runs it, as `import` does. Raises BadInput if it raises."""
    return _import(Path(path), source)


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()[:12]


def read_names(path: str, name: str, *, what: str) -> tuple[bytes, list[str]]:
    """The source of a user's file, and the names it defines.

    Args:
        path: the file; it is not run.
        name: what is wanted of it.
        what: see `load_function`.

    Raises:
        BadInput: the file cannot be read or is not Python, or `name` is empty.
    """
    file = Path(path)
    try:
        source = file.read_bytes()
    except OSError as e:
        siblings = [p.name for p in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise BadInput(
            f"cannot read the {what}'s file: {e.strerror}",
            where=path,
            fix=suggest(file.name, siblings) if siblings else "",
        ) from e
    functions = _functions(source, path)
    if not name:
        fix = f"write {path}:{functions[0] if functions else 'function'}"
        raise BadInput(f"which function? in the {what}'s file", where=path, fix=fix)
    return source, functions


def _functions(source: bytes, path: str) -> list[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as e:
        raise BadInput(f"not valid Python: {e}", where=f"{path}:{getattr(e, 'lineno', None) or 1}") from e
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [node.name for node in tree.body if isinstance(node, named)]
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names += [t.id for t in node.targets if isinstance(t, ast.Name)]
        if isinstance(node, ast.ImportFrom):
            names += [a.asname or a.name for a in node.names]
    return names


def _import(file: Path, source: bytes) -> Any:
    """The module of a user's file, imported once per content; can import files in its folder.

    It remembers its source (`SOURCE`), as the file may change while this process goes on.
    """
    name = f"{USER_MODULE}{file.stem}_{_digest(source)}"
    if name in sys.modules:
        return sys.modules[name]
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    setattr(module, SOURCE, source)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        del sys.modules[name]
        if isinstance(e, BadInput) and e.where.startswith(f"{file}:"):
            raise
        raise BadInput(f"the file raises {type(e).__name__}: {e}", where=error_location(e, file)) from e
    return module


def error_location(error: BaseException, file: Path) -> str:
    """`file:line` of the innermost line of `file` in an exception's traceback."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == file.name]
    return f"{file}:{lines[-1]}" if lines else str(file)
