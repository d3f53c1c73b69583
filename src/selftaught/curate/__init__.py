"""Curation: plain functions that select training records from attempts."""

from selftaught.curate.batch import round_batch
from selftaught.curate.keep import by_problem, finished, keep, keep_right, source_ids, unsolved
from selftaught.curate.pairs import pairs, right_and_wrong
from selftaught.curate.pieces import Piece, demo_of_pieces, masked_spans, turn_demos
from selftaught.curate.pool import AnswerPool
from selftaught.curate.vote import Vote, elect, vote, vote_shares, with_confidence

__all__ = [
    "AnswerPool",
    "Piece",
    "Vote",
    "by_problem",
    "demo_of_pieces",
    "elect",
    "finished",
    "keep",
    "keep_right",
    "masked_spans",
    "pairs",
    "right_and_wrong",
    "round_batch",
    "source_ids",
    "turn_demos",
    "unsolved",
    "vote",
    "vote_shares",
    "with_confidence",
]
