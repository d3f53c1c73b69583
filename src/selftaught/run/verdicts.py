"""Verdicts of the task's verifier, through the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from selftaught.console import Console
from selftaught.errors import BadInput
from selftaught.journal import Journal
from selftaught.records import Attempt, Feedback, Problem, Verdict, as_json, content_hash, judged_text_hash
from selftaught.run.background import SharedTasks
from selftaught.run.solver import JUDGE_ROLES, SolveBatch
from selftaught.tasks import Task

MIN_FAILURES = 3  # up to this many failed verifications never stop a run
VERIFIER_FAILURES = (
    "verifier raised", "verifier died", "verifier could not start", "verifier returned a ", "verifier returned NaN",
    "timeout", "environment raised",
)  # fmt: skip
"""How the text of a failed verification begins; any other UNKNOWN is a verdict on the answer."""

REPAIR = "repair it and run the same command again: samples are kept"


@dataclass(slots=True)
class JournaledVerifier:
    """Judges attempts through the journal.

    Attributes:
        task: verifies.
        journal: where verdicts are looked up and kept.
        console: where failures are shown.
        failure_limit: share of a batch's verifications that may fail before it is given up.
    """

    task: Task
    journal: Journal
    console: Console
    failure_limit: float
    _references: dict[str, Any] = field(init=False)
    _posed: dict[str, Problem] = field(default_factory=dict)
    _share: SharedTasks = field(default_factory=SharedTasks)

    def __post_init__(self) -> None:
        task = self.task
        self._references = {p.id: as_json(p.reference) for split in (task.train, task.dev, task.test) for p in split}

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Judge attempts at new problems by what they were posed with, whatever a solver sees of them."""
        for problem in problems:
            self._posed[problem.id] = problem
            self._references.setdefault(problem.id, as_json(problem.reference))

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
        version = self.task.verifier.version
        problem = self._true_problem(attempt)
        key = content_hash("verify", version, problem.id, self._references.get(problem.id), attempt.text)
        if (found := self.journal.get(key)) is not None:
            verdict, score, text, *_ = found[0]
            feedback = Feedback(Verdict(verdict), score, text, version)
        else:
            feedback = self.task.decide(problem, attempt.text) or await self._share(
                key, lambda: asyncio.to_thread(self.task.verify, problem, attempt.text)
            )
            self._keep(batch, key, verdict_payload(attempt, feedback))
        if feedback.text.startswith(VERIFIER_FAILURES):
            self._note_failure(batch, feedback)
        return feedback

    async def verify_shown(self, batch: SolveBatch, attempt: Attempt) -> Feedback:
        """The verdict that the task shows to solvers on any split; it never counts as the task's.

        Raises:
            BadInput: the task shows none, or too many of its verdicts in the batch failed.
        """
        task, problem = self.task, self._true_problem(attempt)
        version = task.shown.version if task.shown else ""
        key = content_hash("shown", version, problem.id, self._references.get(problem.id), attempt.text)
        found = self.journal.get(key)
        if (payload := found[0] if found else batch.pending_shown.get(key)) is None:
            feedback = await self._share(key, lambda: asyncio.to_thread(task.verify_shown, problem, attempt.text))
            payload = verdict_payload(attempt, feedback)
            if feedback.text.startswith(VERIFIER_FAILURES):
                batch.pending_shown[key] = payload
            else:
                self.journal.put_new(key, "shown", payload)
        verdict, score, text, *_ = payload
        feedback = Feedback(Verdict(verdict), score, text, version, "shown")
        batch.shown_count += 1
        if text.startswith(VERIFIER_FAILURES):
            self._note_shown_failure(batch, feedback)
        return feedback

    def _true_problem(self, attempt: Attempt) -> Problem:
        """The problem that an attempt is judged by: the task's own, else the posed one, else the attempt's."""
        return self.task.known(self._posed.get(attempt.problem.id, attempt.problem))

    async def judge_episode(self, batch: SolveBatch, attempt: Attempt, feedback: Feedback) -> Attempt:
        """The attempt with an environment's feedback on its episode, journaled under the attempt: not its text alone.

        Raises:
            BadInput: too many verifications of the batch failed.
        """
        key = content_hash("verify", attempt.id, as_json(feedback))
        if self.journal.get(key) is None:
            payload = [feedback.verdict, feedback.score, feedback.text, attempt.id, feedback.source]
            self._keep(batch, key, payload)
        if feedback.text.startswith(VERIFIER_FAILURES):
            self._note_failure(batch, feedback)
        return replace(attempt, feedback=(*attempt.feedback, feedback))

    def settle(self, batch: SolveBatch) -> None:
        """Journal the failed verifications of a finished batch, and warn of them."""
        for key, payload in batch.pending_verdicts.items():
            self.journal.put_new(key, "verify", payload)
        if batch.failed_verifications:
            failed, total = len(batch.failed_verifications), len(batch.work)
            self.console.print(f"  warning: {failed} of {total} verifications failed and count as UNKNOWN")
        for key, payload in batch.pending_shown.items():
            self.journal.put_new(key, "shown", payload)
        if failed := len(batch.failed_shown):
            self.console.print(f"  warning: {failed} of {batch.shown_count} shown verdicts failed and are UNKNOWN")

    def _keep(self, batch: SolveBatch, key: str, payload: list[Any]) -> None:
        """Journal a verdict; a failed one only when its batch ends: the rerun of an abandoned batch tries again."""
        if payload[2].startswith(VERIFIER_FAILURES):
            batch.pending_verdicts[key] = payload
        else:
            self.journal.put_new(key, "verify", payload)

    def _note_failure(self, batch: SolveBatch, feedback: Feedback) -> None:
        """Note a failed verification; give up as soon as it is certain that too many of the batch fail."""
        batch.failed_verifications.append(feedback)
        count, total = len(batch.failed_verifications), len(batch.work)
        if count == 1:
            self.console.print(f"  warning: {feedback.text} (the attempt counts as UNKNOWN)")
        if count > max(MIN_FAILURES, self.failure_limit * total):
            raise BadInput(f"{count} of {total} verifications failed ({feedback.text})", where="verifier", fix=REPAIR)

    def _note_shown_failure(self, batch: SolveBatch, feedback: Feedback) -> None:
        """Note a failure of the verifier that solvers may consult; give up where too many of the batch fail."""
        batch.failed_shown.append(feedback)
        count, total = len(batch.failed_shown), max(batch.shown_count, len(batch.work))
        if count == 1:
            self.console.print(f"  warning: {feedback.text} (the solver sees UNKNOWN)")
        if count > max(MIN_FAILURES, self.failure_limit * total):
            what = f"{count} of {batch.shown_count} shown verdicts failed ({feedback.text})"
            raise BadInput(what, where="shown", fix=REPAIR)


def verdict_payload(attempt: Attempt, feedback: Feedback) -> list[Any]:
    """A verdict as the journal keeps it: verdict, score, text, hash of what was judged, and the judge."""
    what = judged_text_hash(attempt.problem.id, attempt.text)
    return [feedback.verdict, feedback.score, feedback.text, what, feedback.source]
