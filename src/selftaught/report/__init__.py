"""The page at the end of a run: one self-contained HTML file, no scripts, nothing loaded from elsewhere."""

from selftaught.report.charts import before_after_figure
from selftaught.report.data import Example, ReportData, Round
from selftaught.report.page import render

__all__ = ["Example", "ReportData", "Round", "before_after_figure", "render"]
