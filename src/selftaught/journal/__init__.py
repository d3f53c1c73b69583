"""The journal: everything a run has paid for, so that rerunning is resuming."""

from selftaught.journal.journal import Journal
from selftaught.journal.ledger import Ledger, Usage
from selftaught.journal.reader import JournalReader

__all__ = ["Journal", "JournalReader", "Ledger", "Usage"]
