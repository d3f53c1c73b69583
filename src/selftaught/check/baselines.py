"""Run a method or baseline on one seed; each yields a `SystemResult`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from selftaught.check.claim import SystemResult
from selftaught.curate import by_problem, vote
from selftaught.errors import BadInput
from selftaught.method import Method
from selftaught.records import Attempt, content_hash
from selftaught.run.best_of import BestOf
from selftaught.run.run import Run
from selftaught.run.solver import SolverResult

JUDGED_SAMPLES = 4  # answers that a judge chooses from
VOTE_SAMPLES = 16  # of the starting model's vote that is shown beside a method that trains
SAMPLING: dict[str, Any] = {"temperature": 0.7, "top_k": 40}  # self-consistency's own (2203.11171)

Choose = Callable[[Sequence[Attempt]], Attempt]


def run_system(run: Run, method: Method, options: Mapping[str, Any], *, limit: int | None = None) -> SystemResult:
    """Run a method; a recipe's champion then answers the test problems, a judge chooses among samples of the model.

    Args:
        limit: compute that a recipe may have spent: the champion of the last round that ended within it answers.
    """
    options = method.bind(dict(options))
    if trains_nothing(method):
        solver: Any = method.with_options(**options)
        solver = BestOf(solver, JUDGED_SAMPLES, SAMPLING) if method.shape == "judge" else solver
        solved = run.solve(run.base, run.task.test, "test", solver=solver)
        compute = run.ledger.compute
        return SystemResult(run, run.base, solved, _tokens(solved), None, compute, compute)
    returned = method(run, run.base, run.task, **options)
    spent, compute, champion = run.ledger.usage.spent, run.ledger.compute, run.champion
    if method.shape == "study":
        return SystemResult(run, run.base, (), spent, returned, compute)
    if limit is not None and compute > limit:
        fitting = [end for end in run.round_ends if end.compute <= limit]
        champion, compute = (fitting[-1].champion, fitting[-1].compute) if fitting else (run.base, 0)
    how, before = method.claim.solver if method.claim else None, run.ledger.compute
    solved = run.solve(champion, run.task.test, "test", solver=how, temperature=0.0)
    answers = run.ledger.compute - before
    return SystemResult(run, champion, solved, spent + _tokens(solved), returned, compute, answers)


def trains_nothing(method: Method) -> bool:
    """Whether its answers come of one fixed model, so that the problem is the random unit."""
    return method.shape in ("solver", "judge")


# --- plain samples of the starting model ---


def greedy(run: Run) -> SystemResult:
    """Greedy answers of the starting model."""
    return _plain(run, run.solve(run.base, run.task.test, "test", temperature=0.0))


def sample(run: Run) -> SystemResult:
    """One sample per problem from the starting model."""
    return _plain(run, run.solve(run.base, run.task.test, "test", **SAMPLING))


def majority(run: Run, drawn: Sequence[SolverResult]) -> SystemResult:
    """Majority vote over samples of the starting model."""
    return _best(run, drawn, lambda group: won.voters[0] if (won := vote(group)) else group[0])


def best_logprob(run: Run, drawn: Sequence[SolverResult]) -> SystemResult:
    """The sample with the highest mean log-probability (sample-and-rank, 2203.11171, section 3.4).

    Raises:
        BadInput: the engine returned no log-probabilities.
    """
    require_logprobs(run, drawn)
    return _best(run, drawn, lambda group: max(group, key=lambda one: one.mean_logprob))


ONE_ANSWER: dict[str, Callable[[Run], SystemResult]] = {"greedy": greedy, "sample": sample}
OF_SAMPLES: dict[str, Callable[[Run, Sequence[SolverResult]], SystemResult]] = {
    "majority": majority,
    "best-logprob": best_logprob,
}
"""Functions of the named baselines: of one answer a problem, and of several samples."""


def require_logprobs(run: Run, drawn: Sequence[SolverResult]) -> None:
    """Refuse samples without log-probabilities.

    Raises:
        BadInput: none of the answers has any.
    """
    answered = [one.attempt for one in drawn if not one.attempt.failed]
    if answered and not any(one.logprobs for one in answered):
        fix = "use a server that returns them, or check a method whose claim does not compare with best-logprob"
        raise BadInput(f"{run.engine.name} returns no log-probabilities", where="baseline best-logprob", fix=fix)


def samples(run: Run, count: int) -> list[SolverResult]:
    """`count` samples of each test problem from the starting model."""
    return run.solve(run.base, run.task.test, "test", samples=count, **SAMPLING)


def samples_to_fit(run: Run, compute: int) -> list[SolverResult]:
    """As many samples as fit the compute: equally many of each test problem, one at least, and one more of some."""
    drawn, count = samples(run, 1), 1
    prompts = sum(one.attempt.sample.prompt_tokens for one in drawn)
    while paid := _tokens(drawn):  # nothing is paid where every request was refused
        more = math.floor((compute - prompts - paid) * count / paid)
        if more < 1:
            break
        drawn, count = samples(run, count + more), count + more
    while count > 1 and plain_compute(drawn) > compute:
        count -= 1
        groups = by_problem(one.attempt for one in drawn)
        kept = {attempt.id for group in groups.values() for attempt in group[:count]}
        drawn = [one for one in drawn if one.attempt.id in kept]
    return drawn + _one_more(run, count, _tokens(drawn), compute - plain_compute(drawn))


def _one_more(run: Run, count: int, paid: int, left: int) -> list[SolverResult]:
    """Sample number `count` of as many test problems as `left` pays for; a hash chooses them, not how they went.

    Args:
        paid: sampled tokens of the first `count` of each.
    """
    ordered, more = sorted(run.task.test, key=lambda problem: content_hash(problem.id)), list[SolverResult]()
    while paid and (rest := ordered[len(more) :]):
        affordable = math.floor((left - _tokens(more)) * len(ordered) * count / paid)
        if affordable < 1:
            break
        more += run.solve(run.base, rest[:affordable], "test", samples=1, first=count, **SAMPLING)
    while more and _tokens(more) > left:
        more.pop()
    return more


def plain_compute(drawn: Sequence[SolverResult]) -> int:
    """Compute of plain samples: the prompt of each problem once, and all sampled tokens."""
    prompts = {one.attempt.problem.id: one.attempt.sample.prompt_tokens for one in drawn}
    return sum(prompts.values()) + _tokens(drawn)


def _best(run: Run, drawn: Sequence[SolverResult], choose: Choose) -> SystemResult:
    chosen = [choose(group) for group in by_problem(one.attempt for one in drawn).values()]
    answers, compute = [SolverResult(attempt, attempt.num_tokens) for attempt in chosen], plain_compute(drawn)
    return SystemResult(run, run.base, answers, _tokens(drawn), None, compute, compute)


def _plain(run: Run, solved: Sequence[SolverResult]) -> SystemResult:
    compute = plain_compute(solved)
    return SystemResult(run, run.base, solved, _tokens(solved), None, compute, compute)


def _tokens(solved: Sequence[SolverResult]) -> int:
    return sum(one.tokens for one in solved)
