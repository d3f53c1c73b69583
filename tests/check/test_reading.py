"""Results in words: what was seen, how sure, and why something is not testable."""

from __future__ import annotations

from typing import Any

import pytest

from selftaught.check.reading import conditions_text, contrast_text, result_cells, sure_text

BEATS = {"verdict": "reproduced", "effect": 0.083, "ci95": [0.061, 0.105], "against": "greedy", "kind": "beats"}
BEATS |= {"leg": "greedy", "left_out": {}, "failed": [], "p_value": 0.001, "seeds": 12}
LEVEL = {"name": "the fixed arm levels off", "holds": True, "value": 0.004, "at_most": 0.01}
MOVED = {"name": "the KL moved", "holds": False, "value": 0.02, "at_least": 0.1}
UNSEEN = {"name": "it was seen", "holds": False, "value": None, "at_least": 0.1, "at_most": 0.5}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "reproduced: +0.083 [+0.061, +0.105] over greedy"),
        ({"kind": "ordered", "leg": "a > greedy"}, "reproduced: a > greedy by +0.083 [+0.061, +0.105]"),
        ({"kind": "statistic", "leg": "AUROC", "against": ""}, "reproduced: AUROC 0.083 [0.061, 0.105]"),
        (
            {"kind": "alarm", "leg": "alarm diversity", "effect": 0.75, "ci95": [0.5, 0.9], "against": ""},
            "reproduced: alarm diversity 75% [50%, 90%] of the seeds",
        ),
        (
            {"verdict": "not testable here", "failed": ["the KL moved"]},
            "not testable here, as a condition fails: +0.083 [+0.061, +0.105] over greedy",
        ),
        (
            {"verdict": "not testable here", "failed": ["majority"], "left_out": {"majority": "why", "greedy": "one"}},
            "not testable here: majority cannot be given the method's compute (why)."
            " Of the others: +0.083 [+0.061, +0.105] over greedy",
        ),
        (
            {
                "verdict": "not testable here", "failed": ["majority"], "left_out": {"majority": "why"}, "effect": None,
                "ci95": [None, None],
            },
            "not testable here: majority cannot be given the method's compute (why)",
        ),
        ({"effect": None, "ci95": [None, None]}, "reproduced: unknown over greedy"),
    ],
)  # fmt: skip
def test_a_verdict_says_what_was_seen(changes: dict[str, Any], said: str) -> None:
    assert contrast_text(BEATS | changes) == said


def test_a_claim_of_lower_says_so() -> None:
    assert contrast_text(BEATS, "lower") == "reproduced: +0.083 [+0.061, +0.105] over greedy (lower was claimed)"


@pytest.mark.parametrize(
    ("conditions", "brief", "whole"),
    [
        ([], "none needed", "none needed"),
        ([LEVEL], "holds", "hold: the fixed arm levels off: 0.004, needs ≤ 0.01"),
        ([LEVEL] * 3, "all 3 hold", None),
        ([LEVEL, MOVED], "1 of 2 fails: the KL moved: 0.02, needs ≥ 0.1", "fails: the KL moved: 0.02, needs ≥ 0.1"),
        (
            [UNSEEN, MOVED],
            None,
            "fails: it was seen: not measured, needs ≥ 0.1 and ≤ 0.5; the KL moved: 0.02, needs ≥ 0.1",
        ),
    ],
)
def test_conditions_are_named_where_they_fail(
    conditions: list[dict[str, Any]], brief: str | None, whole: str | None
) -> None:
    assert brief in (None, conditions_text(conditions, brief=True))
    assert whole in (None, conditions_text(conditions))


def test_how_sure_is_seeds_models_problems_and_q() -> None:
    found = {"seeds": 12, "builds": 3, "problems": 2000}
    assert sure_text(found, 0.0123) == "12 seeds, 3 models, 2,000 problems; q = 0.012"
    assert sure_text({"seeds": 1, "problems": 1}) == "1 problem"
    assert sure_text(found, 0.0004).endswith("; q < 0.001")  # no probability is zero


def test_a_row_has_both_contrasts_and_a_dash_for_one_that_the_claim_has_not() -> None:
    found = {"contrasts": {"as_published": BEATS}, "direction": "higher", "preconditions": [LEVEL], "seeds": 12}
    found |= {"builds": 1, "problems": 2000}
    assert result_cells(found, 0.5) == (contrast_text(BEATS), "–", "holds", "12 seeds, 2,000 problems; q = 0.500")
