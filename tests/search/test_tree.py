"""The tree against the definitions: PUCT, backup and search by brute force, and what a node weighs."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import tracemalloc
from collections.abc import Sequence

import pytest

from selftaught.search import Node, backup, mcts, most_visited_path, puct, select, step_prior
from selftaught.search.mcts import run_iteration

BYTES_A_NODE = 2048


def test_the_prior_is_the_geometric_mean_of_the_probabilities_stretched_by_length() -> None:
    probabilities = (0.5, 0.25, 0.9, 0.1)
    assert step_prior([math.log(p) for p in probabilities], 1.0) == pytest.approx(math.prod(probabilities) ** (1 / 4))
    assert step_prior([math.log(p) for p in probabilities], 0.0) == pytest.approx(math.prod(probabilities))
    assert step_prior([math.log(p) for p in probabilities]) > step_prior([math.log(p) for p in probabilities], 1.0)
    assert step_prior(()) == 1.0


def test_puct_weighs_worth_against_what_was_seldom_visited() -> None:
    root = Node(visits=9)
    often, seldom = (root.add_child(Node(prior=0.5, value=v, visits=n)) for v, n in ((0.4, 7), (0.3, 1)))
    assert puct(often, 2.0) == pytest.approx(0.4 + 2 * 0.5 * 3 / 8)
    assert puct(seldom, 2.0) == pytest.approx(0.3 + 2 * 0.5 * 3 / 2)
    assert select(root, 2.0)[-1] is seldom
    assert select(root, 0.0)[-1] is often


def check_definitions(root: Node, gamma: float) -> None:
    """Q and V of every node that was come through, from the definitions."""
    for node in root:
        if node.visits and node.children:
            weights = [max(1, child.visits) for child in node.children]
            mean = sum(w * c.q for w, c in zip(weights, node.children, strict=True)) / sum(weights)
            assert node.v == pytest.approx(mean)
        if node.visits:
            reward = node.value - (node.parent.value if node.parent else 0.0)
            assert node.q == pytest.approx(reward + gamma * node.v)


class World:
    """A complete tree whose leaves are worth what a list says; steps between are worth a hint of the best below."""

    def __init__(self, width: int, depth: int, leaves: Sequence[float]) -> None:
        self.width, self.depth, self.leaves, self.expanded = width, depth, leaves, 0

    async def expand(self, node: Node) -> list[Node]:
        self.expanded += 1
        place = [int(step.text) for step in node.path]
        return [self.make([*place, i]) for i in range(self.width)]

    def make(self, place: list[int]) -> Node:
        below = self.below(place)
        ended = len(place) == self.depth
        return Node(str(place), str(place[-1]), prior=1 / self.width, ended=ended, value=below[0] if ended else 0.0)

    def below(self, place: Sequence[int]) -> list[float]:
        rests = itertools.product(range(self.width), repeat=self.depth - len(place))
        numbers = [[*place, *rest] for rest in rests]
        return [self.leaves[sum(d * self.width ** (self.depth - 1 - i) for i, d in enumerate(n))] for n in numbers]


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("best", [0, 5, 13, 26])
def test_the_search_finds_the_best_answer_and_keeps_to_its_definitions(best: int, gamma: float) -> None:
    leaves = [-1.0] * 27
    leaves[best] = 1.0
    world, root = World(3, 3, leaves), Node()

    async def search() -> None:
        for _ in range(300):
            await run_iteration(root, world.expand, 2.0, gamma)

    asyncio.run(search())
    check_definitions(root, gamma)
    line = [int(step.text) for step in most_visited_path(root)]
    assert sum(d * 3 ** (2 - i) for i, d in enumerate(line)) == best  # which brute force over all 27 would find
    assert most_visited_path(root)[-1].value == 1.0
    assert root.visits == 300
    assert sum(child.visits for child in root.children) == 300
    assert world.expanded <= 13  # every inner node once


def test_from_root_to_root_the_main_line_is_searched_again() -> None:
    world, root = World(3, 3, [1.0] + [-1.0] * 26), Node()
    asyncio.run(mcts(root, world.expand, iterations=50, c_puct=2.0))
    line = most_visited_path(root)
    assert [step.text for step in line] == ["0", "0", "0"]
    assert root.visits == 50
    assert 50 < line[0].visits <= 100 < line[1].visits <= 150


def test_few_iterations_leave_most_of_a_wide_tree_alone() -> None:
    world, root = World(5, 4, [0.0] * 625), Node()
    asyncio.run(mcts(root, world.expand, iterations=2))
    assert world.expanded < 30 < 156
    assert most_visited_path(root)[-1].ended


def test_a_dead_end_ends_the_search() -> None:
    async def nothing(node: Node) -> list[Node]:
        del node
        return []

    root = Node()
    asyncio.run(mcts(root, nothing, iterations=3))
    assert root.ended
    assert most_visited_path(root) == []


def test_backup_counts_each_visit_once_along_the_way() -> None:
    root = Node()
    a, b = root.add_child(Node(value=0.5)), root.add_child(Node(value=-1.0))
    leaf = a.add_child(Node(value=1.5, ended=True))
    backup([root, a, leaf])
    assert [n.visits for n in (root, a, b, leaf)] == [1, 1, 0, 1]
    assert leaf.q == pytest.approx(1.0)
    assert a.q == pytest.approx(0.5 + 1.0)
    assert root.v == pytest.approx((1.5 - 1.0) / 2)


def test_a_node_weighs_at_most_two_kilobytes_beyond_its_tokens() -> None:
    count, tokens = 2000, 24

    def build() -> Node:
        root = node = Node()
        for i in range(count):
            text = f"step {i}: " + "x" * 80
            own = tuple(range(1000 * i, 1000 * i + tokens))  # large numbers: no two steps share them
            child = Node(f"{i:016x}", text, own, 0.5 + i * 1e-9, 0.25 + i * 1e-9, p_true=0.1 + i * 1e-9)
            node.add_child(child)
            node = child if i % 3 else root
        backup(root.children[-1].path)
        return root

    gc.collect()
    tracemalloc.start()
    root = build()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    in_tokens = count * (tokens * (8 + 28) + 56)
    assert len(list(root)) == count + 1
    assert (held - in_tokens) / count <= BYTES_A_NODE
