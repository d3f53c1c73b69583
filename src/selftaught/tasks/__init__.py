"""Tasks: load problems, split them, extract answers from replies and verify them."""

from selftaught.tasks.environment import Environment, SeededEnvironment, Turn
from selftaught.tasks.extract import Kind
from selftaught.tasks.load import load_task
from selftaught.tasks.retries import with_retries
from selftaught.tasks.source import INSTRUCTION
from selftaught.tasks.task import Task

__all__ = [
    "INSTRUCTION",
    "Environment",
    "Kind",
    "SeededEnvironment",
    "Task",
    "Turn",
    "load_task",
    "with_retries",
]
