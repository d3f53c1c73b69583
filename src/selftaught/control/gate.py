"""The gate: a new policy replaces the champion only if it is better on the same held-out problems."""

from __future__ import annotations

from dataclasses import dataclass

from selftaught.measure import Comparison, describe_comparison


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether a policy was promoted, and the reason."""

    promoted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Gate:
    """Promote on a one-sided paired test over the dev split.

    Attributes:
        max_p_value: greatest p-value of the exact McNemar test (new better than champion) that promotes.
        always: promote whatever the test says, so that the last policy is the champion.
    """

    max_p_value: float = 0.05
    always: bool = False

    def decide(self, comparison: Comparison) -> GateDecision:
        """Decide on a comparison of the champion (old) and a new policy on the dev problems."""
        better = comparison.difference > 0 and comparison.p_one_sided <= self.max_p_value
        sign = "<=" if better else ">"
        verdict = "promoted" if better else "not promoted"
        p = f"one-sided p={comparison.p_one_sided:.3g} {sign} {self.max_p_value:g}"
        reason = f"{verdict}: dev {describe_comparison(comparison)}; {p}"
        if self.always:
            return GateDecision(True, f"promoted as the latest: dev {describe_comparison(comparison)}")
        return GateDecision(better, reason)
