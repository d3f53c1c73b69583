"""The page at the end of a run: one self-contained HTML file, no scripts, nothing loaded from elsewhere."""

from selftaught.report.charts import before_after_figure
from selftaught.report.data import Example, ReportData, Round
from selftaught.report.page import render
from selftaught.report.trees import Step, Tree, trees_of

__all__ = ["Example", "ReportData", "Round", "Step", "Tree", "before_after_figure", "render", "trees_of"]
