"""Tasks from a user's Python file: `my_task.py:function`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.feedback.userfile import error_location, load_function
from selftaught.records import Problem
from selftaught.tasks.rows import problem_of_row
from selftaught.tasks.splits import SourceProblem
from selftaught.tasks.task import SPLITS, Task

if TYPE_CHECKING:
    from selftaught.tasks.source import TaskRequest


def script_pools(spec: str, request: TaskRequest) -> Task | dict[str, list[SourceProblem]]:
    """Call the function; returns a `Task`, or problems by split.

    The function may take any of `train`, `dev`, `test` (sizes) and `seed`. It returns an iterable of rows (see
    `rows.problem_of_row`) or `Problem`s, a mapping of "train", "dev", "test" to such iterables, or a `Task`.

    Raises:
        BadInput: no such file or function, it raises, or it returns another type.
    """
    function, _ = load_function(spec, what="task")
    file = Path(spec.rpartition(":")[0])
    offered = {"train": request.train, "dev": request.dev, "test": request.test, "seed": request.seed}
    try:
        names = inspect.signature(function).parameters
        result = function(**{k: v for k, v in offered.items() if k in names})
        if isinstance(result, Task):
            return result
        if isinstance(result, Mapping):
            rows = {str(k): list(v) for k, v in result.items()}
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
    return _pools(rows, spec, request)


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
