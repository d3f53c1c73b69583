"""Runs solvers over many problems at once; every sample and every verdict goes through the journal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from selftaught.console import Console
from selftaught.engines import Engine, PaidEngine
from selftaught.errors import BadInput
from selftaught.identity import solver_name
from selftaught.journal import Journal, Ledger
from selftaught.models import Policy
from selftaught.models.heads import ScoreAt
from selftaught.records import Attempt, Feedback, Problem, Prompt, Solution, as_json, content_hash
from selftaught.refine.play import play
from selftaught.run.ask import Ask
from selftaught.run.ask_reading import AskEffects
from selftaught.run.background import BackgroundLoop, cancel
from selftaught.run.batches import RunInterrupted, advancing, drain
from selftaught.run.counts import RequestCounts
from selftaught.run.environment import JournaledEnvironment
from selftaught.run.episodes import Episodes
from selftaught.run.judgments import JournaledJudge, JudgeBatch
from selftaught.run.requests import JournaledEngine
from selftaught.run.scoring import score_one
from selftaught.run.solver import SolveBatch, SolverResult, Subject, check_own, problem_of
from selftaught.run.user_code import errors_of
from selftaught.run.verdicts import JournaledVerifier
from selftaught.tasks import Task

if TYPE_CHECKING:
    from selftaught.run.tuning import Tuner, TuningSession

T = TypeVar("T")
Work = TypeVar("Work")
Result = TypeVar("Result")

MAX_CONCURRENT = 4096  # solver calls awaited at once
NOTICE_SECONDS = 1.0  # a longer wait for answers in progress is announced


class Sampler:
    """Runs batches of solver calls on a background event loop.

    Args:
        engine: where tokens come from.
        task: extracts answers and verifies them.
        journal: where effects are looked up and kept.
        ledger: where their cost is counted.
        console: where progress is shown.
        seed: of sampling.
        failure_limit: share of a batch's verifications that may fail before it is given up.
        tick: called now and then during a long batch.
        model_input: see `JournaledEngine`.
        posed: new problems of the run by id, which grow; attempts at them are judged by these, whatever solvers see.

    Attributes:
        judgments: judges attempts, on the loop.
        beside: the engine of a teacher behind an endpoint; see `JournaledEngine`.
    """

    def __init__(
        self, engine: Engine, task: Task, journal: Journal, ledger: Ledger, console: Console, *, seed: int,
        failure_limit: float, tick: Callable[[], None], model_input: Callable[[Policy, Prompt], tuple[Policy, Prompt]],
        posed: Mapping[str, Problem],
    ) -> None:  # fmt: skip
        self._task, self._journal, self._ledger, self._console, self._tick = task, journal, ledger, console, tick
        self._counts = RequestCounts()
        self._engine = JournaledEngine(engine, task, journal, ledger, self._counts, seed, model_input)
        self._verifier = JournaledVerifier(task, journal, console, failure_limit, posed)
        score = partial(score_one, self._engine, task.steps)
        self._effects = AskEffects(self._engine.sample, self._engine.loglikelihood, score, journal.put_new)
        self.judgments = JournaledJudge(self._effects, task, journal)
        self.environment = JournaledEnvironment(task, journal, ledger, self._counts, seed, posed)
        self._loop = BackgroundLoop()
        self.tuner: Tuner | None = None
        self._engine.make_ready, self.beside = self._make_ready, self._engine.beside

    def solve(self, batch: SolveBatch) -> list[SolverResult]:
        """Run a batch; the results are in the order of its work.

        Raises:
            BadInput: too many verifications fail; what was sampled is kept.
        """
        results = self._run(self._run_all(batch.label, batch.work, lambda one: self._solve_one(batch, *one)))
        self._verifier.settle(batch)
        self.environment.settle(batch)
        for name, verdicts in (("unverified", batch.verdicts), ("unshown", batch.shown)):
            self._counts.add(name, len(verdicts.failed), verdicts.failed[0].text if verdicts.failed else "")
        self._counts.add("judged", len(results) if batch.verify else 0)
        self._counts.add("shown", batch.shown.count)
        return results

    def judge(self, batch: JudgeBatch) -> list[tuple[Feedback, ...]]:
        """Judge the attempts of a batch; the feedback is in the order of its work."""
        return self._run(self._run_all(batch.label, batch.work, lambda one: self.judgments.judge(batch, *one)))

    def nll(self, policy: Policy, attempts: Sequence[Attempt]) -> list[float]:
        """Negative log-likelihood of each attempt's text under `policy`, in nats; see `JournaledEngine.nll`."""
        return self._read_all([partial(self._engine.nll, policy, attempt) for attempt in attempts])

    def score(self, policy: Policy, subjects: Sequence[Subject], at: ScoreAt) -> list[Any]:
        """The score of each attempt or problem by the value head of `policy`; see `scoring.score_one`."""
        return self._read_all([partial(self._effects.score, policy, subject, at) for subject in subjects])

    def _read_all(self, reads: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """Await all of `reads` at once on the loop."""

        async def gather() -> list[T]:
            tasks = [asyncio.create_task(read()) for read in reads]
            await self._await_all(tasks)
            return [task.result() for task in tasks]

        return self._run(gather())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work on the loop; after an interrupt, answers that are paid for are awaited and kept."""
        try:
            return self._loop.run(work, self._drain)
        finally:
            self._engine.failure = None

    def _drain(self) -> bool:
        """Send nothing more; whether there are paid answers in progress that are worth waiting for."""
        reason = RunInterrupted()
        waits = drain(self._engines, reason, self._console)
        self._engine.failure = reason if waits else None
        return waits

    @property
    def _engines(self) -> list[Engine]:
        return [self._engine.engine, *self.beside.engines]

    def request_counts(self) -> dict[str, int]:
        """See `Run.request_counts`."""
        return self._counts.to_json() | {"retried": sum(one.num_retries for one in self._engines)}

    def no_answer_reason(self) -> str:
        """Why no request at all got an answer; empty where one did."""
        return self._counts.no_answer_reason(set(self._engine.refusals))

    def notes(self) -> list[str]:
        """What the user should know of all batches: failed verifications, requests without an answer."""
        return self._counts.notes()

    def stop_verifying(self) -> None:
        """Start no further verification."""
        self._loop.stop_pool()

    def close(self) -> None:
        """Stop the loop and its thread; closing twice is harmless."""
        self._loop.close()

    # --- on the loop's thread ---

    async def _run_all(
        self, label: str, work: Sequence[Work], make: Callable[[Work], Awaitable[Result]]
    ) -> list[Result]:
        """Await `make(one)` for all of `work`, many at a time; the results are in the same order."""
        results: dict[int, Result] = {}
        left = iter(enumerate(work))
        with self._console.meter(label, len(work)) as meter:
            advance = advancing(meter, self._ledger, self._tick)

            async def worker() -> None:
                for place, one in left:
                    if self._engine.failure is not None:
                        return
                    results[place] = await make(one)
                    advance()

            workers = min(MAX_CONCURRENT, len(work))
            await self._await_all([asyncio.create_task(worker()) for _ in range(workers)])
        return [results[place] for place in range(len(work))]

    async def _await_all(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        """Await tasks. The first failure ends them all: paid answers are awaited, everything else is cancelled."""
        try:
            if not tasks:
                return
            done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            failure = next((task.exception() for task in done if not task.cancelled() and task.exception()), None)
            self._engine.failure = failure or self._engine.failure
            paid = [one for one in self._engines if isinstance(one, PaidEngine)]
            if isinstance(failure, Exception | RunInterrupted) and paid and left:
                for engine in paid:
                    engine.cancel_unsent(failure)
                told = isinstance(failure, RunInterrupted)
                _, left = await asyncio.wait(left, timeout=None if told else NOTICE_SECONDS)
                if left:
                    self._console.print("  waiting for the answers in progress; interrupt to abandon them")
                    await asyncio.wait(left)
            if failure is not None:
                raise failure
        finally:
            self._engine.failure = None
            await cancel(tasks)

    async def _make_ready(self, policy: Policy) -> None:
        if self.tuner:
            await self.tuner.make_ready(policy)

    async def _solve_one(self, batch: SolveBatch, subject: Subject, name: str) -> SolverResult:
        tuner = self.tuner if batch.solver else None  # a plain sample tunes nothing
        tuning = tuner.session(batch.policy, problem_of(subject), name) if tuner else None
        try:
            result = await self._solved(batch, subject, name, tuning)
        finally:
            if tuning:
                tuning.close()
        return await batch.finish(result) if batch.finish else result

    async def _solved(
        self, batch: SolveBatch, subject: Subject, name: str, tuning: TuningSession | None
    ) -> SolverResult:
        problem = problem_of(subject)
        episodes = Episodes(self.environment, batch, problem, name)
        verify = partial(self._verdict, batch, episodes) if batch.verdicts_visible else None
        shown = partial(self._shown_verdict, batch, problem)
        known = self._effects
        effects = AskEffects(
            known.sample, known.loglikelihood, known.score, known.log, verify, shown, episodes.act
        )  # many times faster than `replace`
        if tuning:
            effects = tuning.opened(effects)
        ask = Ask(effects, batch.policy, problem, batch.sampling, name, self._task, top_logprobs=batch.top_logprobs)
        with errors_of(batch.solver, "solver"):
            made = await (batch.solver or self._default_solver)(ask, subject)
        attempt, data = (made.attempt, made.data) if isinstance(made, Solution) else (made, None)
        if not isinstance(attempt, Attempt):
            raise BadInput(f"it returned {attempt!r:.60}, expected an Attempt", where=solver_name(batch.solver))
        check_own(attempt, problem, batch.solver)
        self._counts.returned.add(attempt.id)
        if data is not None:
            data = self._journal_data(batch, attempt, name, data)
        turns = ask.attempts if batch.keep_turns else []
        if self._task.environment is not None:
            return await self._episode_result(batch, episodes, attempt, ask, data)
        if batch.verify:
            attempt, *turns = [await self._verifier.judged(batch, one) for one in (attempt, *turns)]
        return SolverResult(attempt, ask.tokens, tuple(turns), data)

    async def _default_solver(self, ask: Ask, subject: Any) -> Attempt:
        """One sample of the problem's own prompt, or an episode where the task answers back."""
        problem = problem_of(subject)
        return await (ask(problem.prompt) if self._task.environment is None else play(ask, problem))

    async def _verdict(self, batch: SolveBatch, episodes: Episodes, attempt: Attempt) -> Feedback:
        """The verdict on an attempt, or on the episode that it ended."""
        check_own(attempt, episodes.problem, "ask.verify")
        found = episodes.verdict(attempt) if self._task.environment is not None else None
        return found or await self._verifier.verify(batch, attempt)

    async def _shown_verdict(self, batch: SolveBatch, problem: Problem, attempt: Attempt) -> Feedback:
        """The verdict that the task shows on an attempt."""
        return await self._verifier.verify_shown(batch, check_own(attempt, problem, "ask.verify_shown"))

    async def _episode_result(
        self, batch: SolveBatch, episodes: Episodes, attempt: Attempt, ask: Ask, data: Any
    ) -> SolverResult:
        """The outcome of a call that acted in the environment; its verdict stands on what ended the episode."""
        turns, rewards = ask.attempts if batch.keep_turns else [], ()
        step = episodes.step(attempt)
        self._counts.add_episode(attempt.id, unfinished=step is not None and step.truncated)
        if batch.verify:
            attempt, *turns = [
                await self._judge_turn(batch, one, episodes, last=one.id == attempt.id) for one in (attempt, *turns)
            ]
            rewards = tuple(map(episodes.reward, turns))
        return SolverResult(attempt, ask.tokens, tuple(turns), data, rewards)

    async def _judge_turn(self, batch: SolveBatch, turn: Attempt, episodes: Episodes, *, last: bool) -> Attempt:
        step, feedback = episodes.step(turn), episodes.verdict(turn)
        if turn.failed or not (last or (step and step.over)):
            return turn
        if feedback is None:
            return await self._verifier.judged(batch, turn)
        return await self._verifier.judge_episode(batch, turn, feedback)

    def _journal_data(self, batch: SolveBatch, attempt: Attempt, name: str, data: Any) -> Any:
        """Journal the data of a `Solution`; returned as it will be read back."""
        try:
            plain = json.loads(json.dumps(as_json(data), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            where = solver_name(batch.solver)
            raise BadInput(f"the data of its Solution is not plain JSON ({error})", where=where) from None
        payload = {"problem": attempt.problem.id, "policy": batch.policy.version, "attempt": attempt.id, "data": plain}
        self._journal.put_new(content_hash("solution", name, payload), "solution", payload)
        return plain
