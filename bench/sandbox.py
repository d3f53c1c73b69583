"""The sandbox for code: HumanEval's references and mutants of them, and short programs a second.

    python -m bench.sandbox humaneval.jsonl.gz

Each reference must pass its tests in the sandbox, as a whole function and as a continuation of its prompt. Of each one,
mutants (a comparison, an operator or a constant changed) must get the verdict that plain Python comes to, which runs
the same tests in the same process as the code: these mutants do no harm, so that they may.
"""

from __future__ import annotations

import argparse
import ast
import copy
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from selftaught.console import Console
from selftaught.feedback.code import program
from selftaught.feedback.sandbox import Sandbox
from selftaught.records import Problem, Verdict
from selftaught.tasks import Task, load_task

T = TypeVar("T")
SECONDS = 20.0  # of a mutant in plain Python
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn,
}  # fmt: skip


def mutants(code: str, function: str) -> Iterator[str]:
    """Versions of a program with one comparison, operator or constant of a function changed."""
    tree = ast.parse(code)
    inside = {n for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == function for n in ast.walk(f)}
    for number, node in enumerate(ast.walk(tree)):
        if node not in inside:
            continue
        changed = copy.deepcopy(tree)
        twin = next(n for i, n in enumerate(ast.walk(changed)) if i == number)
        if mutate(node, twin):
            yield ast.unparse(ast.fix_missing_locations(changed))


def mutate(node: ast.AST, twin: Any) -> bool:
    """Change a node's copy; whether there was something to change."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        twin.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPS:
        twin.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        twin.value = node.value + 1
    else:
        return False
    return True


def plain_python(problem: Problem, code: str) -> bool:
    """Whether code passes its tests in one process without a sandbox."""
    tests: Any = problem.reference
    name = tests["entry_point"]
    whole = f"{tests['prelude']}\n{code}\n{tests['tests'][0]}\ncheck({name})\n"
    try:
        done = subprocess.run([sys.executable, "-"], input=whole, text=True, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def references(task: Task) -> tuple[int, int, int]:
    """How many references pass as a function, and as a continuation, of how many."""
    some = task.test
    whole = _count(some, lambda p: _right(task, p, str(p.meta["solution"])))
    return whole, _count(some, lambda p: _right(task, p, str(p.meta["canonical_solution"]), fenced=False)), len(some)


def compare_mutants(task: Task, each: int) -> dict[str, int]:
    """Verdicts on mutants, in the sandbox and in plain Python."""
    pick, pairs = random.Random(0), list[tuple[Problem, str]]()
    for problem in task.test:
        tests: Any = problem.reference
        found = list(mutants(program(str(problem.meta["canonical_solution"]), tests), tests["entry_point"]))
        pairs += [(problem, code) for code in pick.sample(found, min(each, len(found)))]
    here = _each("mutants in the sandbox", pairs, lambda pair: _right(task, *pair))
    there = _each("mutants in plain Python", pairs, lambda pair: plain_python(*pair))
    return {
        "mutants": len(pairs), "fail in both": sum(not a and not b for a, b in zip(here, there, strict=True)),
        "pass in both": sum(a and b for a, b in zip(here, there, strict=True)),
        "pass in the sandbox alone": sum(a and not b for a, b in zip(here, there, strict=True)),
        "pass in plain Python alone": sum(b and not a for a, b in zip(here, there, strict=True)),
    }  # fmt: skip


def per_second(work: Callable[[int], object], count: int, threads: int) -> float:
    """Pieces of work a second, after a few to warm up."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(2 * threads)))
        began = time.perf_counter()
        list(pool.map(work, range(count)))
        return count / (time.perf_counter() - began)


def _right(task: Task, problem: Problem, code: str, *, fenced: bool = True) -> bool:
    return task.verify(problem, f"```python\n{code}\n```" if fenced else code).verdict is Verdict.RIGHT


def _count(some: tuple[Problem, ...], passes: Callable[[Problem], bool]) -> int:
    return sum(_each("references", some, passes))


def _each(what: str, some: Sequence[T], passes: Callable[[T], bool]) -> list[bool]:
    found: list[bool] = []
    with ThreadPoolExecutor() as pool, Console().meter(what, len(some)) as meter:
        for one in pool.map(passes, some):
            found.append(one)
            meter.advance()
    return found


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("humaneval", type=Path, help="HumanEval as JSON lines, also compressed")
    parser.add_argument("--mutants", type=int, default=4, help="of each reference at most (default 4)")
    args = parser.parse_args()
    sandbox = Sandbox()
    speed = per_second(lambda n: sandbox.run(f"print({n})"), 200, sandbox.size)
    tested = per_second(lambda n: sandbox.test(f"def f(): return {n}", [f"assert f() == {n}"]), 100, sandbox.size)
    sandbox.close()
    print(f"programs a second {speed:.0f}, tested functions a second {tested:.0f}, {sandbox.size} at once")
    with load_task(str(args.humaneval), train=0, dev=0, test=10_000) as task:
        print("references that pass (whole, continued, of):", *references(task))
        for what, count in compare_mutants(task, args.mutants).items():
            print(f"{what}: {count}")


if __name__ == "__main__":
    main()
