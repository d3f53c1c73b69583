"""The watch: it remembers statistics, and lets go of the attempts that they are of."""

from __future__ import annotations

import gc
import weakref
from dataclasses import fields
from typing import Any

from scripted_world import judged
from selftaught.control.health import HealthMonitor
from selftaught.records import Attempt, Demo, Verdict
from selftaught.testing import sums


class Watched(Attempt):
    """An attempt of which one can see whether anybody still holds it."""


def watched(attempt: Attempt) -> Watched:
    values: dict[str, Any] = {field.name: getattr(attempt, field.name) for field in fields(attempt)}
    return Watched(**values)


def test_attempts_are_let_go_of_once_the_statistics_are_taken_also_outside_of_rounds() -> None:
    watch, problems = HealthMonitor(), sums(6)
    for _ in range(3):  # no round ends
        groups = {
            p.id: [watched(judged(p, answer, Verdict.RIGHT, name=f"{p.id}{i}")) for i, answer in enumerate("112")]
            for p in problems
        }
        alive = [weakref.ref(attempt) for group in groups.values() for attempt in group]
        watch.observe_samples("like", groups)
        watch.observe_measurement("policy", groups)
        watch.observe_training(
            [Demo((), "x", attempts=tuple(a.id for g in groups.values() for a in g))], by_verdict=False
        )
        del groups
        gc.collect()
        assert [reference() for reference in alive] == [None] * 18


def test_what_is_kept_still_tells_that_it_is_not_the_vote_that_is_learnt() -> None:
    watch, problems = HealthMonitor(), sums(12)
    groups = {p.id: [judged(p, answer, name=f"{p.id}{i}") for i, answer in enumerate("11112")] for p in problems}
    watch.observe_samples("like", groups)
    odd = [Demo((), "x", attempts=(group[4].id,)) for group in groups.values()]
    watch.observe_training(odd, by_verdict=False)
    (alarm,) = watch.end_round("base", "base", None)["alarms"]
    assert alarm.startswith("agreement: 0% of the training data")
