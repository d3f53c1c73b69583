import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from selftaught.measure import crossed_effect, effect_of_differences, pigeonhole_interval


def differences(rng, runs=8, problems=60, seed_sd=0.05, problem_sd=0.2, residual_sd=0.3, builds=1, build_sd=0.0,
                build_problem_sd=0.0):  # fmt: skip
    """d[run, problem] = 0.1 + build + run + problem + build x problem + residual; runs take builds in turn."""
    build = np.arange(runs) % builds
    d = 0.1 + rng.normal(0, seed_sd, (runs, 1)) + rng.normal(0, problem_sd, problems)
    d = d + rng.normal(0, build_sd, builds)[build][:, None]
    d = d + rng.normal(0, build_problem_sd, (builds, problems))[build]
    return d + rng.normal(0, residual_sd, (runs, problems)), [f"b{b}" for b in build]


def as_scores(d, prefix=""):
    mine = [{f"{prefix}{i}": float(x) for i, x in enumerate(row)} for row in d]
    return mine, [dict.fromkeys(scores, 0.0) for scores in mine]


def test_it_is_the_two_way_analysis_of_variance():
    d, _ = differences(np.random.default_rng(0))
    s, n = d.shape
    seeds, problems, mean = d.mean(1), d.mean(0), d.mean()
    ms_s = n * ((seeds - mean) ** 2).sum() / (s - 1)
    ms_i = s * ((problems - mean) ** 2).sum() / (n - 1)
    ms_e = ((d - seeds[:, None] - problems + mean) ** 2).sum() / ((s - 1) * (n - 1))
    variance = (ms_s + ms_i - ms_e) / (s * n)
    found = crossed_effect(*as_scores(d))
    assert found.design == "crossed"
    assert (found.runs, found.problems) == (s, n)
    assert found.value == pytest.approx(mean)
    assert found.estimate.standard_error == pytest.approx(math.sqrt(variance))
    df = (ms_s + ms_i - ms_e) ** 2 / (ms_s**2 / (s - 1) + ms_i**2 / (n - 1) + ms_e**2 / ((s - 1) * (n - 1)))
    assert found.estimate.df == pytest.approx(df, rel=1e-6)
    half = scipy_stats.t.ppf(0.975, df) * math.sqrt(variance)
    assert found.interval() == pytest.approx((mean - half, mean + half))
    golden = {"build": 0, "seed": (ms_s - ms_e) / n, "problem": (ms_i - ms_e) / s, "residual": ms_e}
    assert {k: v**2 for k, v in found.components.items()} == pytest.approx(golden)


def test_runs_with_problems_of_their_own_are_clusters():
    d, _ = differences(np.random.default_rng(1))
    nested = [as_scores(row[None], prefix=f"{r}-") for r, row in enumerate(d)]
    mine, theirs = ([pair[k][0] for pair in nested] for k in (0, 1))
    found = crossed_effect(mine, theirs)
    assert found.design == "nested"
    assert found.estimate.df == len(d) - 1
    means = d.mean(1)  # a cluster each: Student's t over them
    assert found.value == pytest.approx(means.mean())
    expected = scipy_stats.t.interval(0.95, len(d) - 1, means.mean(), scipy_stats.sem(means))
    assert found.interval() == pytest.approx(expected)
    assert found.components["problem"] == 0


def test_builds_are_blocks():
    """Builds of very different effect: the blocked interval is of these builds, the random one of others like them."""
    rng = np.random.default_rng(2)
    d, builds = differences(rng, runs=12, builds=3, build_sd=0.3, build_problem_sd=0.1)
    blocked = effect_of_differences(d, builds=builds)
    random = effect_of_differences(d, builds=builds, build_effect="random")
    b, s, n = 3, 4, d.shape[1]
    cells = np.stack([d[k::3] for k in range(3)])
    ms_s = n * ((cells.mean(2) - cells.mean((1, 2))[:, None]) ** 2).sum() / (b * (s - 1))
    of_build = cells.mean(1)
    residual = cells - cells.mean(2)[:, :, None] - of_build[:, None] + cells.mean((1, 2))[:, None, None]
    ms_e = (residual**2).sum() / (b * (s - 1) * (n - 1))
    ms_i = b * s * d.mean(0).var(ddof=1)
    assert blocked.estimate.standard_error == pytest.approx(math.sqrt((ms_s + ms_i - ms_e) / (b * s * n)))
    ms_b = s * n * of_build.mean(1).var(ddof=1)
    rest = of_build - of_build.mean(1)[:, None] - of_build.mean(0) + of_build.mean()
    ms_bi = s * (rest**2).sum() / ((b - 1) * (n - 1))
    assert random.estimate.standard_error == pytest.approx(math.sqrt((ms_b + ms_i - ms_bi) / (b * s * n)))
    assert random.estimate.df < 2.5 < blocked.estimate.df
    assert random.value == blocked.value == pytest.approx(d.mean())
    assert list(blocked.by_build.values()) == pytest.approx(cells.mean((1, 2)).tolist())


def test_every_build_has_the_same_weight():
    d = np.array([[1.0, 1.0, 0.9], [1.0, 0.8, 1.0], [0.0, 0.2, 0.0], [0.0, 0.0, 0.1], [0.0, 0.1, 0.1]])
    found = effect_of_differences(d, builds=["a", "a", "b", "b", "b"])
    assert found.value == pytest.approx((d[:2].mean() + d[2:].mean()) / 2)
    assert found.by_build == pytest.approx({"a": d[:2].mean(), "b": d[2:].mean()})


