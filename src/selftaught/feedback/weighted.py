"""Several verifiers as one: a weighted mean of their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from selftaught.errors import BadInput
from selftaught.feedback.verdicts import NOT_APPLICABLE
from selftaught.feedback.verifiers import ExtractedAnswer, Verifier, unknown_verdict
from selftaught.records import Feedback, Problem, Verdict


class WeightedVerifiers:
    """The weighted mean of the scores of those that give one: TRL's `reward_funcs` with `reward_weights`.

    A reward function in TRL's form that returns None does not apply to a problem, and has no part in the mean. Any
    other UNKNOWN is that of the whole: an answer without a result is not right for being brief. Only a full mean (>= 1)
    is RIGHT. Weights may be negative: the sum is divided by those above 0, and clipped to 0..1.

    Args:
        parts: verifiers with their weights.

    Raises:
        BadInput: there are none, or no weight is above 0, or one is not finite.
    """

    def __init__(self, parts: Sequence[tuple[Verifier, float]]) -> None:
        self.parts = [(verifier, float(weight)) for verifier, weight in parts]
        weights = [weight for _, weight in self.parts]
        if not all(map(math.isfinite, weights)) or not any(weight > 0 for weight in weights):
            raise BadInput(
                "at least one verifier needs a weight above 0", where="verifier", fix="write file.py:name=0.5"
            )
        self.needs_reference = any(verifier.needs_reference for verifier, _ in self.parts)
        self.version = "+".join(f"{weight:g}*{verifier.version}" for verifier, weight in self.parts)

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """Ask each of them."""
        said = [(verifier.judge(problem, answer, reference), verifier, weight) for verifier, weight in self.parts]
        said = [one for one in said if one[0].text != NOT_APPLICABLE]
        if unknown := next((found for found, _, _ in said if found.verdict is Verdict.UNKNOWN), None):
            return unknown_verdict(unknown.text, self.version)
        scored = [(score_of(found), verifier, weight) for found, verifier, weight in said]
        whole = sum(weight for _, _, weight in scored if weight > 0)
        if not whole:
            return unknown_verdict("no verifier gives a score", self.version)
        mean = sum(score * weight for score, _, weight in scored) / whole
        text = ", ".join(f"{verifier.version.partition('@')[0]}: {score:g}" for score, verifier, _ in scored)
        verdict = Verdict.RIGHT if mean >= 1 - 1e-9 else Verdict.WRONG
        return Feedback(verdict, min(max(mean, 0.0), 1.0), text, self.version)

    def close(self) -> None:
        """Stop the workers of all of them."""
        for verifier, _ in self.parts:
            verifier.close()


def score_of(feedback: Feedback) -> float:
    """The score of a verdict: 1 or 0 where it has none of its own."""
    return float(feedback.verdict is Verdict.RIGHT) if feedback.score is None else feedback.score
