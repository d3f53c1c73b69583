"""The problems of `paths` as a task: `paths`, `paths:level=3|4,noise=aside`, `paths:family=equation|target`."""

from __future__ import annotations

from selftaught.tasks.source import TaskRequest
from selftaught.tasks.task import Task
from selftaught.worlds.kit.task import load_kit_task
from selftaught.worlds.paths.families import CORE, make_families

LEVEL = 4
VERSION = "paths/1"
FAMILIES = make_families()


def load(spec: str, request: TaskRequest) -> Task:
    """Load the task. For options and errors see `load_kit_task`."""
    return load_kit_task("paths", FAMILIES, spec, request, level=LEVEL, version=VERSION, usual=CORE)
