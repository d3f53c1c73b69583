"""Curation: plain functions that select training records from attempts."""

from selftaught.curate.batch import round_batch
from selftaught.curate.decontaminate import Decontaminator, decontaminate
from selftaught.curate.keep import by_problem, finished, keep, keep_right, source_ids, unsolved
from selftaught.curate.pairs import pairs, right_and_wrong
from selftaught.curate.pool import AnswerPool
from selftaught.curate.vote import Vote, elect, vote, with_confidence

__all__ = [
    "AnswerPool",
    "Decontaminator",
    "Vote",
    "by_problem",
    "decontaminate",
    "elect",
    "finished",
    "keep",
    "keep_right",
    "pairs",
    "right_and_wrong",
    "round_batch",
    "source_ids",
    "unsolved",
    "vote",
    "with_confidence",
]
