"""Run the method and its baselines on one seed; each yields a `SystemResult`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from selftaught.check.claim import SystemResult
from selftaught.curate import by_problem, vote
from selftaught.method import Method
from selftaught.records import Attempt
from selftaught.run.best_of import BestOf
from selftaught.run.run import Run
from selftaught.run.solver import SolverResult

JUDGED_SAMPLES = 4  # answers that a judge chooses from
SAMPLING: dict[str, Any] = {"temperature": 0.7, "top_k": 40}  # self-consistency's own (2203.11171)


def run_system(run: Run, method: Method, options: Mapping[str, Any]) -> SystemResult:
    """Run a method; a recipe's champion then answers the test problems, a judge chooses among samples of the model."""
    options = method.bind(dict(options))
    if method.shape in ("solver", "judge"):
        solver: Any = method.with_options(**options)
        solver = BestOf(solver, JUDGED_SAMPLES, SAMPLING) if method.shape == "judge" else solver
        solved = run.solve(run.base, run.task.test, "test", solver=solver)
        return SystemResult(run, run.base, solved, _tokens(solved))
    returned = method(run, run.base, run.task, **options)
    spent = run.ledger.usage.spent
    if method.shape == "study":
        return SystemResult(run, run.base, (), spent, returned)
    how = method.claim.solver if method.claim else None
    solved = run.solve(run.champion, run.task.test, "test", solver=how, temperature=0.0)
    return SystemResult(run, run.champion, solved, spent + _tokens(solved), returned)


def greedy(run: Run, tokens: int) -> SystemResult:
    """Greedy answers of the starting model."""
    del tokens
    return _plain(run, run.solve(run.base, run.task.test, "test", temperature=0.0))


def sample(run: Run, tokens: int) -> SystemResult:
    """One sample per problem from the starting model."""
    del tokens
    return _plain(run, run.solve(run.base, run.task.test, "test", **SAMPLING))


def majority(run: Run, tokens: int) -> SystemResult:
    """Majority vote over samples of the starting model that spend at least `tokens`, equally many per problem."""
    return _best(run, tokens, lambda group: won.voters[0] if (won := vote(group)) else group[0])


def best_logprob(run: Run, tokens: int) -> SystemResult:
    """The sample with the highest mean log-probability, of as many (sample-and-rank, 2203.11171, section 3.4)."""
    return _best(run, tokens, lambda group: max(group, key=lambda one: one.mean_logprob))


BASELINE_FUNCTIONS: dict[str, Callable[[Run, int], SystemResult]] = {
    "greedy": greedy,
    "sample": sample,
    "majority": majority,
    "best-logprob": best_logprob,
}


def sample_until(run: Run, tokens: int) -> list[SolverResult]:
    """Sample the test problems equally often from the starting model until at least `tokens` are spent."""
    drawn: list[SolverResult] = []
    count, used = 0, 0
    while not count or used < tokens:
        more = math.ceil((tokens - used) * count / used) if count else 1
        wave = run.solve(run.base, run.task.test, "test", samples=more, first=count, **SAMPLING)
        drawn += wave
        count += more
        used += (paid := _tokens(wave))
        if not paid:  # every request was refused; sampling more would change nothing
            break
    return drawn


def _best(run: Run, tokens: int, choose: Callable[[Sequence[Attempt]], Attempt]) -> SystemResult:
    drawn = sample_until(run, tokens)
    chosen = [choose(group) for group in by_problem(one.attempt for one in drawn).values()]
    return SystemResult(
        run, run.base, [SolverResult(attempt, attempt.num_tokens) for attempt in chosen], _tokens(drawn)
    )


def _plain(run: Run, solved: Sequence[SolverResult]) -> SystemResult:
    return SystemResult(run, run.base, solved, _tokens(solved))


def _tokens(solved: Sequence[SolverResult]) -> int:
    return sum(one.tokens for one in solved)
