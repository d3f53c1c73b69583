"""Lineage: every attempt, record, tree and policy of a run, walked back to the policy that the run started from."""

from selftaught.lineage.graph import Lineage, Link, Node
from selftaught.lineage.walk import trace

__all__ = ["Lineage", "Link", "Node", "trace"]
