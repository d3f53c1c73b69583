"""The tiny world for checking claims."""

from __future__ import annotations

from selftaught.engines.base import Sampling
from selftaught.learn import TrainConfig
from selftaught.run.settings import Settings
from selftaught.worlds.world import BEST_ON_DEV, World

WORLD = World(
    name="tiny",
    model="tiny",
    task="tiny:level=4",
    generalization="tiny:level=6",
    variants={"hard": "tiny:level=8", "checkable": "tiny:family=equation,level=5"},
    train=384,
    dev=500,
    test=2000,
    solver_test=3500,
    solver_seeds=1,  # their interval is over problems
    builds=("tiny-1", "tiny-2"),
    looks=(6, 12, 20),
    shared_test=True,
    champion="last",
    quick={"looks": (3,), "dev": 200, "test": 800, "solver_test": 1500},
    settings=Settings(
        sampling=Sampling(max_tokens=96),
        training=TrainConfig(epochs=2, learning_rate=4e-4, batch_size=64, max_tokens_per_pass=1024),
        gate=BEST_ON_DEV,
    ),
)
