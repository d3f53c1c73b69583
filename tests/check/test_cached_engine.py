"""One engine for many runs: what it can, each run can."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from check_world import engine as scripted

from selftaught.check.cached_engine import CachedEngine
from selftaught.console import Console
from selftaught.engines import Engine
from selftaught.engines.local.engine import LocalEngine
from selftaught.errors import BadInput
from selftaught.run.run import Run
from selftaught.tasks import load_task
from selftaught.worlds.underfit.world import WORLD as UNDERFIT


def test_a_run_trains_online_through_a_shared_engine(tmp_path: Path) -> None:
    task = load_task("underfit:family=add,level=2", train=4, dev=2, test=1)
    settings = replace(UNDERFIT.settings, training=replace(UNDERFIT.settings.training, batch_size=4))
    with closing(LocalEngine(dtype="float32", max_batch_size=16)) as engine:
        for name in ("one", "two"):  # the engine outlives the first run
            with Run(
                tmp_path / name, model="underfit", task=task, engine=cast(Engine, CachedEngine(engine, {})),
                settings=settings, console=Console(quiet=True),
            ) as run:  # fmt: skip
                trained = run.learn_online(run.base, run.task.train, steps=2, samples=4)
                assert trained.version != run.base.version
                assert len(list(run.journal.effects("online"))) == 2


def test_an_engine_that_cannot_is_told_of_through_it_too(tmp_path: Path) -> None:
    task = load_task("underfit:family=add,level=2", train=4, dev=2, test=1)
    shared = cast(Engine, CachedEngine(scripted(), {}))
    with (
        Run(tmp_path, model="underfit", task=task, engine=shared, console=Console(quiet=True)) as run,
        pytest.raises(BadInput, match="cannot sample from weights in training"),
    ):
        run.learn_online(run.base, run.task.train, steps=1)
