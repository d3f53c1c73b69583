"""Language models that teach themselves.

import selftaught as st

task = st.load_task("chain_sum:min_terms=2,max_terms=2,min_digits=2,max_digits=2")
with st.Run("runs/mine", model="smollm2-135m", task=task) as run:
    better = st.find_method("rest-em")(run, run.base, task, rounds=2, samples=8)
    print(st.conclude(run).paired)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selftaught.errors import BadInput
    from selftaught.method import find as find_method
    from selftaught.method import recipe, solver, study
    from selftaught.records import Solution
    from selftaught.run.conclusion import conclude
    from selftaught.run.run import Run, Settings
    from selftaught.tasks import Task, load_task

__all__ = [
    "BadInput", "Run", "Settings", "Solution", "Task", "conclude", "find_method", "load_task", "recipe", "solver",
    "study",
]  # fmt: skip

# Loaded when first used, so that `import selftaught` costs nothing.
_WHERE = {
    "BadInput": "errors",
    "Run": "run",
    "Settings": "run",
    "Solution": "records",
    "Task": "tasks",
    "conclude": "conclusion",
    "load_task": "tasks",
    "find_method": "method:find",
    "recipe": "method",
    "solver": "method",
    "study": "method",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'selftaught' has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(import_module(f"selftaught.{module}"), attribute or name)
