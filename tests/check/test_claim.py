"""Claims: what they need, and what is refused; where results are kept, and their intervals against SciPy's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from selftaught.check.claim import NAMED_BASELINES, Baseline, Claim
from selftaught.check.results import T_975, clustered_effect, result_cells, result_path
from selftaught.errors import BadInput
from selftaught.worlds import synthetic_worlds, world_of_task
from selftaught.worlds.world import DEFAULT_WORLD, find_world, worlds


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"baselines": ()}, "baselines: a claim needs at least one baseline; name one"),
        ({"baselines": ("gredy",)}, "unknown baseline 'gredy'; did you mean 'greedy'"),
        ({"direction": "up"}, 'direction must be "higher" or "lower", got \'up\''),
        ({"min_effect": 0}, "min_effect must be > 0, got 0"),
        ({"min_effect": float("nan")}, "min_effect must be > 0, got nan"),
    ],
)
def test_a_claim_that_cannot_fail_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Claim("x", **{"baselines": ("greedy",), **more})


def test_every_named_baseline_and_any_method_will_do() -> None:
    baselines = (*NAMED_BASELINES, Baseline("one round", options={"rounds": 1}))
    assert Claim("x", baselines).baselines == baselines


def test_every_named_baseline_has_a_function() -> None:
    from selftaught.check.baselines import BASELINE_FUNCTIONS

    assert tuple(BASELINE_FUNCTIONS) == NAMED_BASELINES


@pytest.mark.parametrize("freedom", list(T_975))
def test_students_points_are_scipys(freedom: int) -> None:
    assert T_975[freedom] == pytest.approx(stats.t.ppf(0.975, freedom), abs=6e-4)


@pytest.mark.parametrize("seeds", [2, 3, 5, 11])
def test_an_effect_over_seeds_has_students_interval(seeds: int) -> None:
    means = [0.1 + 0.03 * (i % 3) for i in range(seeds)]
    mine = [{"a": mean + 0.05, "b": mean - 0.05} for mean in means]
    theirs = [{"a": 0.0, "b": 0.0} for _ in means]
    effect, interval = clustered_effect(mine, theirs)
    golden = stats.ttest_1samp(means, 0.0).confidence_interval(0.95)
    assert effect == pytest.approx(sum(means) / seeds)
    if seeds - 1 in T_975:
        assert tuple(interval) == pytest.approx((golden.low, golden.high), abs=1e-4)
    else:  # the next smaller number of degrees: wider, never narrower
        assert interval.low <= golden.low
        assert interval.high >= golden.high


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        ([{"a": 1.0}], [{"a": 1.0}], "two or more seeds"),
        ([{"a": 1.0}] * 2, [{"a": 1.0}] * 3, "two or more seeds"),
        ([{"a": 1.0}] * 2, [{"b": 1.0}] * 2, "same problems"),
        ([{}] * 2, [{}] * 2, "same problems"),
    ],
)
def test_scores_that_do_not_match_are_refused(mine: Any, theirs: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        clustered_effect(mine, theirs)


def test_results_on_the_default_world_have_the_short_name() -> None:
    assert result_path(Path("r"), "star") == Path("r/star.json")
    assert result_path(Path("r"), "star", "smollm2-135m") == Path("r/star.smollm2-135m.json")


def test_stored_results_are_of_this_form() -> None:
    """What `selftaught check` wrote for the README can be read by what reads it today."""
    files = sorted(Path(__file__).parents[2].glob("results/*.json"))
    assert len(files) >= 14
    for file in files:
        found = json.loads(file.read_text("utf-8"))
        verdict, effect, against = result_cells(found)
        assert verdict == found["verdict"]
        assert effect.startswith(f"{found['effect']:+.3f} [")
        row = next(row for row in found["baselines"] if row["name"] == against)
        assert row["in_claim"]
        assert found["min_effect"] > 0


def test_worlds_are_found_by_their_folders() -> None:
    assert DEFAULT_WORLD in synthetic_worlds()
    assert set(synthetic_worlds()) < set(worlds())
    for name, found in synthetic_worlds().items():
        assert find_world(name).name == name
        assert (found.model / "config.json").is_file()
        assert callable(found.module("task").load)
        assert found.can_build is (found.folder / "build.py").is_file()


def test_a_task_of_a_world_is_told_by_its_name() -> None:
    assert world_of_task("tiny") == world_of_task("tiny:level=3") == synthetic_worlds()["tiny"]
    assert world_of_task("tiny.jsonl") is None
    assert world_of_task("chain_sum:min_terms=2") is None


def test_an_unknown_world_is_one_line_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="--model: unknown world 'tinny'; did you mean 'tiny'"):
        find_world("tinny")
