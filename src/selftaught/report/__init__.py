"""The page at the end of a run: one self-contained HTML file, no scripts, nothing loaded from elsewhere."""

from selftaught.report.data import Example, ReportData, Round
from selftaught.report.figure import before_after_figure
from selftaught.report.page import render_page
from selftaught.report.trees import TreeStep, TreeView, trees_of

__all__ = ["Example", "ReportData", "Round", "TreeStep", "TreeView", "before_after_figure", "render_page", "trees_of"]
