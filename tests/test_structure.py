"""The structure of the package: which way imports point, and what the top offers."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import selftaught

ROOT = Path(selftaught.__file__).parent
MODULES = {
    ".".join(("selftaught", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def imported(body: list[ast.stmt]) -> Iterator[str]:
    """The modules that a body imports when it runs: not what stands in functions or for type checkers alone."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imported(node.orelse)
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            yield from imported(node.body)


def edges() -> dict[str, set[str]]:
    """Module -> the modules it loads, the packages around those included."""
    found = {}
    for name, path in MODULES.items():
        loads = {m for m in imported(ast.parse(path.read_text("utf-8")).body) if m in MODULES}
        around = {m.rsplit(".", n)[0] for m in loads for n in range(1, m.count(".") + 1)} & set(MODULES)
        found[name] = {m for m in loads | around if m != name and not name.startswith(f"{m}.")}
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some circle of a graph, or nothing."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for after in sorted(graph[node]):
            if found := walk(after, [*way, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_no_imports_go_in_a_circle_at_run_time() -> None:
    assert circle(edges()) == []


def test_no_part_imports_a_method() -> None:
    parts = {n: m for n, m in edges().items() if not n.startswith(("selftaught.methods", "selftaught.cli"))}
    assert {n: m for n, m in parts.items() if any(one.startswith("selftaught.methods") for one in m)} == {}


def test_every_name_of_the_top_loads_and_none_is_a_module() -> None:
    modules = {name.split(".")[1] for name in MODULES if name.count(".") == 1}
    assert not modules & set(selftaught.__all__)
    assert all(getattr(selftaught, name) is not None for name in selftaught.__all__)
    assert set(selftaught.__all__) == set(dir(selftaught))


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def length(node: ast.FunctionDef | ast.AsyncFunctionDef, *, docstring: bool = True) -> int:
    """Lines of a function, its signature included."""
    doc = node.body[0] if ast.get_docstring(node) is not None and not docstring else None
    return node.end_lineno - node.lineno + 1 - (doc.end_lineno - doc.lineno + 1 if doc else 0)


def p90(values: list[int]) -> int:
    return sorted(values)[int(0.9 * len(values))]


def test_functions_and_files_are_short() -> None:
    texts = {name: path.read_text("utf-8") for name, path in MODULES.items()}
    assert p90([length(one) for text in texts.values() for one in functions(ast.parse(text))]) <= 20
    assert p90([len(text.splitlines()) for text in texts.values()]) <= 260


def test_the_run_is_a_facade_of_short_verbs_over_short_files() -> None:
    files = {name: path for name, path in MODULES.items() if name.startswith("selftaught.run.")}
    assert [name for name, path in files.items() if len(path.read_text("utf-8").splitlines()) > 300] == []
    for name, kind in (("run", "Run"), ("session", "RunSession")):
        tree = ast.parse(files[f"selftaught.run.{name}"].read_text("utf-8"))
        (run,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind)
        assert {one.name: n for one in functions(run) if (n := length(one, docstring=False)) > 12} == {}


def test_every_command_has_a_file_of_one_convention() -> None:
    from selftaught.cli.main import COMMANDS

    for command in COMMANDS:
        module = import_module(f"selftaught.cli.{command}")
        assert list(inspect.signature(module.add_arguments).parameters) == ["parser"]
        assert list(inspect.signature(module.execute).parameters) == ["call"]


def test_importing_the_top_loads_nothing_else() -> None:
    code = "import sys, selftaught; print([m for m in sys.modules if m.startswith('selftaught.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def members_of(tree: ast.ClassDef, classes: dict[str, list[ast.ClassDef]]) -> set[str]:
    """What a class defines, itself or in a base of the package: methods, fields, and attributes of `self`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    for base in (classes.get(ast.unparse(base)) for base in tree.bases):
        found |= set().union(*(members_of(one, classes) for one in base or [] if one is not tree))
    return found


def test_source_text_names_members_that_exist() -> None:
    """Each `Class.member` and `module.name` in a docstring or comment of the package exists there."""
    texts = {name: path.read_text("utf-8") for name, path in MODULES.items()}
    classes: dict[str, list[ast.ClassDef]] = {}
    known: dict[str, set[str]] = {}
    for name, text in texts.items():
        for node in (tree := ast.parse(text)).body:
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(node)
        bound = {getattr(node, "name", None) or getattr(node, "id", "") for node in ast.walk(tree)}
        bound |= {getattr(node, "asname", None) or "" for node in ast.walk(tree)}
        known.setdefault(name.rpartition(".")[2], set()).update(bound)
    for name, trees in classes.items():
        known.setdefault(name, set()).update(*(members_of(tree, classes) for tree in trees))
    known["run"] |= known["Run"]  # a variable in the text of most of them
    known |= {stem: known[stem] | {n.rpartition(".")[2] for n in MODULES if f".{stem}." in n} for stem in known}
    found = 0
    for module, text in texts.items():
        for owner, member in re.findall(r"`(?:[\w.]*\.)?(\w+)\.(\w+)`", text):
            if member in ("sqlite", "html", "json", "jsonl", "py"):  # a file's name
                continue
            if owner in known and (owner[0].isupper() or f"selftaught.{owner}" in MODULES):
                assert member in known[owner], f"{module}: {owner}.{member}"
                found += 1
    assert found > 60
