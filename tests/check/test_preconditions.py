"""The preconditions of the claims: each of them measures what a run of its method, or of a baseline, really logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search_world import by_steps
from selftaught.check.baselines import run_system
from selftaught.check.legs import Baseline
from selftaught.check.setup import claim_of
from selftaught.engines import ScriptedEngine
from selftaught.method import find
from selftaught.testing import SumAnnotator, make_run, make_task
from talking_world import talk, twice

SMALL: dict[str, dict[str, Any]] = {
    "b-star": {"rounds": 4, "samples": 4, "steps": 2, "probe": 6, "num_temperatures": 2, "step_reward": "none"},
    "online-rft": {"rounds": 4, "samples": 4, "steps": 2, "step_reward": "none"},
    "score": {"steps": 2, "batch_size": 4, "samples": 2},
    "mcts-dpo": {"rounds": 2, "problems": 4, "iterations": 4, "depth": 2},
    "critique-in-the-loop": {"rounds": 2, "samples": 4, "repairs": 4, "drafts": 3, "probe": 6, "annotated": 0},
    "self": {"rounds": 1, "annotated": 6, "problems": 6, "drafts": 3},
    "iterative-deepening": {"samples": 2},
    "star": {"rounds": 1},
}
SCRIPTS: dict[str, Any] = {"score": twice, "mcts-dpo": by_steps()}


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"online-rft"}))
def test_each_is_a_number_on_a_run_of_what_it_is_about(tmp_path: Path, name: str) -> None:
    method = find(name)
    assert claim_of(method).preconditions
    for number, condition in enumerate(claim_of(method).preconditions):
        for part, of in enumerate([condition.of] if condition.over is None else [condition.of, condition.over]):
            of_, options = (method, {}) if of is None else _system(name, of)
            task = make_task(train=24, dev=4, test=20, annotator=SumAnnotator())
            engine = ScriptedEngine(SCRIPTS.get(name, talk))
            with make_run(tmp_path / f"{number}.{part}", task=task, engine=engine) as run:
                value = condition.value(run_system(run, of_, {**options, **SMALL[of_.id]}))
            assert value is not None
            assert -20 <= value <= 1000


def _system(name: str, of: Any) -> tuple[Any, dict[str, Any]]:
    """The method of a baseline and its own options."""
    assert isinstance(of, Baseline)
    return (find(of.method) if of.method else find(name)), dict(of.options)
