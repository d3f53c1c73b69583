"""The underfit world for checking claims."""

from __future__ import annotations

from selftaught.engines.base import Sampling
from selftaught.learn import TrainConfig
from selftaught.run.settings import Settings
from selftaught.worlds.world import BEST_ON_DEV, World

WORLD = World(
    name="underfit",
    model="underfit",
    # Sums and products with carries: few enough facts that a hundred problems cover most of them.
    task="underfit:family=chain|add,level=3",
    generalization="underfit:family=chain|add,level=4",  # level 5 is not in the training text; accuracy there is ~0
    train=96,
    dev=96,
    test=160,
    quick={"looks": (2,), "solver_seeds": 2},
    settings=Settings(
        sampling=Sampling(max_tokens=96),
        training=TrainConfig(epochs=1, learning_rate=3e-4, batch_size=8, max_tokens_per_pass=2048, precision="float32"),
        gate=BEST_ON_DEV,
    ),
)
