"""Verdicts of the task's verifier, through the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from selftaught.console import Console
from selftaught.errors import BadInput
from selftaught.feedback.verdicts import VERIFIER_FAILURES
from selftaught.journal import Journal
from selftaught.records import Attempt, Feedback, Problem, Verdict, as_json, content_hash, judged_text_hash
from selftaught.run.background import SharedTasks
from selftaught.run.solver import JUDGE_ROLES, SolveBatch, VerdictLog
from selftaught.tasks import Task

MIN_FAILURES = 3  # up to this many failed verifications never stop a run
REPAIR = "repair it and run the same command again: samples are kept"


Kind = Literal["verify", "shown"]
"""Whose verdict it is, and of which kind its journal entry: the task's, or the one that solvers may consult."""

WORDS: dict[Kind, tuple[str, str, str]] = {
    "verify": ("verifications", "count as UNKNOWN", "the attempt counts as UNKNOWN"),
    "shown": ("shown verdicts", "are UNKNOWN", "the solver sees UNKNOWN"),
}
"""What messages call the verdicts, and what becomes of failed ones, of several and of one."""


@dataclass(slots=True)
class JournaledVerifier:
    """Judges attempts through the journal.

    Attributes:
        task: verifies.
        journal: where verdicts are looked up and kept.
        console: where failures are shown.
        failure_limit: share of a batch's verifications that may fail before it is given up.
        posed: new problems of the run by id; attempts at them are judged by these, whatever a solver sees of them.
    """

    task: Task
    journal: Journal
    console: Console
    failure_limit: float
    posed: Mapping[str, Problem]
    _references: dict[str, Any] = field(init=False)
    _share: SharedTasks = field(default_factory=SharedTasks)

    def __post_init__(self) -> None:
        task = self.task
        self._references = {p.id: as_json(p.reference) for split in (task.train, task.dev, task.test) for p in split}

    async def judged(self, batch: SolveBatch, attempt: Attempt) -> Attempt:
        """The attempt with the task's feedback; failed ones, critiques and judgments are left alone."""
        if attempt.failed or attempt.role in JUDGE_ROLES:
            return attempt
        return replace(attempt, feedback=(*attempt.feedback, await self.verify(batch, attempt)))

    async def verify(self, batch: SolveBatch, attempt: Attempt) -> Feedback:
        """The task's verdict on an attempt.

        Raises:
            BadInput: too many verifications of the batch failed.
        """
        task, problem = self.task, self._true_problem(attempt)
        version = task.verifier.version
        key = self._key("verify", version, problem, attempt)
        if (found := self.journal.get(key)) is not None:
            verdict, score, text, *_ = found[0]
            feedback = Feedback(Verdict(verdict), score, text, version)
        else:
            feedback = task.decide(problem, attempt.text) or await self._share(
                key, lambda: asyncio.to_thread(task.verify, problem, attempt.text)
            )
            self._keep(batch.verdicts, key, "verify", verdict_payload(attempt, feedback))
        self._count(batch, "verify", feedback)
        return feedback

    async def verify_shown(self, batch: SolveBatch, attempt: Attempt) -> Feedback:
        """The verdict that the task shows to solvers on any split; it never counts as the task's.

        Raises:
            BadInput: the task shows none, or too many of its verdicts in the batch failed.
        """
        task, problem = self.task, self._true_problem(attempt)
        version = task.shown.version if task.shown else ""
        key = self._key("shown", version, problem, attempt)
        found = self.journal.get(key)
        if (payload := found[0] if found else batch.shown.pending.get(key)) is None:
            feedback = await self._share(key, lambda: asyncio.to_thread(task.verify_shown, problem, attempt.text))
            payload = verdict_payload(attempt, feedback)
            self._keep(batch.shown, key, "shown", payload)
        verdict, score, text, *_ = payload
        feedback = Feedback(Verdict(verdict), score, text, version, "shown")
        self._count(batch, "shown", feedback)
        return feedback

    def _true_problem(self, attempt: Attempt) -> Problem:
        """The problem that an attempt is judged by: the task's own, else the posed one, else the attempt's."""
        return self.task.known(self.posed.get(attempt.problem.id, attempt.problem))

    def _key(self, kind: Kind, version: str, problem: Problem, attempt: Attempt) -> str:
        """The content key of a verdict; of a problem that the run does not know, the reference is not part."""
        reference = self._references.get(problem.id)
        if problem.id in self.posed and problem.id not in self._references:
            reference = as_json(problem.reference)
        return content_hash(kind, version, problem.id, reference, attempt.text)

    async def judge_episode(self, batch: SolveBatch, attempt: Attempt, feedback: Feedback) -> Attempt:
        """The attempt with an environment's feedback on its episode, journaled under the attempt: not its text alone.

        Raises:
            BadInput: too many verifications of the batch failed.
        """
        key = content_hash("verify", attempt.id, as_json(feedback))
        if self.journal.get(key) is None:
            payload = [feedback.verdict, feedback.score, feedback.text, attempt.id, feedback.source]
            self._keep(batch.verdicts, key, "verify", payload)
        self._count(batch, "verify", feedback)
        return replace(attempt, feedback=(*attempt.feedback, feedback))

    def settle(self, batch: SolveBatch) -> None:
        """Journal the failed verdicts of a finished batch, and warn of them."""
        for kind in WORDS:
            log, (what, become, _) = _log(batch, kind), WORDS[kind]
            for key, payload in log.pending.items():
                self.journal.put_new(key, kind, payload)
            if log.failed:
                total = len(batch.work) if kind == "verify" else log.count
                self.console.print(f"  warning: {len(log.failed)} of {total} {what} failed and {become}")

    def _keep(self, log: VerdictLog, key: str, kind: Kind, payload: list[Any]) -> None:
        """Journal a verdict; a failed one only when its batch ends: the rerun of an abandoned batch tries again."""
        if payload[2].startswith(VERIFIER_FAILURES):
            log.pending[key] = payload
        else:
            self.journal.put_new(key, kind, payload)

    def _count(self, batch: SolveBatch, kind: Kind, feedback: Feedback) -> None:
        """Count a verdict; give up as soon as it is certain that too many of the batch fail."""
        log, (what, _, becomes) = _log(batch, kind), WORDS[kind]
        log.count += 1
        if not feedback.text.startswith(VERIFIER_FAILURES):
            return
        log.failed.append(feedback)
        failed, expected = len(log.failed), len(batch.work) if kind == "verify" else max(log.count, len(batch.work))
        if failed == 1:
            self.console.print(f"  warning: {feedback.text} ({becomes})")
        if failed > max(MIN_FAILURES, self.failure_limit * expected):
            total = expected if kind == "verify" else log.count
            where = "verifier" if kind == "verify" else "shown"
            raise BadInput(f"{failed} of {total} {what} failed ({feedback.text})", where=where, fix=REPAIR)


def _log(batch: SolveBatch, kind: Kind) -> VerdictLog:
    return batch.verdicts if kind == "verify" else batch.shown


def verdict_payload(attempt: Attempt, feedback: Feedback) -> list[Any]:
    """A verdict as the journal keeps it: verdict, score, text, hash of what was judged, and the judge."""
    what = judged_text_hash(attempt.problem.id, attempt.text)
    return [feedback.verdict, feedback.score, feedback.text, what, feedback.source]
