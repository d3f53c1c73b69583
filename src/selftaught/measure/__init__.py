"""Measure systems, with confidence intervals, and compare them on the same problems.

Every figure has an interval; two systems are compared on the same problems (`compare`), never by
looking at two separate intervals.
"""

from selftaught.measure.calibration import auroc, brier_score, calibration_statistics, expected_calibration_error
from selftaught.measure.crossed import CrossedEffect, crossed_effect, effect_of_differences, pigeonhole_interval
from selftaught.measure.estimate import BootstrapEstimate, Estimate, ShareEstimate, SpreadlessEstimate, TEstimate
from selftaught.measure.inference import (
    ClaimVerdict,
    Decision,
    Leg,
    LegResult,
    Precondition,
    decide,
    ordered,
    untestable,
)
from selftaught.measure.measurement import (
    Comparison,
    Measurement,
    compare,
    describe_comparison,
    measure_attempts,
    measure_majority,
    pass_curve,
)
from selftaught.measure.multiplicity import benjamini_hochberg, holm
from selftaught.measure.paired import Scores, paired_effect, paired_p_value, statistic_estimate
from selftaught.measure.power import effect_variance, minimum_detectable_effect, problems_needed
from selftaught.measure.sequential import DEFAULT_LOOKS, FIXED, Looks
from selftaught.measure.stats import (
    Interval,
    clustered_bootstrap,
    majority_at_k,
    mcnemar_exact,
    paired_bootstrap,
    pass_at_k,
    sign_flip,
    wilson,
)
from selftaught.measure.study import StudyReport

__all__ = [
    "DEFAULT_LOOKS",
    "FIXED",
    "BootstrapEstimate",
    "ClaimVerdict",
    "Comparison",
    "CrossedEffect",
    "Decision",
    "Estimate",
    "Interval",
    "Leg",
    "LegResult",
    "Looks",
    "Measurement",
    "Precondition",
    "Scores",
    "ShareEstimate",
    "SpreadlessEstimate",
    "StudyReport",
    "TEstimate",
    "auroc",
    "benjamini_hochberg",
    "brier_score",
    "calibration_statistics",
    "clustered_bootstrap",
    "compare",
    "crossed_effect",
    "decide",
    "describe_comparison",
    "effect_of_differences",
    "effect_variance",
    "expected_calibration_error",
    "holm",
    "majority_at_k",
    "mcnemar_exact",
    "measure_attempts",
    "measure_majority",
    "minimum_detectable_effect",
    "ordered",
    "paired_bootstrap",
    "paired_effect",
    "paired_p_value",
    "pass_at_k",
    "pass_curve",
    "pigeonhole_interval",
    "problems_needed",
    "sign_flip",
    "statistic_estimate",
    "untestable",
    "wilson",
]
