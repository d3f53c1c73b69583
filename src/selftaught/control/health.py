"""Monitor a run: compare samplings with the same settings and raise each round's alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from selftaught.control.alarms import (
    REGRESSION_P_THRESHOLD,
    Vitals,
    compute_vitals,
    degeneration,
    dev_regression,
    diversity_collapse,
    vote_disagreement,
)
from selftaught.measure import Comparison
from selftaught.records import Attempt
from selftaught.samples import Sample

AttemptGroups = Mapping[str, Sequence[Attempt]]


class HealthMonitor:
    """Keeps the first sampling per setting as the reference, and the current round's observations."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[Vitals, dict[str, float]]] = {}
        self._dev: dict[str, Vitals] = {}
        self.reset_round()

    def reset_round(self) -> None:
        """Discard the current round's observations; the reference samplings stay."""
        self._groups: dict[str, list[Attempt]] = {}
        self._sampled: list[tuple[Vitals, Vitals]] = []
        self._rewards: tuple[dict[str, float], dict[str, float]] | None = None
        self._disagreement: tuple[str, ...] = ()

    def observe_samples(self, like: str, groups: AttemptGroups) -> None:
        """Record a policy's attempts at training problems.

        Args:
            like: name of the sampling settings; only samplings of the same name are compared.
            groups: problem id -> its attempts.
        """
        found = compute_vitals(groups)
        if found is None:
            return
        rewards = {} if found.reward is None else {name: _right(group) for name, group in groups.items()}
        first, first_rewards = self._first.setdefault(like, (found, rewards))
        self._sampled.append((first, found))
        self._rewards = (first_rewards, rewards) if first_rewards and rewards else self._rewards
        for name, group in groups.items():
            self._groups.setdefault(name, []).extend(map(_bare, group))

    def observe_training(self, records: Sequence[Any], *, by_verdict: bool) -> None:
        """Record the data trained on in this round.

        Args:
            records: training records that name their attempts.
            by_verdict: whether verdicts may have selected them; if so, agreement with the vote is not tested.
        """
        if not by_verdict:
            chosen = frozenset(name for record in records for name in getattr(record, "attempts", ()))
            self._disagreement = vote_disagreement(self._groups, chosen)

    def observe_measurement(self, policy: str, groups: AttemptGroups) -> None:
        """Record a policy's greedy attempts at the dev problems."""
        found = compute_vitals(groups)
        if found is not None:
            self._dev[policy] = found

    def end_round(self, base: str, policy: str, comparison: Comparison | None) -> dict[str, Any]:
        """Return the round's vitals and alarms (at most one per name, sampling before dev), and reset.

        Args:
            base: version of the starting model.
            policy: version of the policy that was measured.
            comparison: of the two on dev, if there is one.
        """
        pairs = list(self._sampled)
        if policy != base and base in self._dev and policy in self._dev:
            pairs.append((self._dev[base], self._dev[policy]))
        better = (
            comparison is not None and comparison.difference > 0 and comparison.p_one_sided <= REGRESSION_P_THRESHOLD
        )
        lines = [*(dev_regression(comparison, self._rewards) if comparison else ()), *self._disagreement]
        for first, now in pairs:
            lines += degeneration(first, now)
            lines += () if better or comparison is None else diversity_collapse(first, now)
        named: dict[str, str] = {}
        for line in lines:
            named.setdefault(line.partition(":")[0], line)
        observed = {"sampled": self._sampled[-1][1] if self._sampled else None, "dev": self._dev.get(policy)}
        self.reset_round()
        shown = {name: _plain(found) for name, found in observed.items() if found}
        return {"alarms": list(named.values()), "vitals": shown}


def _bare(attempt: Attempt) -> Attempt:
    """The attempt without texts and tokens, which the vote does not need, to save memory."""
    sample = Sample("", finish_reason=attempt.finish_reason, policy=attempt.policy, num_tokens=attempt.num_tokens)
    return replace(attempt, prompt=(), text="", sample=sample, prefix_tokens=(), feedback=())


def _right(group: Sequence[Attempt]) -> float:
    return sum(attempt.right for attempt in group) / len(group)


def _plain(found: Vitals) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(found).items()}
