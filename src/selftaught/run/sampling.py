"""Solving problems: every sample and every verdict goes through the journal."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

from selftaught.console import Console
from selftaught.engines import Engine, EngineError, PaidEngine, Request, RequestRefused, Sampling
from selftaught.engines.base import RequestFailed
from selftaught.errors import BadInput
from selftaught.identity import solver_name
from selftaught.journal import Journal, Ledger, Usage
from selftaught.models import Policy
from selftaught.records import (
    Attempt,
    Feedback,
    Problem,
    Solution,
    Verdict,
    as_json,
    content_hash,
    judged_text,
    well_formed,
)
from selftaught.run.ask import Ask, Question
from selftaught.run.once import Once, cancel_all, cancelled
from selftaught.tasks import Task
from selftaught.tasks.thinking import thinking_alone

T = TypeVar("T")
Subject = Problem | Attempt
Solver = Callable[[Ask, Any], Awaitable[Attempt | Solution]]

JUDGING = frozenset({"critique", "judge"})
IN_FLIGHT = 4096  # most solvings awaited at once
VERIFYING = min(32, (os.cpu_count() or 1) + 4)  # threads that wait for verdicts
FEW = 3  # so many failed verifications stop no run, whatever their share
SIGNAL_SECONDS = 0.1  # how late an interrupt may be noticed
SAY_SECONDS = 1.0  # what ends within, nobody needs to be told of
CLOCK_SECONDS = 5.0  # how often a long batch of solvings notes the time it took
FAILURES = (
    "verifier raised", "verifier died", "verifier could not start", "verifier returned a ", "verifier returned NaN",
    "timeout",
)  # fmt: skip
"""How the text of a failed verification begins; any other UNKNOWN is a verdict on the answer."""
AGAIN = "nothing is kept of that: the same command asks again"
NOTHING: Mapping[str, Any] = {"text": "", "tokens": (), "logprobs": (), "finish": "error"}


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
        self._once = Once()
        self._refused: dict[str, RequestRefused] = {}  # not journalled: another start asks again
        self._failure: BaseException | None = None
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._handed: set[str] = set()  # attempts that solvers returned
        self._alone: set[str] = set()  # samples that are thinking alone, and no step of an answer
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
        solved = self._wait(self._all(batch))
        for key, payload in batch.unsettled.items():
            self._note(key, "verify", payload)
        self._count("unverified", [f.text for f in batch.failed])
        self._counts["judged"] += len(solved) if batch.judged else 0
        if batch.failed:
            self._console.say(
                f"  warning: {len(batch.failed)} of {len(solved)} verifications failed and count as UNKNOWN"
            )
        return solved

    def surprise(self, policy: Policy, attempts: Sequence[Attempt]) -> list[float]:
        """Negative log-likelihood of each attempt's text under `policy`, in nats; every one is an effect.

        NaN where the engine refuses to read the text, which counts as a refused request.
        """

        async def all_of_them() -> list[float]:
            found: dict[int, float] = {}

            async def one(place: int, attempt: Attempt) -> None:
                found[place] = await self._surprise(policy, attempt)

            await self._to_the_end([asyncio.create_task(one(*item)) for item in enumerate(attempts)])
            return [found[place] for place in range(len(attempts))]

        return self._wait(all_of_them())

    def requests(self) -> dict[str, int]:
        """What became of the requests: how many were `answered`, how many of the answers handed in are `thinking_only`
        (no answer in them), and how many had characters `replaced` (that are none); how many were `refused` and how
        many `failed`, neither of which is kept; and how many were `retried` on this start."""
        counts = {name: self._counts[name] for name in ("answered", "thinking_only", "replaced", "refused", "failed")}
        counts["thinking_only"] = len(self._handed & self._alone)
        return counts | {"retried": getattr(self._engine, "num_retries", 0)}

    def unanswered(self) -> str:
        """Why there is not one answer, where there is none; else empty."""
        counts = self._counts
        asked = counts["answered"] + counts["refused"] + counts["failed"]
        if counts["answered"]:
            asked = len(self._handed) if self._handed <= self._alone.union(self._refused) else 0
            asked = asked if self._handed & self._alone else 0
        if not asked:
            return ""
        why = [self._first[what] for what in ("failed", "refused") if what in self._first]
        reason = why[0] if why else "they are thinking alone, cut off before an answer: allow more (--max-tokens)"
        return f"none of {_several(asked, 'request')} got an answer ({reason})"

    def notes(self) -> list[str]:
        """What the user should know of all batches: failed verifications, requests without an answer."""
        counts, first, notes = self._counts, self._first, []
        if counts["unverified"]:
            line = f"{counts['unverified']:,} of {counts['judged']:,} verifications failed and count as UNKNOWN"
            notes.append(f"{line} ({first['unverified']})")
        if counts["refused"]:
            were = "was" if counts["refused"] == 1 else "were"
            notes.append(f"{_several(counts['refused'], 'request')} {were} refused ({first['refused']}); {AGAIN}")
        if counts["failed"]:
            notes.append(f"{_several(counts['failed'], 'request')} got no answer ({first['failed']}); {AGAIN}")
        if thinking := len(self._handed & self._alone):
            line = f"{thinking:,} of {_several(len(self._handed), 'answer')} {'is' if thinking == 1 else 'are'}"
            notes.append(f"{line} thinking alone, with no answer behind it: allow more tokens (--max-tokens)")
        if counts["replaced"]:
            notes.append(f"{_several(counts['replaced'], 'answer')} had invalid characters, replaced by U+FFFD")
        if self._full:
            full = _several(len(self._full), "answer")
            notes.append(f"{full} ended before --max-tokens: the model's context was full")
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
                    if self._failure is not None:
                        return
                    outcomes[place] = await self._one(batch, subject, name)
                    now, spent = time.monotonic(), self._ledger.usage.spent
                    speed = (spent - before) / max(1e-9, now - started)
                    meter.advance(1, f"{speed:.0f} tokens/s, {spent:,} tokens spent")
                    if now - ticked > CLOCK_SECONDS:
                        ticked = now
                        self._tick()

            await self._to_the_end([asyncio.create_task(take()) for _ in range(min(IN_FLIGHT, len(batch.work)))])
        return [outcomes[place] for place in range(len(batch.work))]

    async def _to_the_end(self, tasks: Collection[asyncio.Task[None]]) -> None:
        """Await tasks. The first failure ends them all: answers that are paid for are awaited, all else cancelled."""
        try:
            if not tasks:
                return
            done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            self._failure = next((task.exception() for task in done if not task.cancelled() and task.exception()), None)
            if isinstance(self._failure, Exception) and isinstance(self._engine, PaidEngine) and left:
                self._engine.cancel_unsent(self._failure)
                _, left = await asyncio.wait(left, timeout=SAY_SECONDS)
                if left:
                    self._console.say("  waiting for the answers under way; interrupt to give them up")
                    await asyncio.wait(left)
            if self._failure is not None:
                raise self._failure
        finally:
            self._failure = None
            await cancelled(tasks)

    async def _one(self, batch: Batch, subject: Subject, name: str) -> Solved:
        problem = problem_of(subject)
        judge = partial(self._feedback, batch) if batch.shown else None
        ask = Ask(self._sample, batch.policy, problem, batch.sampling, name, self._task, judge=judge, note=self._note)
        made = await (batch.solver(ask, subject) if batch.solver else ask(problem.prompt))
        attempt, data = (made.attempt, made.data) if isinstance(made, Solution) else (made, None)
        if not isinstance(attempt, Attempt):
            raise BadInput(f"it returned {attempt!r:.60}, expected an Attempt", where=solver_name(batch.solver))
        self._handed.add(attempt.id)
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

    async def _sample(self, question: Question) -> Attempt:
        """One sample through the journal."""
        key = question.key(self._seed)
        try:
            if key in self._refused:
                raise self._refused[key]
            payload, usage = self._known(key, question) or await self._once(key, lambda: self._pay(key, question))
        except RequestRefused as error:
            self._tell_refused(key, error)
            return self._attempt(key, question, NOTHING, error)
        size = payload.get("counted") or len(payload["tokens"])
        if payload["finish"] == "length" and 0 < size < question.sampling.max_tokens:
            self._full.add(key)
        if payload.get("thinking_only") and not question.sampling.stop:
            self._alone.add(key)
        if self._ledger.count(key, usage):
            self._counts["answered"] += 1
            self._counts["replaced"] += payload.get("replaced", False)
        return self._attempt(key, question, payload, None)

    def _tell_refused(self, key: str, error: RequestRefused) -> None:
        if key not in self._refused:
            self._refused[key] = error
            what = "failed" if isinstance(error, RequestFailed) else "refused"
            self._count(what, [str(error)])

    def _attempt(
        self, key: str, question: Question, payload: Mapping[str, Any], error: RequestRefused | None
    ) -> Attempt:
        text = question.begun + well_formed(payload["text"])
        feedback = ()
        if error is not None:
            what = "failed" if isinstance(error, RequestFailed) else "refused"
            feedback = (Feedback(Verdict.UNKNOWN, text=f"{what}: {error}", by=self._engine.name),)
        return Attempt(
            id=key,
            problem=question.problem,
            prompt=question.prompt,
            text=text,
            answer=None if error else self._task.extract(question.problem, text),
            token_ids=tuple(payload["tokens"]),
            logprobs=tuple(payload["logprobs"]),
            finish_reason=payload["finish"],
            by=question.policy.version,
            role=question.role,
            parent=question.parent.id if question.parent else None,
            feedback=feedback,
            counted=payload.get("counted"),
            given=question.given or ((question.prefix,) if question.prefix else ()),
            begun=len(question.begun),
            cut=payload.get("cut", ""),
        )

    def _known(self, key: str, question: Question) -> tuple[dict[str, Any], Usage] | None:
        """What the journal holds of a sample. A failure that an older version kept in its place is no sample."""
        found = self._journal.get(key)
        return None if found is not None and _is_failure(found[0], question) else found

    async def _pay(self, key: str, question: Question) -> tuple[dict[str, Any], Usage]:
        """Sample, and journal what came back. What got no answer is not kept: the next start asks again.

        Raises:
            RequestRefused: there is no answer.
        """
        if self._failure is not None:  # the batch ends, and nothing further is paid for
            raise self._failure
        policy = question.policy.version
        request = Request(question.prompt, question.sampling, int(key, 16) >> 1, question.prefix, question.given)
        parent = question.parent.id if question.parent else None
        payload = {"problem": question.problem.id, "policy": policy, "role": question.role, "parent": parent}
        payload["sampling"] = _as_json(question.sampling)
        payload |= {"begun": len(question.begun), "forced": question.forced} if question.begun else {}
        sample = await self._engine.sample(question.policy, request)
        if sample.policy != policy:
            raise EngineError(f"engine {self._engine.name} sampled policy {sample.policy} when asked for {policy}")
        text = well_formed(sample.text)
        payload |= {"text": text, "tokens": sample.token_ids, "finish": sample.finish_reason}
        payload["logprobs"] = [round(value, 6) for value in sample.logprobs]
        payload |= {} if sample.num_tokens is None else {"counted": sample.num_tokens}
        payload |= {"cut": well_formed(sample.stop_text)} if sample.stop_text else {}
        payload |= {"replaced": True} if sample.replaced or text != sample.text else {}
        payload |= {"thinking_only": True} if thinking_alone(question.begun + text, sample.finish_reason) else {}
        usage = _cost(question.role, sample.prompt_tokens, sample.tokens)
        if (failed := self._journal.get(key)) is None:
            self._journal.put(key, "sample", payload, usage)
        else:
            usage += failed[1]  # it was paid for, too
            self._journal.replace(key, payload, usage)
        return payload, usage

    async def _surprise(self, policy: Policy, attempt: Attempt) -> float:
        key = content_hash("surprise", policy.version, attempt.prompt, attempt.text)
        try:
            payload, usage = self._journal.get(key) or await self._once(key, lambda: self._read(key, policy, attempt))
        except RequestRefused as error:
            self._tell_refused(key, error)
            return math.nan
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
        if attempt.failed or attempt.role in JUDGING:
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
            with suppress(TimeoutError):  # a solver that does not let itself be cancelled is left behind
                asyncio.run_coroutine_threadsafe(cancel_all(), self._loop).result(timeout=5.0)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _is_failure(payload: Mapping[str, Any], question: Question) -> bool:
    """Whether a journalled sample is what older versions kept where there was no answer."""
    if payload.get("refused"):
        return True
    empty = question.policy.remote and not payload["text"] and not payload.get("thinking_only")
    return bool(empty and not (question.sampling.stop or question.prefix or question.given))


def verdict_payload(attempt: Attempt, feedback: Feedback) -> list[Any]:
    """A verdict as the journal keeps it: verdict, score, text, what was judged (`judged_text`), and by whom."""
    what = judged_text(attempt.problem.id, attempt.text)
    return [feedback.verdict, feedback.score, feedback.text, what, feedback.by]


@lru_cache(maxsize=256)
def _as_json(sampling: Sampling) -> Any:
    return as_json(sampling)


def _cost(role: str, prompt: int, count: int) -> Usage:
    return Usage(prompt, judge=count) if role in JUDGING else Usage(prompt, generated=count)


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def problem_of(subject: Subject) -> Problem:
    """The problem itself, or the one that an attempt is at."""
    return subject.problem if isinstance(subject, Attempt) else subject
