"""Methods that talk about answers, on the model that ships: its replies in every role are understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selftaught.console import Console
from selftaught.engines.base import Sampling
from selftaught.learn import TrainConfig
from selftaught.method import find
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import load_task

SETTINGS = Settings(
    sampling=Sampling(max_tokens=96), training=TrainConfig(epochs=1, learning_rate=3e-4, max_tokens_per_pass=2048)
)
SMALL: dict[str, dict[str, Any]] = {
    "b-star": {"samples": 4, "probe": 6, "num_temperatures": 2, "target": 2, "step_reward": "model", "steps": 4},
    "self": {"samples": 2, "drafts": 3},
    "critique-in-the-loop": {"samples": 3, "repairs": 3, "drafts": 3},
    "evolve": {"samples": 4, "probe": 6, "num_temperatures": 2, "target": 2, "repairs": 2},
}
SPOKEN = {
    "b-star": {"solve", "judge"},
    "self": {"solve", "critique", "revise"},
    "critique-in-the-loop": {"solve", "critique", "revise"},
    "evolve": {"solve", "critique", "revise"},
}


def opened(folder: Path) -> Run:
    task = load_task("underfit:family=chain|add,level=1", train=12, dev=4, test=2, seed=3)
    return Run(folder, model="underfit", task=task, settings=SETTINGS, console=Console(quiet=True))


@pytest.mark.parametrize("name", list(SMALL))
def test_a_round_of_it_trains_a_policy(tmp_path: Path, name: str) -> None:
    with opened(tmp_path) as run:
        find(name)(run, run.base, run.task, rounds=1, **SMALL[name])
        samples = {key: p for key, _, p, _ in run.journal.effects("sample")}
        (row,) = run.history
        made = [json.loads(line) for p in run.folder.glob("policies/*/records.jsonl") for line in p.open()]
    assert {p["role"] for p in samples.values()} == SPOKEN[name]
    assert row["metrics"]
    assert row["policy"] != run.base.version
    assert all(set(record["attempts"]) <= set(samples) for record in made)
    notes = [p["text"] for p in samples.values() if p["role"] == "critique"]
    words = [p["text"] for p in samples.values() if p["role"] == "judge"]
    understood = [n for n in notes if n.startswith(("step ", "no mistakes"))]
    understood += [w for w in words if w in ("right", "wrong") or (w and set(w) <= {"+", "-"})]
    assert len(understood) >= 0.9 * len(notes + words) > 0


@pytest.mark.parametrize("mode", ["parallel", "sequential"])
def test_its_critic_mends_at_test_time_without_running_out_of_context(tmp_path: Path, mode: str) -> None:
    solver = find("critic-supervision")
    with opened(tmp_path) as run:
        chosen = solver.with_options(samples=4, mode=mode)
        found = run.measure(run.base, solver=chosen)
        finished = [p["finish"] for _, _, p, _ in run.journal.effects("sample")]
    assert found.unknown_rate < 1
    assert "error" not in finished
