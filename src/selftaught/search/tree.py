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
        tokens: ids of the step's tokens.
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
    tokens: tuple[int, ...] = ()
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


def select(root: Node, c_puct: float = 1.0) -> list[Node]:
    """Follow the highest PUCT from `root` to a leaf; ties go to the first child. Returns all nodes on the path."""
    path = [root]
    while path[-1].children:
        path.append(max(path[-1].children, key=lambda child: puct(child, c_puct)))
    return path


def backup(path: Sequence[Node], gamma: float = 1.0) -> None:
    """Count a visit of every node on the path, and update V and Q from its end to its start.

    V(s) = sum over children of max(1, N) Q / sum of max(1, N); Q(s, a) = r(s, a) + gamma V(s').
    """
    for node in reversed(path):
        node.visits += 1
        if node.children:
            weights = [child.visits or 1 for child in node.children]
            total = math.fsum([w * child.q for w, child in zip(weights, node.children, strict=True)])
            node.v = total / sum(weights)
        node.q = node.reward + gamma * node.v


def most_visited_path(root: Node) -> list[Node]:
    """The answer that the search settles on: from the root, always the most visited child; ties go to the higher Q."""
    path = [root]
    while path[-1].children:
        path.append(max(path[-1].children, key=lambda child: (child.visits, child.q)))
    return path[1:]
