"""The tiny world's problems as a task: `tiny`, `tiny:level=3|4,noise=aside`, `tiny:family=equation|target`."""

from __future__ import annotations

from selftaught.tasks.source import TaskRequest
from selftaught.tasks.task import Task
from selftaught.worlds.kit.task import load_kit_task
from selftaught.worlds.tiny.families import CORE, make_families

LEVEL = 4
VERSION = "tiny/2"
FAMILIES = make_families()


def load(spec: str, request: TaskRequest) -> Task:
    """Load the task. For options and errors see `load_kit_task`."""
    return load_kit_task("tiny", FAMILIES, spec, request, level=LEVEL, version=VERSION, usual=CORE)
