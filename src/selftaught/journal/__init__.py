"""The journal: every effect of a run, so that running the same command again resumes it."""

from selftaught.journal.journal import Journal
from selftaught.journal.ledger import Ledger, Usage
from selftaught.journal.reader import JournalReader

__all__ = ["Journal", "JournalReader", "Ledger", "Usage"]
