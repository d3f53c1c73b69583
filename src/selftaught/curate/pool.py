"""A pool of distinct answers from several rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from selftaught.curate.keep import finished
from selftaught.curate.pairs import pairs
from selftaught.records import Attempt, Pair, Verdict


@dataclass
class AnswerPool:
    """Distinct answers of several rounds by problem, the newest last.

    Attributes:
        right: problem id -> text -> the newest attempt of that text that was judged RIGHT.
        wrong: the same for WRONG.
    """

    right: dict[str, dict[str, Attempt]] = field(default_factory=dict)
    wrong: dict[str, dict[str, Attempt]] = field(default_factory=dict)

    def add(self, attempts: Sequence[Attempt]) -> None:
        """Add judged answers, except truncated ones; a repeated answer counts as new."""
        for attempt in (a for a in finished(attempts) if a.text and a.verdict is not Verdict.UNKNOWN):
            group = (self.right if attempt.right else self.wrong).setdefault(attempt.problem.id, {})
            group.pop(attempt.text, None)
            group[attempt.text] = attempt

    def newest(self, per_problem: int) -> list[Attempt]:
        """The newest right answers to each problem."""
        return [attempt for group in self.right.values() for attempt in list(group.values())[-per_problem:]]

    def pairs(self, per_problem: int) -> list[Pair]:
        """Preferences for right over wrong answers to the same problem, the newest with the newest."""
        sides = (*self.right.values(), *self.wrong.values())
        newest_first = (attempt for group in sides for attempt in reversed(group.values()))
        return pairs(newest_first, per_problem=per_problem)
