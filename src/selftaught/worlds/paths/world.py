"""The world `paths` for checking claims."""

from __future__ import annotations

from selftaught.engines.base import Sampling
from selftaught.learn import TrainConfig
from selftaught.run.settings import Settings
from selftaught.worlds.world import BEST_ON_DEV, World

WORLD = World(
    name="paths",
    model="paths",
    task="paths:level=4",
    generalization="paths:level=6",
    train=384,
    dev=500,
    test=2000,
    settings=Settings(
        sampling=Sampling(max_tokens=96),
        training=TrainConfig(epochs=2, learning_rate=1e-4, batch_size=64, precision="float32"),
        gate=BEST_ON_DEV,
    ),
)
