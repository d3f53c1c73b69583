import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from selftaught.measure import benjamini_hochberg, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(P_VALUES)
def test_holm_rejects_step_by_step(p_values):
    """The procedure as Holm wrote it: from the smallest, stop at the first that is not small enough."""
    alpha, rejected = 0.2, set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] > alpha / (len(p_values) - rank):
            break
        rejected.add(i)
    adjusted = holm(p_values)
    assert rejected == {i for i, p in enumerate(adjusted) if p <= alpha * (1 + 1e-12)}


@given(P_VALUES)
def test_q_values_are_scipys(p_values):
    assert benjamini_hochberg(p_values) == pytest.approx(scipy_stats.false_discovery_control(p_values))


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_no_p_value_outside_the_unit_interval(adjust):
    with pytest.raises(ValueError, match=r"0\.\.1"):
        adjust([0.1, 1.2])
    with pytest.raises(ValueError, match=r"0\.\.1"):
        adjust([float("nan")])
