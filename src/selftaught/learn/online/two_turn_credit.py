"""Credit of two turns: each its own reward and its own anchor, with a bonus for progress from one to the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from selftaught.learn.objectives.advantages import centred, correction_bonus
from selftaught.learn.online.rollouts import Crediting, Rollout
from selftaught.records import Attempt, Credit, Verdict


@dataclass(frozen=True)
class Shaping:
    """Rewards and anchors of two turns: from the rollouts of one problem to their credit.

    Source: Kumar et al., 2409.12917, equations 3 (own=0, alpha=0, a strong first anchor) and 4.

    Attributes:
        own: what the first answer's reward counts.
        alpha: what progress from the first to the second counts.
        anchors: weight of the KL to the starting model on the first and on the second turn.
        drafts: first answers that were not sampled in the rollout, by id; they are not learnt.
    """

    own: float
    alpha: float
    anchors: tuple[float, float]
    drafts: Mapping[str, Attempt] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Names the credit in the training's version."""
        return f"score {self.own} {self.alpha} {self.anchors}"

    @property
    def crediting(self) -> Crediting:
        """Of a training by it; problems on whose rollouts both verdicts agree are skipped."""
        return Crediting(spread=self, outcome=self.verdicts)

    def turns(self, rollout: Rollout) -> tuple[Attempt, Attempt]:
        """The first and the second answer."""
        return self.drafts.get(rollout.attempt.parent or "") or rollout.turns[0], rollout.attempt

    def verdicts(self, rollout: Rollout) -> list[Verdict]:
        """What a rollout came to."""
        return [turn.verdict for turn in self.turns(rollout)]

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Credit]:
        """A turn's advantage is its reward less the mean of that turn's rewards; a draft gets none."""
        pairs = [self.turns(one) for one in rollouts if Verdict.UNKNOWN not in self.verdicts(one)]
        if not pairs:
            return []
        first = centred([self.own * a.right for a, _ in pairs])
        second = centred([b.right + correction_bonus(a.right, b.right, self.alpha) for a, b in pairs])
        gains = zip(pairs, zip(first, second, strict=True), strict=True)
        return [
            Credit(turn, (gain,) * len(turn.token_ids), kl=anchor) for pair, each in gains
            for turn, gain, anchor in zip(pair, each, self.anchors, strict=True) if turn.id not in self.drafts
        ]  # fmt: skip
