"""The identity of a solver: a readable name, and a hash that distinguishes it from other solvers."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
import types
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput
from selftaught.feedback.userfile import SOURCE
from selftaught.models.policy import Policy
from selftaught.records import HIDDEN, content_hash

SHOWN = 40  # characters of an option's value shown in a name
FIX = "give it an id, or use method.with_options"
_ATOMS = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of a solver, or of another function that affects results.

    Attributes:
        name: readable: `self-refine(turns=2)`, `two(hint=" Hint")`.
        label: part of attempts' keys: the name, with a hash of the options if there are any.
        key: content hash of name and options; for functions that no module holds by name, also of code and captured
            values.
        ambiguity: why it cannot be distinguished from others; empty if it can.
    """

    name: str
    label: str
    key: str
    ambiguity: str = ""


@dataclass(slots=True)
class _Parts:
    base: str
    options: dict[str, Any] = field(default_factory=dict)
    facts: list[Any] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def identify(solver: Any) -> Identity:
    """The identity of a solver; "policy" for None."""
    if solver is None:
        return Identity("policy", "policy", "policy")
    try:
        parts = _parts(solver)
    except RecursionError:  # it captures itself
        name = getattr(solver, "__name__", type(solver).__name__)
        return Identity(name, name, name, "what it captures refers to itself")
    shown = {name: _plain(value, name, parts.doubts) for name, value in parts.options.items()}
    inside = ", ".join(f"{name}={_short(value)}" for name, value in shown.items())
    label = f"{parts.base}-{content_hash(shown)[:8]}" if shown else parts.base
    key = content_hash(parts.base, shown, parts.facts)
    return Identity(f"{parts.base}({inside})" if inside else parts.base, label, key, "; ".join(parts.doubts))


def unwrap(solver: Any) -> Any:
    """The solver inside any `functools.partial`."""
    while isinstance(solver, partial):
        solver = solver.func
    return solver


def require_identity(solver: Any, what: str) -> Identity:
    """The identity of a solver, where results depend on it.

    Args:
        what: what depends on it, for the message.

    Raises:
        BadInput: it cannot be distinguished from others.
    """
    found = identify(solver)
    if found.ambiguity:
        raise BadInput(f"{what} must tell it from other solvers, but {found.ambiguity}", where=found.name, fix=FIX)
    return found


def solver_name(solver: Any) -> str:
    """The name of a solver in labels and messages; "policy" for None."""
    return identify(solver).name


def _parts(solver: Any) -> _Parts:
    from selftaught.method import Method

    if isinstance(solver, Method):
        mine = _function(solver.function)
        if solver.preset:
            mine.facts.append(_plain(solver.preset.options, "options of the preset", mine.doubts))
        return _Parts(solver.id, dict(solver.overrides), mine.facts, mine.doubts)
    if isinstance(solver, partial):
        inner = _parts(solver.func)
        given = {**{f"argument {i}": value for i, value in enumerate(solver.args, 1)}, **solver.keywords}
        if isinstance(solver.func, Method):
            given = solver.func.with_options(**given).overrides
        return _Parts(inner.base, inner.options | given, inner.facts, inner.doubts)
    if own := getattr(solver, "id", None):
        options = getattr(solver, "options", {})
        return _Parts(str(own), dict(options) if isinstance(options, Mapping) else {})
    if isinstance(solver, types.MethodType):
        owner = _parts(solver.__self__)
        return _Parts(solver.__func__.__qualname__, {}, [owner.base, owner.options, *owner.facts], owner.doubts)
    if isinstance(solver, types.FunctionType):
        return _function(solver)
    return _object(solver)


def _function(function: Callable[..., Any]) -> _Parts:
    """A function: by its module and name if the module holds it, otherwise by its code and captured values."""
    name = getattr(function, "__qualname__", type(function).__name__)
    parts = _Parts(getattr(function, "__name__", name).replace("<lambda>", "lambda"))
    parts.facts += [getattr(function, "__module__", ""), name]
    code = getattr(function, "__code__", None)
    if code is None or (function.__module__ != "__main__" and _in_module(function)):
        return parts
    cells = zip(code.co_freevars, getattr(function, "__closure__", None) or (), strict=False)
    seen = {what: _content(cell) for what, cell in cells}
    defaults = getattr(function, "__defaults__", None) or ()
    seen |= {f"default {i}": value for i, value in enumerate(defaults)}
    seen |= dict(getattr(function, "__kwdefaults__", None) or {})
    parts.facts += [_code(code), {what: _plain(value, what, parts.doubts) for what, value in seen.items()}]
    around = {what: function.__globals__[what] for what in _names(code) if what in function.__globals__}
    parts.facts.append({what: value for what, value in around.items() if isinstance(value, _ATOMS)})
    return parts


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _in_module(function: Any) -> bool:
    """Whether its module holds the function under its own name."""
    held: Any = sys.modules.get(function.__module__)
    for step in function.__qualname__.split("."):
        held = getattr(held, step, None)
    return held is function or getattr(held, "function", None) is function


def _code(code: types.CodeType) -> list[Any]:
    constants = [_code(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), list(code.co_freevars), constants]


def _constant(value: Any) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _names(code: types.CodeType) -> list[str]:
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c)]
    return [*code.co_names, *inner]


