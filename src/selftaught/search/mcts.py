"""Monte-Carlo tree search over the steps of an answer: select, expand to the end of the answer, back up.

Each tree is searched in a coroutine of its own, so that trees of many problems fill the engine's batch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from selftaught.search.tree import Node, backup, puct, select

Expand = Callable[[Node], Awaitable[Sequence[Node]]]
"""Maps a node to the steps that may follow it; an empty sequence where there are none."""


async def mcts(root: Node, expand: Expand, *, iterations: int = 64, c_puct: float = 1.0, gamma: float = 1.0) -> None:
    """Search from `root`, then from its most visited child, and so on down to the end of an answer.

    Each iteration descends to the end of an answer, expands the nodes it meets, and backs up the path it took
    (2405.00451, section 2.1). Statistics below a child are kept when it becomes the root.

    Args:
        iterations: run from each root.
        c_puct: exploration constant of PUCT.
        gamma: discount of later rewards.
    """
    while not root.ended:
        for _ in range(iterations):
            await run_iteration(root, expand, c_puct, gamma)
        if root.children:
            root = max(root.children, key=lambda child: (child.visits, child.q))


async def run_iteration(root: Node, expand: Expand, c_puct: float, gamma: float) -> None:
    """Descend once from `root` to the end of an answer, and back up."""
    path = select(root, c_puct)
    while not path[-1].ended:
        for child in await expand(path[-1]):
            path[-1].add_child(child)
        if not path[-1].children:
            path[-1].ended = True
            break
        path.append(max(path[-1].children, key=lambda child: puct(child, c_puct)))
    backup(path, gamma)
