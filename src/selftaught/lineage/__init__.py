"""Lineage: trace every attempt, record, tree and policy of a run back to the starting model."""

from selftaught.lineage.graph import Lineage, LineageLink, LineageNode
from selftaught.lineage.walk import trace

__all__ = ["Lineage", "LineageLink", "LineageNode", "trace"]
