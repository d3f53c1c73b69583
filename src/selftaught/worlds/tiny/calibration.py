"""What the tiny world offers the calibration suite."""

from __future__ import annotations

from selftaught.worlds.kit.calibration.plan import CalibrationPlan

PLAN = CalibrationPlan(
    search_long="tiny:family=chain|add,level=4",
    search_short="tiny:family=chain|add,level=2",
    checkable="tiny:family=target|equation,level=3",
    lookup_only="tiny:family=chain|add,level=3",
)
