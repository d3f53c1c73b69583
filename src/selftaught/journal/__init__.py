"""The journal: everything a run has paid for, so that rerunning is resuming."""

from selftaught.journal.journal import Journal
from selftaught.journal.ledger import Ledger, Usage
from selftaught.journal.reader import Reader

__all__ = ["Journal", "Ledger", "Reader", "Usage"]
