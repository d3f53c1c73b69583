"""Measure systems, with confidence intervals, and compare them on the same problems.

Every figure has an interval; two systems are compared on the same problems (`compare`), never by
looking at two separate intervals.
"""

from selftaught.measure.calibration import auroc, brier_score, calibration_statistics, expected_calibration_error
from selftaught.measure.measurement import (
    Comparison,
    Measurement,
    compare,
    describe_comparison,
    measure_attempts,
    measure_majority,
    pass_curve,
)
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
    "Comparison",
    "Interval",
    "Measurement",
    "StudyReport",
    "auroc",
    "brier_score",
    "calibration_statistics",
    "clustered_bootstrap",
    "compare",
    "describe_comparison",
    "expected_calibration_error",
    "majority_at_k",
    "mcnemar_exact",
    "measure_attempts",
    "measure_majority",
    "paired_bootstrap",
    "pass_at_k",
    "pass_curve",
    "sign_flip",
    "wilson",
]
