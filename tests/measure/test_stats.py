import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from selftaught.measure import (
    clustered_bootstrap,
    majority_at_k,
    mcnemar_exact,
    paired_bootstrap,
    pass_at_k,
    sign_flip,
    wilson,
)

unit = st.floats(0, 1)
SAMPLES = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.booleans()), min_size=1, max_size=8)


# --- Wilson ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("s", "n"), [(0, 1), (1, 1), (0, 300), (39, 300), (150, 300), (299, 300), (300, 300)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_is_scipys(s, n, level):
    golden = scipy_stats.binomtest(s, n).proportion_ci(level, method="wilson")
    assert wilson(s, n, level) == pytest.approx((golden.low, golden.high), abs=1e-12)


def test_wilson_covers_what_it_says():
    """Summed over the binomial, not simulated: the coverage at every p in a grid, exactly."""
    n = 300
    intervals = [wilson(s, n) for s in range(n + 1)]
    coverage = []
    for p in np.linspace(0.02, 0.98, 49):
        inside = np.array([low <= p <= high for low, high in intervals])
        coverage.append(scipy_stats.binom.pmf(np.arange(n + 1), n, p)[inside].sum())
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.005)
    assert min(coverage) > 0.92


def test_wilson_of_nothing_says_nothing_and_ends_are_exact():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 7).low == 0.0
    assert wilson(7, 7).high == 1.0


@pytest.mark.parametrize(("s", "n", "level"), [(-1, 3, 0.95), (4, 3, 0.95), (1, 3, 0.0), (1, 3, 1.0), (1, 3, 95)])
def test_wilson_refuses(s, n, level):
    with pytest.raises(ValueError, match=r"0\.\.n|between 0 and 1"):
        wilson(s, n, level)


# --- bootstraps ------------------------------------------------------------------------------------


def plain_bootstrap(values, level, resamples, seed):
    """The textbook procedure: draw indices, average, take percentiles."""
    rng = np.random.default_rng(seed)
    values = np.asarray(values)
    means = values[rng.integers(0, len(values), size=(resamples, len(values)))].mean(axis=1)
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2])


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_clustered_bootstrap_is_the_bootstrap_of_problem_means(level):
    rng = np.random.default_rng(1)
    ability = rng.beta(1, 3, size=80)
    values = [rng.binomial(1, p, size=int(rng.integers(2, 9))).tolist() for p in ability]
    golden = plain_bootstrap([np.mean(v) for v in values], level, 40_000, 5)
    assert clustered_bootstrap(values, level, resamples=40_000) == pytest.approx(golden, abs=0.004)


def test_samples_of_one_problem_do_not_count_as_problems():
    """Repeating each sample tells nothing new, so the interval must not shrink."""
    values = [[i % 3 == 0] for i in range(60)]
    assert clustered_bootstrap([v * 16 for v in values]) == clustered_bootstrap(values)


def test_paired_bootstrap_is_scipys():
    rng = np.random.default_rng(2)
    a = rng.binomial(4, 0.3, size=120) / 4
    b = np.clip(a + rng.choice([-0.25, 0, 0.25, 0.5], size=120), 0, 1)
    golden = scipy_stats.bootstrap(
        (b - a,), np.mean, n_resamples=20_000, method="percentile", random_state=np.random.default_rng(0)
    ).confidence_interval
    mine = paired_bootstrap(a.tolist(), b.tolist(), resamples=20_000)
    assert mine == pytest.approx((golden.low, golden.high), abs=0.004)


def test_paired_bootstrap_covers_what_it_says():
    rng = np.random.default_rng(3)
    n, trials, truth = 150, 400, 0.10
    hits = 0
    for trial in range(trials):
        kind = rng.choice(4, size=n, p=[0.15, 0.05, 0.2, 0.6])  # won, lost, both right, both wrong
        a, b = np.isin(kind, [1, 2]), np.isin(kind, [0, 2])
        low, high = paired_bootstrap(a.astype(float).tolist(), b.astype(float).tolist(), resamples=1000, seed=trial)
        hits += low <= truth <= high
    assert 0.92 <= hits / trials <= 0.975


