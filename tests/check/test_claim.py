"""Claims: what they need, and what is refused; where results are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftaught.check.claim import NAMED_BASELINES, Baseline, Claim
from selftaught.check.legs import Alarm, Beats, NoWorse, Ordered, Precondition, Statistic
from selftaught.check.reading import OLDER, headline, is_older, result_cells
from selftaught.check.results import result_path
from selftaught.check.setup import load_task
from selftaught.errors import BadInput
from selftaught.measure.association import auroc_of
from selftaught.method import find
from selftaught.worlds import synthetic_worlds, world_of_task
from selftaught.worlds.world import DEFAULT_WORLD, find_world, worlds

STEPS = Baseline("one stage", options={"stages": 1})


def value(_: Any) -> float:
    return 1.0


def observations(_: Any) -> dict[str, list[Any]]:
    return {}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"baselines": ()}, "baselines: a claim needs at least one baseline; name one"),
        ({"baselines": ("gredy",)}, "unknown baseline 'gredy'; did you mean 'greedy'"),
        ({"direction": "up"}, 'direction must be "higher" or "lower", got \'up\''),
        ({"min_effect": 0}, "min_effect must be > 0, got 0"),
        ({"min_effect": float("nan")}, "min_effect must be > 0, got nan"),
        ({"legs": (Ordered((None, "one stag", STEPS)),)}, "unknown baseline 'one stag'; did you mean 'one stage'"),
        ({"baselines": (STEPS, Baseline("one stage"))}, "two baselines are called 'one stage'"),
        ({"preconditions": (Precondition("x", value, at_least=0, of="onlin-rft"),)}, "unknown baseline 'onlin-rft'"),
    ],
)
def test_a_claim_that_cannot_fail_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Claim("x", **{"baselines": ("greedy",), **more})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NoWorse("greedy", 0.0), "margin must be > 0, got 0"),
        (lambda: Ordered((None,)), "an order needs at least two systems"),
        (lambda: Statistic("AUROC", observations, auroc_of), "AUROC: a statistic needs one bound"),
        (lambda: Statistic("AUROC", observations, auroc_of, at_least=0, at_most=1), "a statistic needs one bound"),
        (lambda: Alarm("diversity", share=1.0), "share must lie between 0 and 1, got 1"),
        (lambda: Alarm("degeneration"), "unknown alarm 'degeneration'"),
        (lambda: Precondition("it moved", value), "it moved: a precondition needs a bound"),
        (lambda: Baseline("x", contrasts=()), "a baseline needs a contrast"),
        (lambda: Baseline("x", contrasts=("equal tokens",)), "unknown contrast 'equal tokens'"),  # type: ignore[arg-type]
    ],
)
def test_a_leg_or_baseline_that_says_nothing_is_refused(make: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        make()


def test_every_named_baseline_and_any_method_will_do() -> None:
    baselines = (*NAMED_BASELINES, Baseline("one round", options={"rounds": 1}))
    assert Claim("x", baselines).baselines == baselines


def test_the_short_form_stands_for_a_leg_for_each_and_comes_first() -> None:
    moved = Precondition("y", value, 0.0, of=STEPS)
    claim = Claim("x", ("greedy",), legs=(NoWorse("greedy", 0.01),), preconditions=(moved,))
    assert claim.all_legs == (Beats("greedy"), NoWorse("greedy", 0.01))
    assert list(claim.all_baselines) == ["greedy", "one stage"]
    assert list(claim.leg_baselines) == ["greedy"]


def test_claims_say_how_many_train_problems_they_need() -> None:
    """As many as their options give a use to: SELF's corpus and three rounds of new prompts, eight rounds of trees."""
    needed = {name: (claim.train, claim.options) for name in ("self", "mcts-dpo") if (claim := find(name).claim)}
    train, options = needed["self"]
    assert train == options["annotated"] + 3 * options["problems"] == 1600
    train, options = needed["mcts-dpo"]
    assert train == options["rounds"] * options["problems"] == 512
    with pytest.raises(BadInput, match="train must be ≥ 0, got -1"):
        Claim("x", ("greedy",), train=-1)


def test_a_claim_on_hard_problems_trains_and_is_tested_on_them() -> None:
    method, tiny = find("critique-in-the-loop"), replace(find_world("tiny"), dev=2, test=2)
    claim = Claim("x", ("greedy",), train=2, variant="hard")
    assert {p.meta["level"] for p in load_task(method, tiny, 0, claim).train} == {8}
    assert {p.meta["level"] for p in load_task(method, tiny, 0, replace(claim, variant="")).train} == {4}
    with pytest.raises(BadInput, match="unknown variant 'hrad'"):
        Claim("x", ("greedy",), variant="hrad")  # pyright: ignore[reportArgumentType]


def test_a_name_stands_for_the_baseline_that_is_declared_anywhere() -> None:
    claim = Claim("x", legs=(Ordered((None, "one stage", "greedy")), Beats(STEPS)))
    assert claim.all_baselines == {"one stage": STEPS, "greedy": "greedy"}


@pytest.mark.parametrize(
    ("bounds", "found", "holds"),
    [
        ({"at_least": 0.1}, 0.1, True), ({"at_least": 0.1}, 0.0999, False), ({"at_most": 0.1}, 0.1, True),
        ({"at_most": 0.1}, 0.2, False), ({"at_least": 0.0, "at_most": 1.0}, 0.5, True),
        ({"at_least": 0.0, "at_most": 1.0}, 2.0, False), ({"at_least": 0.0}, None, False),
        ({"at_least": 0.0}, float("nan"), False),
    ],
)  # fmt: skip
def test_a_precondition_holds_within_its_bounds_and_not_where_it_is_unknown(
    bounds: dict[str, float], found: float | None, holds: bool
) -> None:
    assert Precondition("x", value, **bounds).holds(found) is holds


def test_every_named_baseline_has_a_function() -> None:
    from selftaught.check.baselines import OF_SAMPLES, ONE_ANSWER

    assert (*ONE_ANSWER, *OF_SAMPLES) == NAMED_BASELINES


def test_results_on_the_default_world_have_the_short_name() -> None:
    assert result_path(Path("r"), "star") == Path("r/star.json")
    assert result_path(Path("r"), "star", "smollm2-135m") == Path("r/star.smollm2-135m.json")


def test_stored_results_are_of_this_form() -> None:
    """What `selftaught check` wrote for the README can be read by what reads it today; older ones are marked."""
    files = sorted(Path(__file__).parents[2].glob("results/*.json"))
    assert len(files) >= 14
    for file in files:
        found = json.loads(file.read_text("utf-8"))
        shown, head = result_cells(found)[0], headline(found)
        what = f"{head['leg']} by " if head.get("kind") == "ordered" else ""
        effect = f"{what}{head['effect']:+.3f}"
        effect = f"{head['leg']} {head['effect']:.0%}" if head.get("kind") == "alarm" else effect
        assert f"{head['verdict']}: {effect} [" in shown
        assert shown.startswith(OLDER) == is_older(found)
        if head.get("kind") not in ("statistic", "alarm"):
            assert next(row for row in found["baselines"] if row["name"] == head["against"])["in_claim"]
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
    assert world_of_task("underfit") == world_of_task("underfit:level=3") == synthetic_worlds()["underfit"]
    assert world_of_task("underfit.jsonl") is None
    assert world_of_task("chain_sum:min_terms=2") is None


def test_an_unknown_world_is_one_line_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="--model: unknown world 'underfitt'; did you mean 'underfit'"):
        find_world("underfitt")
