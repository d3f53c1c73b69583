"""Monte-Carlo tree search over the steps of an answer: select, expand to the end, back up.

Trees of many problems grow side by side, each in a coroutine of its own, so that the engine's batch is full.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from selftaught.search.tree import Node, backup, puct, select

Expand = Callable[[Node], Awaitable[Sequence[Node]]]
"""From a node to the steps that may follow it; none where there are none."""


async def mcts(root: Node, expand: Expand, *, iterations: int = 64, explore: float = 1.0, gamma: float = 1.0) -> None:
    """Search from `root`, then from its most visited child, and so on to the end of an answer.

    Each iteration goes down to the end of an answer, expanding what it comes to, and is backed up the way it came
    (2405.00451, section 2.1). What was found below a child is kept when it becomes the root.

    Args:
        iterations: from every root.
        explore: c of PUCT.
        gamma: discount of what follows.
    """
    while not root.ended:
        for _ in range(iterations):
            await iterate(root, expand, explore, gamma)
        if root.children:
            root = max(root.children, key=lambda child: (child.visits, child.q))


async def iterate(root: Node, expand: Expand, explore: float, gamma: float) -> None:
    """Go once from `root` to the end of an answer, and back up."""
    way = select(root, explore)
    while not way[-1].ended:
        for child in await expand(way[-1]):
            way[-1].grow(child)
        if not way[-1].children:
            way[-1].ended = True
            break
        way.append(max(way[-1].children, key=lambda child: puct(child, explore)))
    backup(way, gamma)