def _object(solver: Any) -> _Parts:
    """An object without an id: by its class and attributes."""
    kind = type(solver)
    parts = _Parts(kind.__name__, {}, [kind.__module__, kind.__qualname__])
    names = solver.__dataclass_fields__ if is_dataclass(solver) else getattr(solver, "__dict__", {})
    parts.facts.append({name: _plain(getattr(solver, name), name, parts.doubts) for name in names})
    return parts


def _plain(value: Any, what: str, doubts: list[str]) -> Any:
    """A value as plain data; where it is none, `doubts` learns of it."""
    if isinstance(value, Enum):
        return [type(value).__qualname__, value.name]
    if isinstance(value, _ATOMS):
        return value
    if value is HIDDEN:
        return None
    if isinstance(value, Policy):
        return value.version  # the same weights may lie anywhere
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return [[_plain(k, what, doubts), _plain(v, what, doubts)] for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(v, what, doubts) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(_plain(v, what, doubts), default=str) for v in value)
    if isinstance(value, type | types.ModuleType):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
    if is_dataclass(value) or callable(value):
        inner = _parts(value)
        doubts += [f"{what}: {doubt}" for doubt in inner.doubts]
        return [inner.base, _plain(inner.options, what, doubts), inner.facts]
    doubts.append(f"{what} is a {type(value).__name__}, which is not plain data")
    return type(value).__name__


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


# --- the code of a method ---

DECLARING = ("recipe", "solver", "judge", "study")  # decorators that say what a function is, and change nothing in it


def code_hash(function: Callable[..., Any]) -> str:
    """Hash of a function's source and of what it uses from its module, without comments and docstrings.

    If there is no source, hash of the function's bytecode.
    """
    try:
        if not _in_module(function):
            return content_hash(ast.dump(_stripped(ast.parse(textwrap.dedent(inspect.getsource(function))))))
        module = ast.parse(_module_source(sys.modules[function.__module__]))
    except (OSError, TypeError, KeyError, SyntaxError):
        return content_hash(_code(function.__code__))
    held = {name: node for node in module.body for name in _binds(node)}
    taken: dict[str, str] = {}
    waiting = [function.__name__]
    while waiting:
        name = waiting.pop()
        if name in taken or name not in held:
            continue
        code = _stripped(held[name])
        taken[name] = ast.dump(code)
        waiting += [node.id for node in ast.walk(code) if isinstance(node, ast.Name)]
    return content_hash(taken)


def _module_source(module: types.ModuleType) -> str | bytes:
    """The source of a module; of a user's file that which was imported, as the file may have changed since."""
    return getattr(module, SOURCE, None) or inspect.getsource(module)


def class_hash(kind: type) -> str:
    """Hash of the code of a class and of those that it inherits from, as `code_hash` takes it of a function."""
    return content_hash([_class_code(one) for one in kind.__mro__ if one.__module__ not in ("builtins", "typing")])


def _class_code(kind: type) -> Any:
    try:
        inspect.getsource(kind)
    except (OSError, TypeError):  # typed in, or made at runtime
        made = {name: getattr(held, "__code__", None) for name, held in vars(kind).items()}
        return {name: _code(code) for name, code in made.items() if code}
    return code_hash(kind)


def _binds(node: ast.stmt) -> list[str]:
    """The names that a module-level statement binds, except imports."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)]


def _stripped(node: ast.AST) -> ast.AST:
    """The syntax tree of a statement, without docstrings, and without what declares a method: its claim and paper."""
    node = deepcopy(node)
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner.decorator_list = [one for one in inner.decorator_list if _last_name(one) not in DECLARING]
            if ast.get_docstring(inner, clean=False) is not None:
                inner.body = inner.body[1:]
    return node


def _last_name(decorator: ast.expr) -> str:
    """`recipe` of `@recipe`, `@recipe(...)` and `@st.recipe(...)`."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


# --- solvers that change while they run ---


def public_state(solver: Any) -> dict[str, tuple[Any, Any]]:
    """The public attributes of a solver, to compare after it has run; a function has none."""
    from selftaught.method import Method

    solver = unwrap(solver)
    if solver is None or isinstance(solver, types.FunctionType | types.MethodType | Method):
        return {}
    kept = {n: v for n, v in getattr(solver, "__dict__", {}).items() if n[:1] != "_"}
    return {
        name: (value, _size(value)) for name, value in kept.items()
        if not isinstance(getattr(type(solver), name, None), cached_property)
    }  # fmt: skip


def check_unchanged(solver: Any, before: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse a solver that stores results in itself: concurrent calls share it, and most would be lost.

    Raises:
        BadInput: an attribute was replaced, or has grown.
    """
    for name, (value, size) in public_state(solver).items():
        old, length = before.get(name, (None, None))
        if (value is old or (isinstance(value, _ATOMS) and value == old)) and size == length:
            continue
        raise BadInput(
            f"it changes its attribute {name!r} while it runs, which calls share and a rerun does not restore",
            where=identify(solver).name,
            fix="return Solution(attempt, data), and get the data from run.search",
        )


def _size(value: Any) -> int | None:
    return len(value) if isinstance(value, list | dict | set | bytearray) else None
