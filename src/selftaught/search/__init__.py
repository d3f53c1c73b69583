"""Tree search over the steps of an answer: the tree, the search, a solver that runs it, and preferences from trees."""

from selftaught.search.mcts import mcts
from selftaught.search.p_true import highest_p_true, p_true
from selftaught.search.preferences import collapse_chain, pairs_from, preferences, to_pair, to_record
from selftaught.search.solver import Expander, MCTSConfig, MCTSSolver, SearchTree, prefix_attempt
from selftaught.search.step_rollouts import StepRollouts, scored_steps
from selftaught.search.tree import Decision, Node, backup, decide, puct, select, step_prior

__all__ = [
    "Decision",
    "Expander",
    "MCTSConfig",
    "MCTSSolver",
    "Node",
    "SearchTree",
    "StepRollouts",
    "backup",
    "collapse_chain",
    "decide",
    "highest_p_true",
    "mcts",
    "p_true",
    "pairs_from",
    "preferences",
    "prefix_attempt",
    "puct",
    "scored_steps",
    "select",
    "step_prior",
    "to_pair",
    "to_record",
]
