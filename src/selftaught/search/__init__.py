"""Search: trees of partial answers, how they grow, and how much the model believes in them."""

from selftaught.search.belief import belief
from selftaught.search.mcts import mcts
from selftaught.search.steps import Expansion, Grower, Growth, as_pair, pairs_of, preferences, record, stem
from selftaught.search.tree import Node, backup, main_line, prior_of, puct, select

__all__ = [
    "Expansion", "Grower", "Growth", "Node", "as_pair", "backup", "belief", "main_line", "mcts", "pairs_of",
    "preferences", "prior_of", "puct", "record", "select", "stem",
]  # fmt: skip
