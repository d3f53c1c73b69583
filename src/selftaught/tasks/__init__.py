"""Tasks: where problems come from, how they are split, how an answer is found and verified."""

from selftaught.tasks.extract import Kind
from selftaught.tasks.load import load_task
from selftaught.tasks.source import INSTRUCTION
from selftaught.tasks.task import Task

__all__ = ["INSTRUCTION", "Kind", "Task", "load_task"]
