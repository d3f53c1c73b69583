import math

import pytest

from selftaught.measure import (
    DEFAULT_LOOKS,
    Leg,
    Precondition,
    ShareEstimate,
    TEstimate,
    decide,
    holm,
    ordered,
)

NO_EFFECT = "no effect of the smallest size of interest"


def leg(value, error=0.005, name="greedy", null=0.0, min_effect=0.02):
    return Leg(name, TEstimate(value, error), null, min_effect)


@pytest.mark.parametrize(
    ("effects", "verdict", "deciding"),
    [
        ((0.03, 0.012), "reproduced", "1"),  # intervals +-0.0098
        ((0.03, 0.005), NO_EFFECT, "1"),  # [-0.0048, 0.0148], and p = 0.0013 twice is below 0.025
        ((0.03, 0.0095), "inconclusive", "1"),  # [-0.0003, 0.0193], but p = 0.018 twice is not
        ((0.03, 0.002), NO_EFFECT, "1"),
        ((0.03, -0.02), "contradicted", "1"),
        ((0.008, -0.02), "contradicted", "1"),
        ((0.0, 0.002), NO_EFFECT, "0"),
        ((0.008,), NO_EFFECT, "0"),  # [-0.0018, 0.0178]
        ((0.0102,), "reproduced", "0"),
        ((-0.0102,), "contradicted", "0"),
        ((-0.009,), NO_EFFECT, "0"),
    ],
)
def test_verdicts(effects, verdict, deciding):
    decision = decide([leg(effect, name=str(k)) for k, effect in enumerate(effects)])
    assert decision.verdict == verdict
    assert decision.deciding.name == deciding


def test_a_wide_interval_is_inconclusive():
    decision = decide([leg(0.015, 0.02)])
    assert decision.verdict == "inconclusive"
    assert decision.stop == "last look"
    assert decision.deciding.interval == pytest.approx((0.015 - 0.0392, 0.015 + 0.0392), abs=1e-4)


def test_a_leg_alone_would_have_no_effect_but_not_one_of_three():
    """One-sided p of an effect of 0.02: 0.0142, below 0.025 but not below 0.025 / 3."""
    alone = leg(0.02 - 2.19 * 0.008, 0.008)
    assert decide([alone]).verdict == NO_EFFECT
    others = [leg(0.02, 0.011, name="wide")] * 2
    assert decide([alone, *others]).verdict == "inconclusive"


def test_p_values_of_legs_by_hand():
    decision = decide([leg(0.01, name="a"), leg(0.02, name="b"), leg(-0.004, name="c")])
    tails = [0.5 * math.erfc(z / math.sqrt(2)) for z in (2.0, 4.0, -0.8)]
    assert [r.p_value for r in decision.legs] == pytest.approx(tails)
    assert [r.p_below for r in decision.legs] == pytest.approx(holm([1 - tail for tail in tails]))
    small = holm([0.5 * math.erfc(z / math.sqrt(2)) for z in (2.0, 0.0, 4.8)])
    assert [r.p_small for r in decision.legs] == pytest.approx(small)
    assert decision.p_value == pytest.approx(tails[2])


def test_reproduced_needs_no_correction():
    """An intersection-union test: each leg at its own 2.5 %."""
    assert decide([leg(1.97 * 0.005, name=str(k)) for k in range(10)]).verdict == "reproduced"
    assert decide([leg(1.95 * 0.005, 0.005)]).verdict != "reproduced"


def test_no_worse_than_by_a_margin():
    def verdict(value):
        return decide([leg(value, null=-0.01, min_effect=None)]).verdict

    assert verdict(0.0) == "reproduced"
    assert verdict(-0.005) == "inconclusive"
    assert verdict(-0.03) == "contradicted"


def test_an_alarm_must_ring():
    def verdict(rings, seeds):
        return decide([Leg("degeneration", ShareEstimate(rings, seeds), null=0.5)]).verdict

    assert verdict(6, 6) == "reproduced"
    assert verdict(5, 6) == "inconclusive"
    assert verdict(0, 6) == "contradicted"


def test_an_order_is_its_steps():
    legs = ordered(["pass@16", "vote", "greedy"], [TEstimate(0.1, 0.01), TEstimate(0.05, 0.01)], min_effect=0.01)
    assert [one.name for one in legs] == ["pass@16 > vote", "vote > greedy"]
    assert decide(legs).verdict == "reproduced"
    turned = ordered(["vote", "pass@16"], [TEstimate(-0.1, 0.01)])
    assert decide(turned).verdict == "contradicted"
    with pytest.raises(ValueError, match="3 systems in order need 2 effects, got 1"):
        ordered(["a", "b", "c"], [TEstimate(0.1, 0.01)])


def test_a_precondition_that_fails():
    preconditions = [Precondition("the KL moved", True, 0.4), Precondition("chains were cut", False, 0.0)]
    decision = decide([leg(0.05)], preconditions=preconditions, looks=DEFAULT_LOOKS, look=0)
    assert decision.verdict == "not testable here"
    assert decision.failed == ("chains were cut",)
    assert decision.stop == "precondition"
    assert decision.legs[0].outcome == "holds"


def test_early_looks_ask_for_more():
    """0.015 at an error of 0.005 is p = 0.0027: enough at the second look (0.010), not at the first (0.0003)."""
    first, second, last = (decide([leg(0.015, min_effect=None)], looks=DEFAULT_LOOKS, look=k) for k in range(3))
    assert (first.verdict, first.stop) == ("inconclusive", None)
    assert (second.verdict, second.stop) == ("reproduced", "efficacy")
    assert last.verdict == "reproduced"
    assert first.deciding.p_value > second.deciding.p_value > last.deciding.p_value > 0.00135
    widths = [one.deciding.interval.high - one.deciding.interval.low for one in (first, second, last)]
    assert widths == pytest.approx([0.01 * z for z in (3.638, 2.573, 1.993)], rel=1e-3)  # 1.993 / sqrt(0.3), ...


def test_a_leg_holds_exactly_if_its_repeated_interval_does():
    for look, bound in enumerate((3.638, 2.573, 1.993)):
        for z in (bound - 0.002, bound + 0.002):
            result = decide([leg(z, 1.0, min_effect=None)], looks=DEFAULT_LOOKS, look=look).legs[0]
            assert (result.outcome == "holds") == (result.interval.low > 0) == (z > bound)


def test_stopping_for_futility():
    decision = decide([leg(0.03), leg(-0.001, 0.004)], looks=DEFAULT_LOOKS, look=1)
    assert (decision.verdict, decision.stop) == (NO_EFFECT, "futility")
    assert decide([leg(-0.03)], looks=DEFAULT_LOOKS, look=0).stop == "futility"


def test_what_is_refused():
    with pytest.raises(ValueError, match="expected legs"):
        decide([])
    with pytest.raises(ValueError, match="3 looks"):
        decide([leg(0.0)], looks=DEFAULT_LOOKS, look=3)
    with pytest.raises(ValueError, match=r"must exceed 0\.5"):
        leg(0.6, null=0.5)
