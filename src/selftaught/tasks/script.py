"""Tasks from a user's Python file: `my_task.py:function`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selftaught.errors import BadInput
from selftaught.feedback.userfile import error_location, load_function
from selftaught.records import Problem
from selftaught.tasks.environment import AnyEnvironment, check_environment
from selftaught.tasks.rows import problem_of_row
from selftaught.tasks.source import INSTRUCTION
from selftaught.tasks.splits import SourceProblem
from selftaught.tasks.task import SPLITS, Task

if TYPE_CHECKING:
    from selftaught.tasks.source import TaskRequest


class ScriptTask(NamedTuple):
    """What a function returned: problems by split, and the environment that answers back, if there is one."""

    pools: dict[str, list[SourceProblem]]
    environment: AnyEnvironment | None = None


def script_task(spec: str, request: TaskRequest) -> Task | ScriptTask:
    """Call the function; returns a `Task`, or problems by split.

    The function may take any of `train`, `dev`, `test` (sizes) and `seed`. It returns an iterable of rows (see
    `rows.problem_of_row`) or `Problem`s, a mapping of "train", "dev", "test" to such iterables, or a `Task`. The
    mapping may also hold an "environment" (see `tasks.environment`); its questions get no instruction by default.

    Raises:
        BadInput: no such file or function, it raises, or it returns another type.
    """
    function, _ = load_function(spec, what="task")
    file = Path(spec.rpartition(":")[0])
    offered = {"train": request.train, "dev": request.dev, "test": request.test, "seed": request.seed}
    environment: Any = None
    try:
        names = inspect.signature(function).parameters
        result = function(**{k: v for k, v in offered.items() if k in names})
        if isinstance(result, Task):
            return result
        if isinstance(result, Mapping):
            given = {str(k): v for k, v in result.items()}
            environment = given.pop("environment", None)
            if environment is not None:
                check_environment(environment, spec)
            rows = {k: list(v) for k, v in given.items()}
        elif isinstance(result, Iterable) and not isinstance(result, (str, bytes)):
            rows = {"train": list(result)}
        else:
            raise BadInput(
                f"the task's function returned a {type(result).__name__}",
                where=spec,
                fix="return a list of {'question': ..., 'answer': ...}",
            )
    except BadInput:
        raise
    except Exception as e:
        raise BadInput(f"the task's function raised {type(e).__name__}: {e}", where=error_location(e, file)) from e
    plain = environment is not None and request.instruction == INSTRUCTION
    return ScriptTask(_pools(rows, spec, replace(request, instruction="") if plain else request), environment)


def _pools(rows: dict[str, list[Any]], spec: str, request: TaskRequest) -> dict[str, list[SourceProblem]]:
    if "train" not in rows or not set(rows) <= set(SPLITS):
        raise BadInput(
            f"the task's function returned the splits {', '.join(rows) or 'none'}",
            where=spec,
            fix="return 'train' and optionally 'dev' and 'test'",
        )
    pools = {}
    for split, items in rows.items():
        # a Problem's prompt is complete; rows get the instruction
        pools[split] = [
            problem_of_row(
                row,
                f"{spec}[{split}]:{i}",
                spec,
                "" if isinstance(row, Problem) else request.instruction,
                request.naming,
            )
            for i, row in enumerate(items)
        ]
    return pools
