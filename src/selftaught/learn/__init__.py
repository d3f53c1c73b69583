"""Learning: records and an objective in, a new policy out.

An objective is a pure function from log-probabilities to a loss (see `selftaught.learn.objectives`); `TrainConfig`
holds the optimizer's settings. The trainer knows no method: records carry their weights. `Run.learn` trains on existing
records, `Run.learn_online` on rollouts of the weights in training.
"""

from selftaught.curate.replay import mix_replay
from selftaught.learn.config import TrainConfig
from selftaught.learn.objectives import Objective, Row, sft
from selftaught.learn.population import Population
from selftaught.learn.schedules import round_schedule

__all__ = ["Objective", "Population", "Row", "TrainConfig", "mix_replay", "round_schedule", "sft"]
