"""Solving problems: every sample and every verdict goes through the journal."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

from selftaught.ask import Ask, Question
from selftaught.console import Console
from selftaught.engines import Engine, EngineError, Request, RequestRefused, Sampling
from selftaught.errors import BadInput
from selftaught.identity import solver_name
from selftaught.journal import Journal, Ledger, Usage
from selftaught.models import Policy
from selftaught.records import Attempt, Feedback, Problem, Solution, Verdict, as_json, content_hash, judged_text
from selftaught.tasks import Task

T = TypeVar("T")
Subject = Problem | Attempt
Solver = Callable[[Ask, Any], Awaitable[Attempt | Solution]]

JUDGING = frozenset({"critique", "judge"})
IN_FLIGHT = 4096  # most solvings awaited at once
VERIFYING = min(32, (os.cpu_count() or 1) + 4)  # threads that wait for verdicts
FEW = 3  # so many failed verifications stop no run, whatever their share
SIGNAL_SECONDS = 0.1  # how late an interrupt may be noticed
CLOCK_SECONDS = 5.0  # how often a long batch of solvings notes the time it took
FAILURES = (
    "verifier raised", "verifier died", "verifier could not start", "verifier returned a ", "verifier returned NaN",
    "timeout",
)  # fmt: skip
"""How the text of a failed verification begins; any other UNKNOWN is a verdict on the answer."""


@dataclass(frozen=True, slots=True)
class Solved:
    """The outcome of one solving: the attempt handed in, all tokens it took, and (if asked for) all its attempts.

    `data` is what the solver handed back beside the attempt (`Solution`), as the journal keeps it.
    """

    attempt: Attempt
    tokens: int
    turns: tuple[Attempt, ...] = ()
    data: Any = None


@dataclass(slots=True)
class Batch:
    """Solvings that belong together: one policy, one solver, and the failures met so far.

    Attributes:
        what: what the console calls it.
        solver: None asks each problem's own prompt once.
        judged: whether the verifier judges the outcomes.
        work: what to solve, a problem or an attempt to go on from, and the name of that solving.
        turns: whether all that was sampled is handed back too, judged as the outcome is.
        shown: whether solvers may see verdicts while they solve (`Ask.verdict`).
        failed: failed verifications, one per attempt.
        unsettled: what the journal is to hold of those of them that are not in it yet, by key.
    """

    what: str
    policy: Policy
    solver: Solver | None
    sampling: Sampling
    judged: bool
    work: Sequence[tuple[Subject, str]]
    turns: bool = False
    shown: bool = False
    failed: list[Feedback] = field(default_factory=list)
    unsettled: dict[str, list[Any]] = field(default_factory=dict)


class Solving:
    """Solves problems on an event loop in a thread of its own, so that it also works inside a notebook's.

    Args:
        engine: where tokens come from.
        task: extracts answers and verifies them.
        journal: where effects are looked up and kept.
        ledger: where their cost is counted.
        console: where progress is shown.
        seed: of sampling.
        failure_limit: share of a batch's verifications that may fail before it is given up.
        tick: called now and then during a long batch.
    """

    def __init__(
        self, engine: Engine, task: Task, journal: Journal, ledger: Ledger, console: Console, *, seed: int,
        failure_limit: float, tick: Callable[[], None],
    ) -> None:  # fmt: skip
        self._engine, self._task, self._journal, self._ledger, self._console = engine, task, journal, ledger, console
        self._seed, self._limit, self._tick = seed, failure_limit, tick
        self._true = {p.id: as_json(p.reference) for split in (task.train, task.dev, task.test) for p in split}
        self._under_way: dict[str, asyncio.Task[Any]] = {}
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._full: set[str] = set()  # samples cut off where the model's context was full
        self._loop = asyncio.new_event_loop()
        self._verifying = ThreadPoolExecutor(VERIFYING, "selftaught-verify")
        self._loop.set_default_executor(self._verifying)
        self._thread = threading.Thread(target=self._loop.run_forever, name="selftaught-run", daemon=True)
        self._thread.start()

    def solve(self, batch: Batch) -> list[Solved]:
        """Solve a batch, in the order of its work.

        Raises:
            BadInput: too many verifications fail; what was sampled is kept.
        """
        try:
            solved = self._wait(self._all(batch))
        except BaseExceptionGroup as group:  # the first failure cancelled the others
            raise group.exceptions[0] from None
        for key, payload in batch.unsettled.items():
            self._note(key, "verify", payload)
        self._count("refused", [f.text for s in solved for f in s.attempt.feedback if f.text.startswith("refused")])
        self._count("failed", [f.text for f in batch.failed])
        self._counts["judged"] += len(solved) if batch.judged else 0
        if batch.failed:
            self._console.say(
                f"  warning: {len(batch.failed)} of {len(solved)} verifications failed and count as UNKNOWN"
            )
        return solved

    def surprise(self, policy: Policy, attempts: Sequence[Attempt]) -> list[float]:
        """Negative log-likelihood of each attempt's text under `policy`, in nats; every one is an effect."""

        async def all_of_them() -> list[float]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._surprise(policy, attempt)) for attempt in attempts]
            return [task.result() for task in tasks]

        try:
            return self._wait(all_of_them())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def notes(self) -> list[str]:
        """What the user should know of all batches: failed verifications, refused requests, answers cut off."""
        counts, notes = self._counts, []
        if counts["failed"]:
            line = f"{counts['failed']:,} of {counts['judged']:,} verifications failed and count as UNKNOWN"
            notes.append(f"{line} ({self._first['failed']})")
        if counts["refused"]:
            notes.append(f"{counts['refused']:,} requests were refused ({self._first['refused']})")
        if self._full:
            notes.append(f"{len(self._full):,} answers ended before --max-tokens: the model's context was full")
        return notes

    def _count(self, what: str, texts: list[str]) -> None:
        self._counts[what] += len(texts)
        if texts:
            self._first.setdefault(what, texts[0])

    # --- on the loop's thread ---

    async def _all(self, batch: Batch) -> list[Solved]:
        outcomes: dict[int, Solved] = {}
        left = iter(enumerate(batch.work))
        before, started = self._ledger.usage.spent, time.monotonic()
        ticked = started
        with self._console.meter(batch.what, len(batch.work)) as meter:

            async def take() -> None:
                nonlocal ticked
                for place, (subject, name) in left:
                    outcomes[place] = await self._one(batch, subject, name)
                    now, spent = time.monotonic(), self._ledger.usage.spent
                    speed = (spent - before) / max(1e-9, now - started)
                    meter.advance(1, f"{speed:.0f} tokens/s, {spent:,} tokens spent")
                    if now - ticked > CLOCK_SECONDS:
                        ticked = now
                        self._tick()

            async with asyncio.TaskGroup() as group:
                for _ in range(min(IN_FLIGHT, len(batch.work))):
                    group.create_task(take())
        return [outcomes[place] for place in range(len(batch.work))]

    async def _one(self, batch: Batch, subject: Subject, name: str) -> Solved:
        problem = problem_of(subject)
        judge = partial(self._feedback, batch) if batch.shown else None
        ask = Ask(self._sample, batch.policy, problem, batch.sampling, name, self._task, judge=judge, note=self._note)
        made = await (batch.solver(ask, subject) if batch.solver else ask(problem.prompt))
        attempt, data = (made.attempt, made.data) if isinstance(made, Solution) else (made, None)
        if not isinstance(attempt, Attempt):
            raise BadInput(f"it returned {attempt!r:.60}, expected an Attempt", where=solver_name(batch.solver))
        if data is not None:
            data = self._keep(batch, attempt, name, data)
        turns = ask.made if batch.turns else []
        if batch.judged:
            attempt, *turns = [await self._judge(batch, one) for one in (attempt, *turns)]
        return Solved(attempt, ask.tokens, tuple(turns), data)

    def _keep(self, batch: Batch, attempt: Attempt, name: str, data: Any) -> Any:
        """Journal what a solver hands back beside its attempt; returned as it will be read back."""
        try:
            plain = json.loads(json.dumps(as_json(data), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            where = solver_name(batch.solver)
            raise BadInput(f"the data of its Solution is not plain JSON ({error})", where=where) from None
        payload = {"problem": attempt.problem.id, "policy": batch.policy.version, "attempt": attempt.id, "data": plain}
        self._note(content_hash("solution", name, payload), "solution", payload)
        return plain

    async def _once(self, key: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `make` comes to, made once however many ask for it at the same time."""
        if key not in self._under_way:
            self._under_way[key] = task = asyncio.ensure_future(make())
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await self._under_way[key]

    async def _sample(self, question: Question) -> Attempt:
        """One sample through the journal."""
        key = question.key(self._seed)
        payload, usage = self._journal.get(key) or await self._once(key, lambda: self._pay(key, question))
        self._ledger.count(key, usage)
        text, refused = question.begun + payload["text"], payload.get("refused")
        size = payload.get("counted") or len(payload["tokens"])
        if payload["finish"] == "length" and 0 < size < question.sampling.max_tokens:
            self._full.add(key)
        return Attempt(
            id=key,
            problem=question.problem,
            prompt=question.prompt,
            text=text,
            answer=None if refused else self._task.extract(question.problem, text),
            token_ids=tuple(payload["tokens"]),
            logprobs=tuple(payload["logprobs"]),
            finish_reason=payload["finish"],
            by=question.policy.version,
            role=question.role,
            parent=question.parent.id if question.parent else None,
            feedback=(Feedback(Verdict.UNKNOWN, text=f"refused: {refused}", by=self._engine.name),) if refused else (),
            counted=payload.get("counted"),
            given=question.given or ((question.prefix,) if question.prefix else ()),
            begun=len(question.begun),
            cut=payload.get("cut", ""),
        )

    async def _pay(self, key: str, question: Question) -> tuple[dict[str, Any], Usage]:
        """Sample, and journal what came back; a refusal is an outcome too."""
        policy = question.policy.version
        request = Request(question.prompt, question.sampling, int(key, 16) >> 1, question.prefix, question.given)
        parent = question.parent.id if question.parent else None
        payload = {"problem": question.problem.id, "policy": policy, "role": question.role, "parent": parent}
        payload["sampling"] = _as_json(question.sampling)
        payload |= {"begun": len(question.begun), "forced": question.forced} if question.begun else {}
        try:
            sample = await self._engine.sample(question.policy, request)
        except RequestRefused as error:
            payload |= {"text": "", "tokens": [], "logprobs": [], "finish": "error", "refused": str(error)}
            usage = Usage()
        else:
            if sample.policy != policy:
                raise EngineError(f"engine {self._engine.name} sampled policy {sample.policy} when asked for {policy}")
            payload |= {"text": sample.text, "tokens": sample.token_ids, "finish": sample.finish_reason}
            payload["logprobs"] = [round(value, 6) for value in sample.logprobs]
            payload |= {} if sample.counted is None else {"counted": sample.counted}
            payload |= {"cut": sample.cut} if sample.cut else {}
            usage = _cost(question.role, sample.prompt_tokens, sample.tokens)
        self._journal.put(key, "sample", payload, usage)
        return payload, usage

    async def _surprise(self, policy: Policy, attempt: Attempt) -> float:
        key = content_hash("surprise", policy.version, attempt.prompt, attempt.text)
        payload, usage = self._journal.get(key) or await self._once(key, lambda: self._read(key, policy, attempt))
        self._ledger.count(key, usage)
        return payload["nats"]

    async def _read(self, key: str, policy: Policy, attempt: Attempt) -> tuple[dict[str, Any], Usage]:
        logprobs = await self._engine.logprobs(policy, attempt.prompt, attempt.text)
        nats = round(-sum(logprobs), 4)
        payload, usage = {"attempt": attempt.id, "policy": policy.version, "nats": nats}, Usage(prompt=len(logprobs))
        self._journal.put(key, "surprise", payload, usage)
        return payload, usage

    async def _judge(self, batch: Batch, attempt: Attempt) -> Attempt:
        """The attempt with the task's feedback; critiques and judgements answer no problem, and are left alone."""
        if attempt.finish_reason == "error" or attempt.role in JUDGING:
            return attempt
        return replace(attempt, feedback=(*attempt.feedback, await self._feedback(batch, attempt)))

    async def _feedback(self, batch: Batch, attempt: Attempt) -> Feedback:
        """The task's verdict on an attempt, through the journal."""
        problem, version = attempt.problem, self._task.verifier.version
        key = content_hash("verify", version, problem.id, self._true.get(problem.id), attempt.text)
        if (found := self._journal.get(key)) is not None:
            verdict, score, text, *_ = found[0]
            feedback = Feedback(Verdict(verdict), score, text, version)
        else:
            feedback = self._task.decide(problem, attempt.text) or await self._once(
                key, lambda: asyncio.to_thread(self._task.verify, problem, attempt.text)
            )
            self._settle(batch, key, verdict_payload(attempt, feedback))
        if feedback.text.startswith(FAILURES):
            self._failed(batch, feedback)
        return feedback

    def _note(self, key: str, kind: str, payload: Any) -> None:
        if self._journal.get(key) is None:
            self._journal.put(key, kind, payload)

    def _settle(self, batch: Batch, key: str, payload: list[Any]) -> None:
        """Journal a verdict; a failure only when its batch is through: the rerun of a given-up one tries again."""
        if payload[2].startswith(FAILURES):
            batch.unsettled[key] = payload
        else:
            self._note(key, "verify", payload)

    def _failed(self, batch: Batch, feedback: Feedback) -> None:
        """Note a failed verification; give up as soon as it is certain that too many of the batch fail."""
        batch.failed.append(feedback)
        count, total = len(batch.failed), len(batch.work)
        if count == 1:
            self._console.say(f"  warning: {feedback.text} (the attempt counts as UNKNOWN)")
        if count > max(FEW, self._limit * total):
            fix = "mend it and run the same command again: samples are kept"
            raise BadInput(f"{count} of {total} verifications failed ({feedback.text})", where="verifier", fix=fix)

    # --- life ---

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a solver cannot use the run it is solved by: ask with `ask`")
        over = threading.Event()

        async def whole() -> T:
            try:
                return await work
            finally:
                over.set()

        future = asyncio.run_coroutine_threadsafe(whole(), self._loop)
        try:
            # In pieces: the system may hand a signal to any thread, and a main thread that waits without end
            # would run its handler only when there is nothing left to interrupt.
            while not wait([future], timeout=SIGNAL_SECONDS).done:
                pass
            return future.result()
        except BaseException:
            if future.cancel():  # interrupted: let the loop wind up before anything is closed
                over.wait(timeout=5.0)
            raise

    def wind_up(self) -> None:
        """Begin no further verification."""
        self._verifying.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Stop the loop and its thread; closing twice is harmless."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def verdict_payload(attempt: Attempt, feedback: Feedback) -> list[Any]:
    """A verdict as the journal keeps it: verdict, score, text, what was judged (`judged_text`), and by whom."""
    what = judged_text(attempt.problem.id, attempt.text)
    return [feedback.verdict, feedback.score, feedback.text, what, feedback.by]


@lru_cache(maxsize=256)
def _as_json(sampling: Sampling) -> Any:
    return as_json(sampling)


def _cost(role: str, prompt: int, count: int) -> Usage:
    return Usage(prompt, judge=count) if role in JUDGING else Usage(prompt, generated=count)


def problem_of(subject: Subject) -> Problem:
    """The problem itself, or the one that an attempt is at."""
    return subject.problem if isinstance(subject, Attempt) else subject
