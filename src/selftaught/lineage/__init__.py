"""Lineage: every attempt, record, tree and policy of a run, walked back to the policy that the run started from."""

from selftaught.lineage.graph import Lineage, LineageLink, LineageNode
from selftaught.lineage.walk import trace

__all__ = ["Lineage", "LineageLink", "LineageNode", "trace"]
