"""The tree against the definitions: PUCT, backup and search by brute force, and what a node weighs."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from selftaught.search import Decision, Node, backup, decide, mcts, puct, select, step_prior
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


def most_visited_path(root: Node) -> list[Node]:
    path: list[Node] = []
    while root.children:
        root = decide(root, diversity=False).chosen
        path.append(root)
    return path


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
    path = most_visited_path(root)
    line = [int(step.text) for step in path]
    assert sum(d * 3 ** (2 - i) for i, d in enumerate(line)) == best  # which brute force over all 27 would find
    assert path[-1].value == 1.0
    assert root.visits == 600  # an iteration counts its root twice
    assert sum(child.visits for child in root.children) == 300
    assert world.expanded <= 13  # every inner node once


def test_from_root_to_root_the_main_line_is_searched_again() -> None:
    world, root = World(3, 3, [1.0] + [-1.0] * 26), Node()
    made = asyncio.run(mcts(root, world.expand, iterations=50, c_puct=2.0))
    line = [one.chosen for one in made]
    assert [step.text for step in line] == ["0", "0", "0"]
    assert root.visits == 400  # four times as many from the first root, each counted twice there
    assert [sum(one.visits) for one in made] == [200, made[0].visits[0] + 50, made[1].visits[0] + 50]
    assert made[0].visits[0] < line[0].visits == made[0].visits[0] + 100
    few = asyncio.run(mcts(Node(), world.expand, iterations=50, c_puct=2.0, first_factor=1))
    assert sum(few[0].visits) == 50


def test_few_iterations_leave_most_of_a_wide_tree_alone() -> None:
    world, root = World(5, 4, [0.0] * 625), Node()
    made = asyncio.run(mcts(root, world.expand, iterations=2, first_factor=1))
    assert world.expanded < 30 < 156
    assert made[-1].chosen.ended


def test_a_dead_end_ends_the_search() -> None:
    async def nothing(node: Node) -> list[Node]:
        del node
        return []

    root = Node()
    assert asyncio.run(mcts(root, nothing, iterations=3)) == []
    assert root.ended


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


# --- the authors' code ---

AUTHORS = (
    (
        {
            "0": (0.6, (-0.2, -0.9, -1.4, -1.4)), "00": (0.4, (-0.9, -0.5, -0.5, -0.9)),
            "000": (1.25, (-0.5, -0.9, -0.2)), "001": (1.9, (-1.4, -0.2, -0.9)), "01": (0.6, (-0.5, -1.4, -1.4)),
            "010": (-0.25, (-0.2,)), "011": (-0.9, (-1.4,)), "1": (0.4, (-0.9, -0.2)), "10": (0.25, (-0.5, -0.5)),
            "100": (-0.25, (-0.2,)), "101": (-0.6, (-0.9,)), "11": (0.75, (-0.2, -0.9, -0.5)),
            "110": (-0.25, (-0.2, -1.4, -0.9, -0.5)), "111": (1.4, (-0.5, -0.2)),
        },
        [((47, 17), (1.764361702, 1.195588235), 0), ((62, 1), (1.226612903, -1.175), 0), ((8, 70), (0.85, 1.5), 1)],
    ),
    (
        {
            "0": (0.75, (-0.9, -0.2, -1.4)), "00": (0.25, (-0.5,)), "000": (-0.9, (-0.5, -1.4, -0.2, -0.5)),
            "001": (1.1, (-0.9, -0.5, -1.4, -0.5)), "01": (0.1, (-1.4, -0.5)), "010": (1.25, (-0.5,)),
            "011": (1.25, (-0.9, -0.9)), "1": (0.25, (-0.5, -0.5)), "10": (0.6, (-0.2, -0.9, -1.4)),
            "100": (1.25, (-0.2, -0.9, -0.9)), "101": (1.75, (-0.2, -0.9, -0.9)), "11": (0.4, (-0.9, -0.5, -1.4, -1.4)),
            "110": (1.9, (-0.9,)), "111": (-0.9, (-0.2, -1.4, -0.9, -1.4)),
        },
        [((7, 57), (1.085714286, 1.74374269), 1), ((28, 45), (1.428571429, 1.587777778), 1), ((60, 1), (1.5, -1.3), 0)],
    ),
)  # fmt: skip
"""Value and log-probabilities of each step by its path, and what the `MCTS` of github.com/YuxiXie/MCTS-DPO (fb23437)
knew at each root: visits and Q of both children, and the next root (16 iterations, its defaults, run once)."""


@pytest.mark.parametrize(("steps", "expected"), AUTHORS)
def test_the_search_is_that_of_the_authors_code(steps: dict[str, Any], expected: list[Any]) -> None:
    async def expand(node: Node) -> list[Node]:
        found = [(node.answer + digit, digit) for digit in "01"]
        return [
            Node(path, digit, prior=step_prior(steps[path][1]), value=steps[path][0], ended=len(path) == 3)
            for path, digit in found
        ]

    made = asyncio.run(mcts(Node(), expand, iterations=16))
    assert [(one.visits, one.children.index(one.chosen)) for one in made] == [(n, i) for n, _, i in expected]
    for one, (_, qs, _) in zip(made, expected, strict=True):
        assert one.qs == pytest.approx(qs, abs=1e-9)


def test_the_next_root_is_where_continuations_differ() -> None:
    root = Node()
    even, odd = (root.add_child(Node(visits=n, value=0.5)) for n in (6, 4))
    for parent, visits in ((even, (3, 3)), (odd, (3, 1))):
        for n in visits:
            parent.add_child(Node(visits=n))
    assert decide(root).chosen is odd  # 4 * (2 + 1) > 6 * (0 + 1)
    assert decide(root, diversity=False) == Decision((even, odd), (6, 4), (0.5, 0.5), even)
    odd.children[0].visits = 1
    even.visits, odd.q = 4, 0.6
    assert decide(root).chosen is odd  # of equals, the higher Q
    odd.q, odd.v = 0.5, 0.1
    assert decide(root).chosen is odd  # then the higher V
