"""Recompute what a run claims from its journal, and check that nothing was changed since it was written."""

from selftaught.audit.audit import audit
from selftaught.audit.evidence import Finding

__all__ = ["Finding", "audit"]
