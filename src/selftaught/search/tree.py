"""A search tree: plain data, and PUCT over it. It knows no model.

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
    """One step of an answer, and what the search knows of it.

    Attributes:
        id: key of the effect that sampled it; empty for the root, which is no step.
        text: what the step says, with whatever ends it.
        tokens: the step's tokens.
        prior: the policy's probability of it, see `prior_of`.
        value: of the answer up to here, by itself: outcome plus the model's own belief.
        parent: the step before it; None for the root.
        ended: whether the answer ends with it, or can go no further.
        truncated: whether the answer was cut off at `max_tokens` here, before its end.
        verdict: on the whole answer, where it ends and was judged.
        belief: the model's own, in 0..1; None where it was not asked or said nothing.
        visits: N(s), how often the search came through.
        onward: V(s), visit-weighted mean of the children's Q.
        q: Q(s, a) of the step, value - parent's value + gamma * onward.
        children: steps that may follow, none twice.
    """

    id: str = ""
    text: str = ""
    tokens: tuple[int, ...] = ()
    prior: float = 1.0
    value: float = 0.0
    parent: Node | None = None
    ended: bool = False
    verdict: Verdict | None = None
    belief: float | None = None
    visits: int = 0
    onward: float = 0.0
    q: float = 0.0
    children: list[Node] = field(default_factory=list)
    truncated: bool = False

    @property
    def reward(self) -> float:
        """r(s, a): what the step adds to the value."""
        return self.value - self.parent.value if self.parent else self.value

    @property
    def path(self) -> list[Node]:
        """The steps from the first one to this."""
        steps: list[Node] = []
        node = self
        while node.parent is not None:
            steps.append(node)
            node = node.parent
        return steps[::-1]

    @property
    def depth(self) -> int:
        """Number of steps up to this; 0 for the root."""
        return len(self.path)

    @property
    def answer(self) -> str:
        """The answer up to here."""
        return "".join(step.text for step in self.path)

    def grow(self, child: Node) -> Node:
        """Add a child; before it is visited its Q is its reward, on top of what is known of its parent."""
        child.parent = self
        child.q = self.onward + child.reward
        self.children.append(child)
        return child

    def __iter__(self) -> Iterator[Node]:
        """This node and all below it, parents first."""
        below: list[Node] = [self]
        while below:
            node = below.pop()
            yield node
            below += reversed(node.children)


def prior_of(logprobs: Sequence[float], length_penalty: float = 1.25) -> float:
    """p(a|s) = exp(sum of log-probabilities / n^penalty), for a step of n tokens; 1 for none."""
    return math.exp(math.fsum(logprobs) / len(logprobs) ** length_penalty) if logprobs else 1.0


def puct(node: Node, explore: float = 1.0) -> float:
    """Q(s, a) + c p(a|s) sqrt(N(s)) / (1 + N(s'))."""
    above = node.parent.visits if node.parent else node.visits
    return node.q + explore * node.prior * math.sqrt(above) / (1 + node.visits)


def select(root: Node, explore: float = 1.0) -> list[Node]:
    """The way from `root` to a node without children, by the highest PUCT; of equals the first."""
    way = [root]
    while way[-1].children:
        way.append(max(way[-1].children, key=lambda child: puct(child, explore)))
    return way


def backup(way: Sequence[Node], gamma: float = 1.0) -> None:
    """Count a visit of every node on the way, and bring V and Q up to date from its end to its beginning.

    V(s) = sum over children of max(1, N) Q / sum of max(1, N); Q(s, a) = r(s, a) + gamma V(s').
    """
    for node in reversed(way):
        node.visits += 1
        if node.children:
            weights = [child.visits or 1 for child in node.children]
            total = math.fsum([w * child.q for w, child in zip(weights, node.children, strict=True)])
            node.onward = total / sum(weights)
        node.q = node.reward + gamma * node.onward


def main_line(root: Node) -> list[Node]:
    """The search's own answer: from the root on, the child visited most; of equals that of the higher Q."""
    line = [root]
    while line[-1].children:
        line.append(max(line[-1].children, key=lambda child: (child.visits, child.q)))
    return line[1:]
