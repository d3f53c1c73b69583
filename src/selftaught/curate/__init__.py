"""Curation: plain functions that select training records from attempts."""

from selftaught.curate.batch import round_batch
from selftaught.curate.cluster import cluster, random_groups
from selftaught.curate.decontaminate import Decontaminator, decontaminate
from selftaught.curate.judged import all_pairs, keep_judged, win_rates
from selftaught.curate.keep import by_problem, finished, keep, keep_right, source_ids, unsolved
from selftaught.curate.pairs import (
    best_and_worst,
    latest_score,
    most_and_least_voted,
    pairs,
    right_and_nearest_wrong,
    right_and_wrong,
    right_times_wrong,
    score_gap,
    similar_length,
    solution_pairs,
    vote_gap,
    written_solutions,
)
from selftaught.curate.pieces import Piece, demo_of_pieces, masked_spans, turn_demos
from selftaught.curate.pool import AnswerPool
from selftaught.curate.vote import Vote, ballots, elect, vote, vote_shares, with_confidence

__all__ = [
    "AnswerPool",
    "Decontaminator",
    "Piece",
    "Vote",
    "all_pairs",
    "ballots",
    "best_and_worst",
    "by_problem",
    "cluster",
    "decontaminate",
    "demo_of_pieces",
    "elect",
    "finished",
    "keep",
    "keep_judged",
    "keep_right",
    "latest_score",
    "masked_spans",
    "most_and_least_voted",
    "pairs",
    "random_groups",
    "right_and_nearest_wrong",
    "right_and_wrong",
    "right_times_wrong",
    "round_batch",
    "score_gap",
    "similar_length",
    "solution_pairs",
    "source_ids",
    "turn_demos",
    "unsolved",
    "vote",
    "vote_gap",
    "vote_shares",
    "win_rates",
    "with_confidence",
    "written_solutions",
]