def test_pairing_is_what_makes_it_narrow():
    rng = np.random.default_rng(4)
    a = rng.integers(0, 2, size=300).astype(float)
    b = np.where(rng.random(300) < 0.05, 1 - a, a)
    shuffled = rng.permutation(b)
    paired, unpaired = paired_bootstrap(a.tolist(), b.tolist()), paired_bootstrap(a.tolist(), shuffled.tolist())
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_no_spread_is_not_certainty():
    assert clustered_bootstrap([[0, 0]] * 40) == pytest.approx(wilson(0, 40))
    assert clustered_bootstrap([[1, 1]] * 40) == pytest.approx(wilson(40, 40))
    low, high = paired_bootstrap([1.0] * 40, [1.0] * 40)
    assert low == pytest.approx(-high)
    assert high == pytest.approx(wilson(0, 40).high)


def test_bootstraps_of_nothing_say_nothing():
    assert clustered_bootstrap([]) == (0.0, 1.0)
    assert paired_bootstrap([], []) == (-1.0, 1.0)


def test_bootstraps_refuse():
    with pytest.raises(ValueError, match="got 2 and 1"):
        paired_bootstrap([0.0, 1.0], [1.0])
    with pytest.raises(ValueError, match=r"in 0\.\.1, got nan"):
        paired_bootstrap([math.nan], [1.0])
    with pytest.raises(ValueError, match=r"in 0\.\.1, got 2"):
        clustered_bootstrap([[2.0]])
    with pytest.raises(ValueError, match="at least one value"):
        clustered_bootstrap([[1.0], []])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=30), st.integers(0, 3))
def test_paired_bootstrap_stays_within_the_data_and_is_seeded(pairs, seed):
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    low, high = paired_bootstrap(a, b, resamples=300, seed=seed)
    differences = [y - x for x, y in pairs]
    assert -1 <= low <= high <= 1
    assert paired_bootstrap(a, b, resamples=300, seed=seed) == (low, high)
    if len({round(d, 9) for d in differences}) > 1:
        assert min(differences) - 1e-9 <= low
        assert high <= max(differences) + 1e-9


def test_bootstrap_is_flat_in_memory():
    """50 000 problems would need 4 GB of indices when drawn all at once."""
    import tracemalloc

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 50_000) / 8, rng.integers(0, 9, 50_000) / 8
    tracemalloc.start()
    paired_bootstrap(a.tolist(), b.tolist())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


# --- pass@k ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(n):
    for c in range(n + 1):
        for k in range(1, n + 1):
            draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
            assert pass_at_k(n, c, k) == float(Fraction(sum(map(any, draws)), len(draws)))


def test_pass_at_k_is_the_papers_product_form_and_stable_when_large():
    n, c, k = 10_000, 3, 5_000
    product = 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1))  # the paper's numpy code
    assert pass_at_k(n, c, k) == pytest.approx(product, rel=1e-9)
    assert pass_at_k(10_000, 1, 1) == 1e-4
    assert pass_at_k(4, 2, 4) == 1.0


@given(st.integers(1, 40), st.data())
def test_pass_at_k_grows_with_k_and_starts_at_accuracy(n, data):
    c = data.draw(st.integers(0, n))
    curve = [pass_at_k(n, c, k) for k in range(1, n + 1)]
    assert curve[0] == c / n
    assert curve == sorted(curve)
    assert curve[-1] == float(c > 0)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 2, 0), (4, 5, 1), (4, -1, 1), (0, 0, 1)])
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(ValueError, match="must be in"):
        pass_at_k(n, c, k)


# --- majority@k ------------------------------------------------------------------------------------


def enumerate_votes(answers, rights, k):
    """Every draw, counted one by one."""
    judged = {}
    for answer, right in zip(answers, rights, strict=True):
        judged.setdefault(answer, []).append(right)
    worth = {a: Fraction(sum(v), len(v)) for a, v in judged.items()}
    total, draws = Fraction(0), 0
    for drawn in itertools.combinations(answers, k):
        draws += 1
        votes = [a for a in drawn if a is not None]
        if votes:
            top = max(votes.count(a) for a in votes)
            tied = {a for a in votes if votes.count(a) == top}
            total += sum(worth[a] for a in tied) / len(tied)
    return float(total / draws)


@settings(max_examples=150, deadline=None)
@given(SAMPLES, st.data())
def test_majority_at_k_is_the_enumeration_of_all_draws(samples, data):
    answers, rights = [a for a, _ in samples], [r for _, r in samples]
    k = data.draw(st.integers(1, len(samples)))
    assert majority_at_k(answers, rights, k) == pytest.approx(enumerate_votes(answers, rights, k), abs=1e-9)


