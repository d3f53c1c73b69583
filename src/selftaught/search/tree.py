"""A search tree as plain data, with PUCT selection and backup; independent of any model.

Source of the algorithm: Xie et al., "Monte Carlo tree search boosts reasoning via iterative preference learning",
2405.00451, section 2.1, and its code (github.com/YuxiXie/MCTS-DPO).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from selftaught.records import Verdict


@dataclass(slots=True, eq=False)
class Node:
    """One step of an answer, with its search statistics.

    Attributes:
        id: key of the effect that sampled the step; empty for the root, which is no step.
        text: the step, with its end mark.
        tokens: ids of the step's tokens; its text where it has none.
        prior: the policy's probability of the step, see `step_prior`.
        value: of the answer up to here: outcome reward plus `p_true`.
        parent: the step before; None for the root.
        ended: whether the answer ends with this step, or cannot be continued.
        truncated: whether the answer was cut off here at `max_tokens`.
        verdict: on the whole answer, where it ends here and was judged.
        p_true: the model's own probability that the answer is right so far, in 0..1; None where unknown.
        visits: N(s).
        v: V(s), the visit-weighted mean of the children's Q.
        q: Q(s, a) of the step: value - parent's value + gamma * v.
        children: steps that may follow, all different.
    """

    id: str = ""
    text: str = ""
    tokens: tuple[int | str, ...] = ()
    prior: float = 1.0
    value: float = 0.0
    parent: Node | None = None
    ended: bool = False
    verdict: Verdict | None = None
    p_true: float | None = None
    visits: int = 0
    v: float = 0.0
    q: float = 0.0
    children: list[Node] = field(default_factory=list)
    truncated: bool = False

    @property
    def reward(self) -> float:
        """r(s, a): the gain in value over the parent."""
        return self.value - self.parent.value if self.parent else self.value

    @property
    def path(self) -> list[Node]:
        """The steps from the first to this one."""
        steps: list[Node] = []
        node = self
        while node.parent is not None:
            steps.append(node)
            node = node.parent
        return steps[::-1]

    @property
    def depth(self) -> int:
        """Number of steps up to this one; 0 for the root."""
        return len(self.path)

    @property
    def answer(self) -> str:
        """The answer up to here."""
        return "".join(step.text for step in self.path)

    def add_child(self, child: Node) -> Node:
        """Add a child. Until its first visit its Q is its reward plus the V of this node."""
        child.parent = self
        child.q = self.v + child.reward
        self.children.append(child)
        return child

    def __iter__(self) -> Iterator[Node]:
        """Yield this node and all its descendants, parents first."""
        stack: list[Node] = [self]
        while stack:
            node = stack.pop()
            yield node
            stack += reversed(node.children)


def step_prior(logprobs: Sequence[float], length_penalty: float = 1.25) -> float:
    """p(a|s) = exp(sum of log-probabilities / n^penalty), for a step of n tokens; 1 for none."""
    return math.exp(math.fsum(logprobs) / len(logprobs) ** length_penalty) if logprobs else 1.0


def puct(node: Node, c_puct: float = 1.0) -> float:
    """Q(s, a) + c p(a|s) sqrt(N(s)) / (1 + N(s'))."""
    above = node.parent.visits if node.parent else node.visits
    return node.q + c_puct * node.prior * math.sqrt(above) / (1 + node.visits)


def select_child(node: Node, c_puct: float = 1.0) -> Node:
    """The child of the highest PUCT; ties go to the first."""
    scale = c_puct * math.sqrt(node.visits)
    chosen, highest = node, -math.inf
    for child in node.children:
        score = child.q + scale * child.prior / (1 + child.visits)
        if score > highest:
            chosen, highest = child, score
    return chosen


def select(root: Node, c_puct: float = 1.0) -> list[Node]:
    """Follow the highest PUCT from `root` to a leaf. Returns all nodes on the path."""
    node, path = root, [root]
    while node.children:
        node = select_child(node, c_puct)
        path.append(node)
    return path


def backup(path: Sequence[Node], gamma: float = 1.0) -> None:
    """Count a visit of every node on the path, and update V and Q from its end to its start.

    V(s) = sum over children of max(1, N) Q / sum of max(1, N); Q(s, a) = r(s, a) + gamma V(s').
    """
    for node in reversed(path):
        node.visits += 1
        if node.children:
            total, weights = 0.0, 0
            for child in node.children:
                weight = child.visits or 1
                total += weight * child.q
                weights += weight
            node.v = total / weights
        node.q = node.reward + gamma * node.v


@dataclass(frozen=True, slots=True)
class Decision:
    """What the search knew of the children of a root when it went on to one of them.

    Attributes:
        children: all of them.
        visits: N of each child.
        qs: Q of each child.
        chosen: the next root.
    """

    children: tuple[Node, ...]
    visits: tuple[int, ...]
    qs: tuple[float, ...]
    chosen: Node


def decide(root: Node, diversity: bool = True) -> Decision:
    """Choose the next root: the child with the highest N * (gap + 1), then the highest Q, then the highest V.

    The gap is that between the most and the least visits of the child's own children, 0 without children: the search
    moves to where its continuations differ. Source: the authors' code (`consider_diversity`, on by default).

    Args:
        root: has children.
        diversity: whether to count the gap; otherwise the most visited child is chosen.
    """
    chosen = max(root.children, key=lambda c: (c.visits * ((visit_gap(c) if diversity else 0) + 1), c.q, c.v))
    found = tuple(root.children)
    return Decision(found, tuple(c.visits for c in found), tuple(c.q for c in found), chosen)


def visit_gap(node: Node) -> int:
    """The most visits of a child of the node less the fewest; 0 without children."""
    visits = [child.visits for child in node.children]
    return max(visits) - min(visits) if visits else 0
