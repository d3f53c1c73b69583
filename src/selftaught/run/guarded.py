"""The run and the task as a method sees them, without what it must not see or did not declare.

A method chooses what is learned: with references, or verdicts on the problems it is measured on, its result would prove
nothing. This guards against mistakes, not against malice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from selftaught.curate.decontaminate import Decontaminator, question_of, question_of_text
from selftaught.errors import BadInput
from selftaught.identity import unwrap
from selftaught.records import HIDDEN, Feedback, Problem, Prompt, Verdict
from selftaught.run.closed import ClosedAnnotator, ClosedEnvironment, ClosedVerifier
from selftaught.run.solver import Subject, problem_of
from selftaught.tasks import Task
from selftaught.tasks.task import hide

if TYPE_CHECKING:
    from selftaught.method import Method
    from selftaught.run.session import RunSession

ALLOWED = frozenset({
    "annotate", "attempt", "base", "champion", "champions", "config", "console", "cost_line", "ensembles", "folder",
    "gate_decisions", "history", "judge", "learn", "learn_online", "ledger", "log_metrics", "measure",
    "measure_ensemble", "method_scope", "model", "new_problems", "nll", "notes", "round", "rounds",
    "score", "search", "seconds", "settings", "write_notes",
})  # fmt: skip
"""Members of a run that a method may use, besides its guarded task."""


_CLOSED = ("test", "verifier", "environment", "shown", "annotator")  # parts of a task that its guarded view replaces


class GuardedRun:
    """A `Run` without the journal, the engine, the test split, and verdicts on dev problems."""

    __slots__ = ("_method", "_run", "task")

    def __init__(self, run: RunSession, method: Method, task: Task) -> None:
        for name, value in (("_run", run), ("_method", method), ("task", task)):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in ALLOWED and hasattr(self._run, name):
            raise BadInput(
                f"run.{name} is closed to methods",
                where=self._method.id,
                fix=f"use {', '.join(sorted(ALLOWED))}",
            )
        return getattr(self._run, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise BadInput(f"a method cannot set run.{name}", where=self._method.id, fix="use a variable of the method")

    def __repr__(self) -> str:
        return f"<{self._run!r} as {self._method.id} sees it>"


class GuardedTask(Task):
    """A task as a method sees it.

    The test split is closed. References are hidden, except those of train problems for methods that need "reference".
    Verdicts are given only on train problems, to methods that need "verifier".

    Args:
        task: the unguarded task.
        method: the method that sees it.
        access: what is closed to methods.
    """

    def __init__(self, task: Task, method: Method, access: AccessRules) -> None:
        self._task, self._method, self._access = task, method, access
        hidden = {split: tuple(map(hide, task.split(split))) for split in ("train", "dev")}
        if "reference" in method.needs:
            hidden["train"] = task.train
        self.__dict__.update({k: v for k, v in task.__dict__.items() if k not in (*_CLOSED, *self.__dict__)})
        self.__dict__.update(hidden, _known={problem.id: problem for some in hidden.values() for problem in some})

    @property
    def test(self) -> tuple[Problem, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Closed: the run opens it at its end.

        Raises:
            BadInput: always.
        """
        fix = "use task.train; run.measure tells how a policy does on dev"
        raise BadInput("task.test is closed to methods until the end of the run", where=self._method.id, fix=fix)

    @property
    def verifier(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The verifier, of which only the version is visible."""
        real = self._task.verifier
        return ClosedVerifier(real.version, real.needs_reference, self._refuse)

    @property
    def environment(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The environment, of which only the version and the limit are visible: solvers act in it by `ask.act`."""
        real = self._task.environment
        return real and ClosedEnvironment(real.version, real.max_turns, self._method.id)

    @property
    def shown(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The verifier that solvers may consult, of which only the version is visible: call `verify_shown`."""
        real = self._task.shown
        return real and ClosedVerifier(real.version, real.needs_reference, self._refuse)

    @property
    def annotator(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The annotator, of which only the version is visible: it writes through `run.annotate`."""
        real = self._task.annotator
        return real and ClosedAnnotator(real.version, self._method.id)

    def verify_shown(self, problem: Problem, text: str) -> Feedback:
        """See `Task.verify_shown`."""
        return self._task.verify_shown(problem, text)

    def verify(self, problem: Problem, text: str) -> Feedback:
        """See `Task.verify`.

        Raises:
            BadInput: the problem is held out, or the method does not declare that it needs a verifier.
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
        """A copy with the references of train problems hidden too."""
        other: Any = object.__new__(GuardedTask)
        other.__dict__.update(self.__dict__, train=tuple(map(hide, self.train)))
        return other

    def extended(self, problems: Iterable[Problem]) -> Task:
        """See `Task.extended`."""
        other = GuardedTask(self._task.extended(problems), self._method, self._access)
        added = [p for p in problems if p.id not in self._known]
        other.train = (*self.train, *added)
        return other

    def _copy(self, **changes: Any) -> Task:
        return super()._copy(**{"test": (), **changes})

    def __repr__(self) -> str:
        return f"<{self._task!r} as {self._method.id} sees it>"

    def require(self, **what: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `Task.require`."""
        self._task.require(**what)

    def close(self) -> None:
        """Nothing: the run closes the task."""

    def _check(self, problem: Problem) -> None:
        if "verifier" not in self._method.needs:
            self._refuse()
        if self._access.is_held_out(problem):
            raise BadInput(
                "verdicts on dev and test problems are closed to methods", where=self._method.id, fix="use task.train"
            )

    def _refuse(self, *_: Any) -> Any:
        fix = 'declare needs=("verifier",), and call task.verify on train problems'
        raise BadInput("it asks for a verdict without declaring that need", where=self._method.id, fix=fix)


class AccessRules:
    """What methods and solvers may see of a run's task.

    Attributes:
        held_out: ids and prompts of dev and test problems; the prompt identifies a problem under another id.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._test = {what for p in task.test for what in (p.id, p.prompt)}
        self.held_out = frozenset(self._test | {what for p in task.dev for what in (p.id, p.prompt)})
        self._train = frozenset(p.prompt for p in task.train)

    @cached_property
    def decontaminator(self) -> Decontaminator:
        """Finds dev and test problems in other texts."""
        own, told = self._task, self._task.instruction
        held_out = {split: [question_of(p, told) for p in own.split(split)] for split in ("test", "dev")}
        return Decontaminator(held_out, [question_of(p, told) for p in own.train])

    def contaminated(self, text: str, *, but: str = "") -> str:
        """What a text repeats, exactly or in other words, such as "a dev problem"; empty if nothing held out.

        Args:
            but: question of a problem that it may repeat.
        """
        told = self._task.instruction
        return self.decontaminator.find(question_of_text(text, told), question_of_text(but, told))

    def is_train(self, prompt: Prompt) -> bool:
        """Whether a prompt is the one of a train problem."""
        return prompt in self._train

    def prompt_repeats(self, prompt: Prompt) -> str:
        """What a prompt repeats; empty if nothing held out. It may begin with the prompt of a train problem."""
        own = next((i for i in range(len(prompt), 0, -1) if prompt[:i] in self._train), 0)
        if not own:
            return self.contaminated(self.text_of(prompt))
        asked = (message.content for message in prompt[own:] if message.role != "assistant")
        return next(filter(None, map(self.contaminated, asked)), "")

    def text_of(self, prompt: Prompt) -> str:
        """The text of a prompt without the task's instruction, which its messages may end with."""
        return "\n".join(question_of_text(message.content, self._task.instruction) for message in prompt)

    def is_held_out(self, subject: Subject) -> bool:
        """Whether a problem is of the dev or test split, or repeats one of them."""
        problem = problem_of(subject)
        known = problem.id in self.held_out or problem.prompt in self.held_out
        return known or bool(self.prompt_repeats(problem.prompt))

    def _is_test(self, problem: Problem) -> bool:
        known = problem.id in self._test or problem.prompt in self._test
        return known or "test" in self.prompt_repeats(problem.prompt)

    def check_not_test(self, method: Method | None, subjects: Iterable[Subject]) -> None:
        """Refuse a method that attempts test problems.

        Raises:
            BadInput: it does.
        """
        if method and any(map(self._is_test, map(problem_of, subjects))):
            raise BadInput("it attempts test problems, which are closed until the end of the run", where=method.id)

    def verdicts_allowed(self, method: Method | None, subjects: Iterable[Subject]) -> bool:
        """Whether verdicts may be shown: to methods on train problems, on dev only to studies that need "dev".

        Raises:
            BadInput: the problems are partly of train, partly of dev.
        """
        if method is None or "dev" in method.needs:
            return True
        closed = set(map(self.is_held_out, subjects))
        if len(closed) > 1:
            fix = "attempt them separately: dev problems have no verdicts"
            raise BadInput("it attempts train and dev problems together", where=method.id, fix=fix)
        return True not in closed

    def visible_to(self, method: Method | None, subject: Subject, solver: Any) -> Subject:
        """A problem as a solver gets it: without the reference, unless the method declares that it needs it.

        Args:
            method: the running method; outside of methods the needs of a solver that is a `Method` count, and any
                other function is trusted as the caller's own.
        """
        needs = method.needs if method else getattr(unwrap(solver), "needs", None)
        if solver is None or needs is None:
            return subject
        open_ = "reference" in needs and not (method and self.is_held_out(subject))
        return subject if open_ else without_reference(subject)


def guard(run: RunSession, method: Method, walls: AccessRules) -> Callable[[Any], Any]:
    """A function that replaces a method's run and tasks by guarded ones."""
    view = GuardedRun(run, method, GuardedTask(run.task, method, walls))

    def guarded(arg: Any) -> Any:
        if arg is run or isinstance(arg, GuardedRun):
            return view
        if isinstance(arg, Task):
            return view.task if unguarded(arg) is run.task else GuardedTask(unguarded(arg), method, walls)
        return arg

    return guarded


def unguarded(task: Task) -> Task:
    """The task inside a guarded one."""
    return task._task if isinstance(task, GuardedTask) else task  # pyright: ignore[reportPrivateUsage]


def without_reference(subject: Subject) -> Subject:
    """A problem, or an attempt at one, with the reference hidden."""
    if isinstance(subject, Problem):
        return subject if subject.reference is HIDDEN else hide(subject)
    return subject if subject.problem.reference is HIDDEN else replace(subject, problem=hide(subject.problem))