def test_majority_at_k_is_monte_carlo_where_enumeration_ends():
    """C(64, 16) is 5e14 draws: compared with 20 000 of them."""
    rng = np.random.default_rng(0)
    answers = [*["x"] * 20, *["y"] * 18, *["z"] * 14, *[str(i) for i in range(8)], *[None] * 4]
    rights = [a == "x" for a in answers]
    hits = 0.0
    for _ in range(20_000):
        drawn = [answers[i] for i in rng.permutation(64)[:16]]
        votes = [a for a in drawn if a is not None]
        top = max(map(votes.count, set(votes)))
        tied = {a for a in votes if votes.count(a) == top}
        hits += ("x" in tied) / len(tied)
    assert majority_at_k(answers, rights, 16) == pytest.approx(hits / 20_000, abs=0.012)


def test_majority_of_one_is_accuracy_and_of_certain_is_one():
    answers, rights = ["a", "a", "b", None], [True, True, False, False]
    assert majority_at_k(answers, rights, 1) == 0.5
    assert majority_at_k(["a"] * 9, [True] * 9, 4) == 1.0
    assert majority_at_k([None] * 3, [False] * 3, 2) == 0.0
    assert majority_at_k(["a", "b"], [True, False], 2) == 0.5
    assert majority_at_k(["a"] * 1500, [True] * 1500, 700) == 1.0


def test_voting_helps_the_plurality_and_hurts_the_rest():
    many, few = ["r"] * 9 + ["w"] * 5 + ["v"] * 2, ["r"] * 4 + ["w"] * 9 + ["v"] * 3
    rising = [majority_at_k(many, [a == "r" for a in many], k) for k in (1, 4, 8, 16)]
    falling = [majority_at_k(few, [a == "r" for a in few], k) for k in (1, 4, 8, 16)]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


def test_majority_at_k_refuses():
    with pytest.raises(ValueError, match="got 1 and 2"):
        majority_at_k(["a", "b"], [True], 1)
    for k in (0, 3):
        with pytest.raises(ValueError, match=r"k must be in 1\.\.2"):
            majority_at_k(["a", "b"], [True, False], k)


# --- tests of significance -------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_scipys_binomial_test(b, c):
    if b + c == 0:
        assert mcnemar_exact(b, c) == mcnemar_exact(b, c, one_sided=True) == 1.0
        return
    assert mcnemar_exact(b, c) == pytest.approx(scipy_stats.binomtest(b, b + c).pvalue, rel=1e-9)
    greater = scipy_stats.binomtest(b, b + c, alternative="greater").pvalue
    assert mcnemar_exact(b, c, one_sided=True) == pytest.approx(greater, rel=1e-9)


def test_mcnemar_on_large_counts():
    golden = scipy_stats.binomtest(2600, 5000).pvalue
    assert mcnemar_exact(2600, 2400) == pytest.approx(golden, rel=1e-9)
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("m", [3, 9, 12])
def test_sign_flip_is_scipys_permutation_test(m, one_sided):
    d = np.random.default_rng(m).integers(-3, 5, size=m) / 4
    golden = scipy_stats.permutation_test(
        (d,),
        np.sum,
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="greater" if one_sided else "two-sided",
    ).pvalue
    # scipy doubles the smaller tail; by the symmetry of sign flips that is the count of |sum| >= |seen|.
    assert sign_flip(d.tolist(), one_sided=one_sided) == pytest.approx(min(1.0, golden), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.booleans())
def test_sign_flip_on_whole_wins_is_mcnemar(wins, losses, one_sided):
    d = [1.0] * wins + [-1.0] * losses + [0.0] * 5
    golden = mcnemar_exact(wins, losses, one_sided=one_sided)
    sampled = wins + losses > 14
    assert sign_flip(d, one_sided=one_sided) == pytest.approx(golden, abs=0.02 if sampled else 1e-12)


def test_sign_flip_never_reports_certainty_and_is_seeded():
    d = [0.25] * 200
    assert sign_flip(d, resamples=999) == 1 / 1000
    mixed = [0.25, -0.125] * 20
    assert sign_flip(mixed, seed=3) == sign_flip(mixed, seed=3)
    assert sign_flip([]) == sign_flip([0.0, 0.0], one_sided=True) == 1.0


def test_sign_flip_rejects_as_often_as_it_should():
    rng = np.random.default_rng(0)
    p = [sign_flip((rng.integers(-4, 5, size=30) / 4).tolist(), resamples=500, seed=i) for i in range(400)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.03)
