"""Learning: records and an objective in, a new policy out.

An objective is a pure function from log-probabilities to a loss (`selftaught.learn.objectives` has them all);
`Training` holds how it is optimised. The trainer never knows the method: records carry the weights.
`Run.learn` trains on records that are there, `Run.reinforce` on rollouts by the weights as they are.
"""

from selftaught.curate.replay import mix_replay
from selftaught.learn.config import Training
from selftaught.learn.objectives import Objective, Row, Sft, sft
from selftaught.learn.population import Population

__all__ = ["Objective", "Population", "Row", "Sft", "Training", "mix_replay", "sft"]
