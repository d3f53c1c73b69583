"""The calibration suite: checks that a world's model has the properties of base models that the literature agrees on.

A world is an instrument: claims about methods are only checked on one that passes. The checks are of the model and its
text, never of a method's verdict, and use problems and seeds that no claim uses (`CALIBRATION_SEEDS`).
`selftaught worlds examine WORLD --calibrate` runs them; see `calibration.table` for what is wanted and why.
"""

from selftaught.worlds.kit.calibration.figures import Figure, Finding
from selftaught.worlds.kit.calibration.freeze import world_version
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS, CalibrationPlan, Decision, WrittenReply
from selftaught.worlds.kit.calibration.table import CHECKS, SMOKE_CHECKS

__all__ = [
    "CALIBRATION_SEEDS",
    "CHECKS",
    "SMOKE_CHECKS",
    "CalibrationPlan",
    "Decision",
    "Figure",
    "Finding",
    "WrittenReply",
    "world_version",
]
