"""The problems of `paths` as a task: `paths`, `paths:level=4`, `paths:level=3|4,noise=aside`."""

from __future__ import annotations

from selftaught.tasks.source import TaskRequest
from selftaught.tasks.task import Task
from selftaught.worlds.kit.task import load_kit_task
from selftaught.worlds.paths.family import Paths

LEVEL = 4
VERSION = "paths/1"
FAMILIES = (Paths(),)


def load(spec: str, request: TaskRequest) -> Task:
    """Load the task. For options and errors see `load_kit_task`."""
    return load_kit_task("paths", FAMILIES, spec, request, level=LEVEL, version=VERSION)
