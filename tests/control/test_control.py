"""Budget and gate."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from selftaught.control import Budget, Gate
from selftaught.journal import Usage
from selftaught.measure import Interval, Measurement, compare


def measured(name: str, scores: list[float]) -> Measurement:
    values = {str(i): score for i, score in enumerate(scores)}
    return Measurement(name, "dev", "policy", 1, len(scores), sum(scores) / len(scores), Interval(0, 1), scores=values)


@pytest.mark.parametrize(("limit", "spent"), [(None, False), (5, True), (6, True), (7, False), (0, True)])
def test_the_budget_counts_all_tokens_but_prompts(limit: int | None, spent: bool) -> None:
    assert Budget(limit).is_exhausted(Usage(prompt=1000, generated=1, judge=2, trained=3)) is spent


@pytest.mark.parametrize("won", range(9))
@pytest.mark.parametrize("lost", range(5))
def test_the_gate_promotes_where_the_one_sided_exact_test_does(won: int, lost: int) -> None:
    old = [0.0] * won + [1.0] * lost + [1.0] * 20
    new = [1.0] * won + [0.0] * lost + [1.0] * 20
    decision = Gate(max_p_value=0.05).decide(compare(measured("old", old), measured("new", new)))
    golden = binomtest(won, won + lost, alternative="greater").pvalue if won + lost else 1.0
    assert decision.promoted is bool(won > lost and golden <= 0.05)
    assert decision.reason.startswith("promoted: dev +" if decision.promoted else "not promoted: dev ")
    assert f"{won} won, {lost} lost" in decision.reason


def test_a_looser_gate_promotes_more() -> None:
    comparison = compare(measured("old", [0, 0, 0, 1]), measured("new", [1, 1, 1, 1]))
    assert comparison.p_one_sided == pytest.approx(0.125)
    assert not Gate(max_p_value=0.12).decide(comparison).promoted
    assert Gate(max_p_value=0.125).decide(comparison).promoted


def test_the_same_scores_never_promote() -> None:
    same = compare(measured("old", [1, 0, 1]), measured("new", [1, 0, 1]))
    assert not Gate(max_p_value=1.0).decide(same).promoted
