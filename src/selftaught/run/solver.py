"""The types of a solver and of a judge, and what the sampler takes and returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from selftaught.engines import Sampling
from selftaught.errors import BadInput
from selftaught.identity import solver_name, unwrap
from selftaught.models import Policy
from selftaught.records import Attempt, Feedback, Problem, Solution

if TYPE_CHECKING:
    from selftaught.run.ask import Ask

Subject = Problem | Attempt
"""What a solver works on: a problem, or an attempt to continue, criticize or revise."""

JUDGE_ROLES = frozenset({"critique", "judge"})
"""Roles whose samples judge an answer: they count as judge tokens, and get no verdict of the task."""


class Solver(Protocol):
    """`async (ask, problem) -> Attempt`: solves one problem at test time.

    The second argument is an `Attempt` where the run passes attempts. A solver that finds more than an attempt returns
    `Solution(attempt, data)`. A `Method` of shape "solver" is one too.
    """

    def __call__(self, ask: Ask, subject: Any, /) -> Awaitable[Attempt | Solution]:
        """Solve it."""
        ...


class Judge(Protocol):
    """`async (ask, attempt) -> Feedback`: judges one attempt. A `Method` of shape "judge" is one too."""

    def __call__(self, ask: Ask, attempt: Attempt, /) -> Awaitable[Feedback]:
        """Judge it."""
        ...


class GroupJudge(Protocol):
    """`async (ask, (attempt, ...)) -> (Feedback, ...)`: judges attempts at one problem together, such as a pair.

    It is known by the annotation of its second parameter, a tuple: `pair: tuple[Attempt, Attempt]`.
    """

    def __call__(self, ask: Ask, attempts: Any, /) -> Awaitable[tuple[Feedback, ...]]:
        """Judge them; one feedback each, in their order."""
        ...


AnyJudge = Judge | GroupJudge


@dataclass(frozen=True, slots=True)
class SolverResult:
    """The outcome of one call of a solver.

    Attributes:
        attempt: what the solver returned.
        tokens: all tokens sampled during the call.
        turns: all attempts sampled during the call, where they were asked for.
        rewards: of the environment, for each turn that acted in it, else None; empty where verdicts are closed.
        data: the data of its `Solution`, as journaled.
        reward: of the outcome, where online training computes it as soon as the outcome is there.
    """

    attempt: Attempt
    tokens: int
    turns: tuple[Attempt, ...] = ()
    data: Any = None
    rewards: tuple[float | None, ...] = ()
    reward: float | None = None


@dataclass(slots=True)
class SolveBatch:
    """Solver calls that belong together: one policy, one solver.

    Attributes:
        label: shown beside the progress bar.
        solver: None samples one answer to each problem's own prompt.
        verify: whether the verifier judges the outcomes.
        work: each subject, and the name of that call, which is part of its keys.
        keep_turns: whether all attempts sampled on the way are returned too, verified alike.
        verdicts_visible: whether solvers may see verdicts during the call (`Ask.verify`).
        finish: completes each result while others are still sampled, such as by a reward.
        top_logprobs: of requests that do not say otherwise; see `Ask.__call__`.
        verdicts: of the task's verifier.
        shown: of the verifier that solvers may consult.
        pending_steps: failures of the environment to be journaled when the batch ends, by key.
    """

    label: str
    policy: Policy
    solver: Solver | None
    sampling: Sampling
    verify: bool
    work: Sequence[tuple[Subject, str]]
    keep_turns: bool = False
    verdicts_visible: bool = False
    finish: Callable[[SolverResult], Awaitable[SolverResult]] | None = None
    top_logprobs: int | None = None
    verdicts: VerdictLog = field(default_factory=lambda: VerdictLog())
    shown: VerdictLog = field(default_factory=lambda: VerdictLog())
    pending_steps: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class VerdictLog:
    """What became of the verdicts of one verifier in a batch.

    Attributes:
        count: number of verdicts.
        failed: one for each that failed.
        pending: failed ones to be journaled when the batch ends, by key.
    """

    count: int = 0
    failed: list[Feedback] = field(default_factory=list)
    pending: dict[str, list[Any]] = field(default_factory=dict)


def check_solver(solver: Any) -> None:
    """Raise BadInput for a method of another shape in place of a solver."""
    from selftaught.method import Method

    if isinstance(inner := unwrap(solver), Method) and inner.shape != "solver":
        fix = "pass it to run.judge" if inner.shape == "judge" else "pass a method of shape solver"
        raise BadInput(f"it is a {inner.shape}, not a solver", where=inner.id, fix=fix)


def check_own(attempt: Attempt, problem: Problem, by: str | Solver | None) -> Attempt:
    """An attempt of a solver call on `problem`.

    Args:
        by: the verb that was given the attempt, or the solver that returned it.

    Raises:
        BadInput: it is an attempt at another problem, or its problem has another prompt.
    """
    other = attempt.problem
    if other.id != problem.id or other.prompt != problem.prompt:
        where = by if isinstance(by, str) else solver_name(by)  # costly, so named only here
        fix = "use what ask samples in this call, or attempts at its problem"
        raise BadInput(f"attempt {attempt.id} is at another problem than this call", where=where, fix=fix)
    return attempt


def problem_of(subject: Subject) -> Problem:
    """The problem itself, or the problem of an attempt."""
    return subject.problem if isinstance(subject, Attempt) else subject