def test_components_are_found_again():
    d, builds = differences(
        np.random.default_rng(3), runs=240, problems=1500, builds=60, build_sd=0.1, build_problem_sd=0.1
    )
    found = effect_of_differences(d, builds=builds).components
    golden = {"build": 0.1, "seed": 0.05, "problem": math.hypot(0.2, 0.1), "residual": 0.3}
    assert found == pytest.approx(golden, rel=0.1)


@pytest.mark.parametrize("shared", [0, 20, 60])
def test_the_variance_is_unbiased_however_many_problems_are_shared(shared):
    """Each of 5 runs has 60 problems, `shared` of which it shares with the others."""
    rng, runs, each, variances = np.random.default_rng(4), 5, 60, []
    for _ in range(400):
        total = shared + runs * (each - shared)
        d, _ = differences(rng, runs=runs, problems=total, problem_sd=0.4)
        mask = np.zeros((runs, total), bool)
        mask[:, :shared] = True
        for r in range(runs):
            mask[r, shared + r * (each - shared) : shared + (r + 1) * (each - shared)] = True
        found = effect_of_differences(np.where(mask, d, np.nan))
        variances.append(found.estimate.standard_error**2)
    assert found.design == {0: "nested", 20: "overlapping", 60: "crossed"}[shared]
    of_problems = 0.4**2 * (1 / each + (runs - 1) * shared / each**2)
    assert np.mean(variances) == pytest.approx((0.05**2 + 0.3**2 / each + of_problems) / runs, rel=0.12)


@pytest.mark.parametrize(("builds", "build_effect"), [(1, "blocked"), (3, "blocked"), (3, "random")])
def test_intervals_hold_the_truth(builds, build_effect):
    rng, hits = np.random.default_rng(5), 0
    for _ in range(400):
        d, labels = differences(rng, runs=9, problems=40, builds=builds, build_sd=0.1 * (build_effect == "random"))
        low, high = effect_of_differences(d, builds=labels, build_effect=build_effect).interval()
        hits += low <= 0.1 <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_pigeonhole_bootstrap_agrees_where_runs_are_many():
    d, builds = differences(np.random.default_rng(6), runs=40, problems=200, builds=2, residual_sd=0.1)
    exact = effect_of_differences(d, builds=builds).interval()
    pigeonhole = pigeonhole_interval(*as_scores(d), builds=builds)
    assert pigeonhole == pytest.approx(exact, abs=0.12 * (exact.high - exact.low))


def test_the_pigeonhole_bootstrap_of_problems_of_their_own():
    d, _ = differences(np.random.default_rng(7), runs=30, problems=50)
    nested = [as_scores(row[None], prefix=f"{r}-") for r, row in enumerate(d)]
    mine, theirs = ([pair[k][0] for pair in nested] for k in (0, 1))
    exact = crossed_effect(mine, theirs).interval()
    found = pigeonhole_interval(mine, theirs, resamples=1000)
    assert found == pytest.approx(exact, abs=0.25 * (exact.high - exact.low))


def test_arms_that_never_differ():
    same = [{f"{i}": float(i % 2) for i in range(2000)}] * 6
    found = crossed_effect(same, same)
    low, high = found.interval()
    assert found.value == 0
    assert low == -high
    assert 0 < high < 0.003


def test_runs_with_equal_means_still_have_the_error_of_the_problems():
    d = np.stack([np.roll([1.0, 0.0, 0.0, 0.0], r) for r in range(4)]).repeat(10, axis=1)
    nested = np.full((4, 160), np.nan)
    for r in range(4):
        nested[r, 40 * r : 40 * (r + 1)] = d[r]
    found = effect_of_differences(nested)
    by_hand = math.sqrt(d[0].var(ddof=1) / 40 / 4)
    assert found.estimate.standard_error == pytest.approx(by_hand)


def test_lower_is_the_mirror():
    d, builds = differences(np.random.default_rng(8), builds=2)
    found = effect_of_differences(d, builds=builds)
    low, high = found.interval()
    assert (-found).interval() == pytest.approx((-high, -low))
    assert (-found).p_value(-0.1, "less") == pytest.approx(found.p_value(0.1, "greater"))
    assert (-found).by_build["b0"] == -found.by_build["b0"]


def test_what_cannot_be_estimated():
    d, _ = differences(np.random.default_rng(9), runs=3)
    with pytest.raises(ValueError, match="at least two runs of a build, got 1 runs"):
        effect_of_differences(d[:1])
    with pytest.raises(ValueError, match="at least two runs of a build, got 3 runs of 3 builds"):
        effect_of_differences(d, builds=["a", "b", "c"])
    with pytest.raises(ValueError, match="at least two builds"):
        effect_of_differences(d, builds=["a", "a", "a"], build_effect="random")
    assert effect_of_differences(d, builds=["a", "b", "c"], build_effect="random").estimate.df > 1
    with pytest.raises(ValueError, match="build of each of 3 runs, got 2"):
        effect_of_differences(d, builds=["a", "b"])
    with pytest.raises(ValueError, match="same problems"):
        crossed_effect([{"a": 1.0}] * 2, [{"b": 1.0}] * 2)
