"""What several rounds came to: distinct answers, the newest last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from selftaught.curate.keep import whole
from selftaught.records import Attempt, Pair, Verdict


@dataclass
class Gathered:
    """Distinct answers of all rounds by problem, the newest last, and the preferences that searching came to."""

    right: dict[str, dict[str, Attempt]] = field(default_factory=dict)
    wrong: dict[str, dict[str, Attempt]] = field(default_factory=dict)
    preferred: list[Pair] = field(default_factory=list)

    def add(self, attempts: Sequence[Attempt]) -> None:
        """More answers, but for those cut off; one said again counts as new."""
        for attempt in (a for a in whole(attempts) if a.text and a.verdict is not Verdict.UNKNOWN):
            group = (self.right if attempt.right else self.wrong).setdefault(attempt.problem.id, {})
            group.pop(attempt.text, None)
            group[attempt.text] = attempt

    def newest(self, most: int) -> list[Attempt]:
        """The last right answers to each problem."""
        return [attempt for group in self.right.values() for attempt in list(group.values())[-most:]]

    def pairs(self, most: int) -> list[Pair]:
        """Preferences from searching; of other problems, right answers over wrong ones, the newest with the newest."""
        found = list(self.preferred)
        for name, group in self.right.items():
            sides = (list(reversed(answers.values())) for answers in (group, self.wrong.get(name, {})))
            for good, bad in list(zip(*sides, strict=False))[:most]:
                found.append(Pair(good.problem.prompt, good.text, bad.text, attempts=(good.id, bad.id)))
        return found
