"""The glossary of options, and the choices that binding checks."""

from __future__ import annotations

from typing import Literal

import pytest

from selftaught.errors import BadInput
from selftaught.glossary import GLOSSARY, quick_options
from selftaught.method import recipe
from selftaught.models import Policy
from selftaught.run.run import Run
from selftaught.tasks import Task


def test_quick_options_cut_what_is_larger_and_leave_the_rest() -> None:
    assert quick_options([("rounds", 9), ("samples", 1), ("temperature", 0.7), ("unheard_of", 50)]) == {"rounds": 2}


def test_every_term_is_worded_alike() -> None:
    for name, term in GLOSSARY.items():
        assert name.isidentifier()
        assert term.meaning
        assert not term.meaning.endswith(".")
        assert term.unit


@recipe(paper="2203.14465")
def choosing(
    run: Run, base: Policy, task: Task, *, mode: Literal["fast", "slow"] = "fast", data: Literal["all"] | None = None
) -> Policy:
    """Choose."""
    return base


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "slwo"}, "^mode: must be one of 'fast', 'slow', got 'slwo'; did you mean 'slow'"),
        ({"mode": None}, "^mode: must be one of 'fast', 'slow', got None$"),
        ({"mode": ["fast"]}, "got \\['fast'\\]$"),
        ({"data": "none"}, "^data: must be one of 'all', None, got 'none'"),
    ],
)
def test_a_value_that_is_no_choice_is_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        choosing.bind(options)


def test_each_choice_binds() -> None:
    assert choosing.bind({"mode": "slow", "data": "all"}) == {"mode": "slow", "data": "all"}
    assert choosing.bind({}) == {"mode": "fast", "data": None}
