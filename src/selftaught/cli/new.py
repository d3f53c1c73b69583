"""`selftaught new SHAPE NAME --paper ID`: the command."""

from __future__ import annotations

import argparse
import ast
import keyword
import re
import sys
from pathlib import Path
from typing import Any

import selftaught
from selftaught.cli.common import Call
from selftaught.discovery import lookup
from selftaught.errors import BadInput, suggest
from selftaught.machine.disk import write_error
from selftaught.method import PAPER
from selftaught.terminal import print_json, print_text

SHAPES = {"solver": "solve", "recipe": "improve", "judge": "judge", "study": "study"}
"""Shape -> the folder of its methods in the package."""
METHODS = Path("src", "selftaught", "methods")
LONGEST = 40
LONGEST_PAPER = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `new`."""
    shape = "solver: answers one problem; recipe: trains weights; judge: scores answers; study: reproduces a finding"
    parser.add_argument("shape", help=shape)
    parser.add_argument("name", help="method name, lowercase with dashes: best-of-n")
    parser.add_argument("--paper", required=True, metavar="ID", help="arXiv number (2312.06585) or https address")
    family = "folder for it in the package (in a checkout; for example voting, self_training)"
    parser.add_argument("--family", default="", help=family)
    folder = "where to write your own method (default: the current folder, and in a checkout the package)"
    parser.add_argument("--folder", type=Path, metavar="DIR", help=folder)


def execute(call: Call) -> int:
    """Write a method and its test. Raises BadInput for a bad name, and for files that exist."""
    args = call.args
    name, root = _name_of(args.name), None if args.folder else _checkout(Path.cwd())
    if args.shape not in SHAPES:
        raise BadInput(f"unknown method shape {args.shape!r}", where="new", fix=suggest(args.shape, SHAPES))
    if not PAPER.fullmatch(args.paper) or len(args.paper) > LONGEST_PAPER:
        fix = "write an arXiv number (--paper 2312.06585), or an https address of at most 80 characters"
        raise BadInput(f"got {args.paper!r}", where="--paper", fix=fix)
    if root:
        method, test = _in_package(root, args.shape, name, args.family)
    else:
        if args.family:
            raise BadInput("families are folders of the package", where="--family", fix="leave it out")
        folder = args.folder or Path()
        method, test = folder / f"{name}.py", folder / f"test_{name}.py"
    facts: dict[str, Any] = {"name": name, "id": name.replace("_", "-"), "title": name.replace("_", " ").capitalize()}
    facts |= {"paper": args.paper, "own": root is None}
    made = {method: _rendered(f"{args.shape}.py.j2", facts), test: _rendered(f"test_{args.shape}.py.j2", facts)}
    _write(made)
    if args.json:
        print_json({"method": facts["id"], "shape": args.shape, "files": [str(path) for path in made]})
    else:
        print_text("\n".join(f"written: {path}" for path in made))
        print_text(f"test it: pytest {test}")
    return 0


def _name_of(word: str) -> str:
    """Return the function's name. Raises BadInput unless it is valid as a function and file name."""
    name = word.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > LONGEST:
        fix = f"use at most {LONGEST} lowercase letters and digits, with dashes between words: best-of-n"
        raise BadInput(f"{word!r} cannot name a method", where="new", fix=fix)
    taken = {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names, *selftaught.__all__, "selftaught"}
    if name in taken:
        raise BadInput(f"{word!r} means something else in Python or in selftaught", where="new", fix="add a word to it")
    return name


def _checkout(place: Path) -> Path | None:
    """Return the root of the checkout of this project that `place` is in."""
    for root in (place, *place.parents):
        if (root / METHODS).is_dir() and (root / "pyproject.toml").is_file():
            return root
    return None


def _in_package(root: Path, shape: str, name: str, family: str) -> tuple[Path, Path]:
    """Return the paths of method and test in a checkout."""
    methods = root / METHODS
    if taken := next(iter(methods.rglob(f"{name}.py")), None):
        raise BadInput("there is a method of this name already", where=str(taken), fix="choose another name")
    if taken := lookup(name.replace("_", "-")):
        raise BadInput(f"{taken.id} is found by this name already", where=str(taken.path), fix="choose another name")
    folder = methods / SHAPES[shape]
    families = sorted(path.parent.name for path in folder.glob("*/__init__.py"))
    if families and family not in families:
        wrong = f"{shape}s have no family {family!r}" if family else f"which family of {shape}s?"
        raise BadInput(wrong, where="--family", fix=suggest(family, families))
    if family and not families:
        raise BadInput(f"{shape} methods have no families", where="--family", fix="leave it out")
    return folder / family / f"{name}.py", root / "tests" / "methods" / f"test_{name}.py"


def _rendered(template: str, facts: dict[str, Any]) -> str:
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    text = env.get_template(template).render(facts)
    ast.parse(text)
    return text


def _write(files: dict[Path, str]) -> None:
    """Write all files or none. Raises BadInput if one exists or cannot be written."""
    for path in files:
        if path.exists() or path.is_symlink():
            raise BadInput("it exists already", where=str(path), fix="choose another name, or remove it")
    made: list[Path] = []
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as stream:
                made.append(path)
                stream.write(text)
        except OSError as error:
            for half in made:
                half.unlink()
            raise write_error(error, path) from None
