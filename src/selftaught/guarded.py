"""What a method is handed: its run and its task, with everything closed that it must not see or did not declare.

A method chooses what is learnt; if it saw references, or verdicts on the problems that it is measured on, its result
would prove nothing. This guards against mistakes, not against Python.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.records import HIDDEN, Attempt, Feedback, Problem, Verdict
from selftaught.tasks import Task
from selftaught.tasks.task import SPLITS, hide

if TYPE_CHECKING:
    from selftaught.method import Method
    from selftaught.run import Run

OPEN = frozenset({
    "attempt", "base", "champion", "config", "console", "folder", "gates", "history", "learn", "ledger", "measure",
    "method", "model", "notes", "reinforce", "round", "rounds", "search", "seconds", "settings", "spending", "surprise",
    "tell",
})  # fmt: skip
"""What of a run a method may use, beside its guarded task."""


class GuardedRun:
    """A run as a method sees it: `Run` without the journal, the engine, the test split and verdicts on dev problems."""

    __slots__ = ("_method", "_run", "task")

    def __init__(self, run: Run, method: Method, task: Task) -> None:
        self._run, self._method, self.task = run, method, task

    def __getattr__(self, name: str) -> Any:
        if name not in OPEN and hasattr(self._run, name):
            raise BadInput(
                f"run.{name} is closed to methods", where=self._method.id, fix="use run.attempt and the like"
            )
        return getattr(self._run, name)

    def __repr__(self) -> str:
        return f"<{self._run!r} as {self._method.id} sees it>"


class ClosedVerifier:
    """Stands where a task's verifier is withheld."""

    def __init__(self, version: str, needs_reference: bool, refuse: Callable[..., Any]) -> None:
        self.version, self.needs_reference = version, needs_reference
        self.judge = self.decide = self.steps = refuse

    def close(self) -> None:
        """Nothing: the run closes the verifier."""


class GuardedTask(Task):
    """A task as a method sees it.

    Reference answers are withheld, but those of train problems where the method needs them. Verdicts are given on
    train problems, to methods that need a verifier, and on nothing else.

    Args:
        task: the whole one.
        method: who sees it.
        held_out: ids and prompts of dev and test problems.
    """

    def __init__(self, task: Task, method: Method, held_out: Set[Any]) -> None:
        self._task, self._method, self._held_out = task, method, held_out
        hidden = {split: tuple(map(hide, task.split(split))) for split in SPLITS}
        if "reference" in method.needs:
            hidden["train"] = task.train
        self.__dict__.update({k: v for k, v in task.__dict__.items() if k not in ("verifier", *self.__dict__)})
        self.__dict__.update(hidden, _known={problem.id: problem for split in SPLITS for problem in hidden[split]})

    @property
    def verifier(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What may be known of it: its version."""
        real = self._task.verifier
        return ClosedVerifier(real.version, real.needs_reference, self._refuse)

    def verify(self, problem: Problem, text: str) -> Feedback:
        """See `Task.verify`.

        Raises:
            BadInput: the problem is held out, or the method declares no need of a verifier.
        """
        self._check(problem)
        return self._task.verify(problem, text)

    def decide(self, problem: Problem, text: str) -> Feedback | None:
        """See `Task.decide`, and `verify`."""
        self._check(problem)
        return self._task.decide(problem, text)

    def step_verdicts(self, problem: Problem, text: str) -> tuple[Verdict, ...] | None:
        """See `Task.step_verdicts`, and `verify`."""
        self._check(problem)
        return self._task.step_verdicts(problem, text)

    def hidden(self) -> Task:
        """The same, with the references of train problems withheld too."""
        other: Any = object.__new__(GuardedTask)
        other.__dict__.update(self.__dict__, train=tuple(map(hide, self.train)))
        return other

    def require(self, **what: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `Task.require`."""
        self._task.require(**what)

    def close(self) -> None:
        """Nothing: the run closes the task."""

    def _check(self, problem: Problem) -> None:
        if "verifier" not in self._method.needs:
            self._refuse()
        if problem.id in self._held_out or problem.prompt in self._held_out:
            raise BadInput(
                "it asks for a verdict on a dev or test problem", where=self._method.id, fix="use task.train"
            )

    def _refuse(self, *_: Any) -> Any:
        fix = 'declare needs=("verifier",), and ask task.verify on train problems'
        raise BadInput("it asks for a verdict without declaring it", where=self._method.id, fix=fix)


def whole(task: Task) -> Task:
    """The task behind a guarded one."""
    return task._task if isinstance(task, GuardedTask) else task  # pyright: ignore[reportPrivateUsage]


def withheld(subject: Problem | Attempt) -> Problem | Attempt:
    """A problem, or an attempt at one, without the reference."""
    if isinstance(subject, Problem):
        return subject if subject.reference is HIDDEN else hide(subject)
    return subject if subject.problem.reference is HIDDEN else replace(subject, problem=hide(subject.problem))
