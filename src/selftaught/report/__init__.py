"""Reports: a self-contained HTML page for a run, without scripts or external resources."""

from selftaught.report.data import Example, ReportData, Round
from selftaught.report.figure import before_after_figure
from selftaught.report.page import render_page
from selftaught.report.trees import TreeStep, TreeView, trees_of

__all__ = ["Example", "ReportData", "Round", "TreeStep", "TreeView", "before_after_figure", "render_page", "trees_of"]
