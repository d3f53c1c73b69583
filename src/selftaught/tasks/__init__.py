"""Tasks: load problems, split them, extract answers from replies and verify them."""

from selftaught.tasks.extract import Kind
from selftaught.tasks.load import load_task
from selftaught.tasks.source import INSTRUCTION
from selftaught.tasks.task import Task

__all__ = ["INSTRUCTION", "Kind", "Task", "load_task"]
