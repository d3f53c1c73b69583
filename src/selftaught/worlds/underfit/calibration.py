"""What the underfit world offers the calibration suite."""

from __future__ import annotations

from selftaught.worlds.kit.calibration.plan import CalibrationPlan

PLAN = CalibrationPlan(
    search_long="underfit:family=chain|add,level=4",
    search_short="underfit:family=chain|add,level=2",
    checkable="underfit:family=target|equation,level=3",
    lookup_only="underfit:family=chain|add,level=3",
)
