"""Monte-Carlo tree search over the steps of an answer: select, expand to the end of the answer, back up.

Each tree is searched in a coroutine of its own, so that trees of many problems fill the engine's batch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from selftaught.search.tree import Decision, Node, backup, decide, select, select_child

Expand = Callable[[Node], Awaitable[Sequence[Node]]]
"""Maps a node to the steps that may follow it; an empty sequence where there are none."""


async def mcts(
    root: Node, expand: Expand, *, iterations: int = 64, c_puct: float = 1.0, gamma: float = 1.0, first_factor: int = 4,
    diversity: bool = True,
) -> list[Decision]:  # fmt: skip
    """Search from `root`, then from the child that `decide` chooses, and so on down to the end of an answer.

    Each iteration descends to the end of an answer, expands the nodes it meets, and backs up the path it took
    (2405.00451, section 2.1). Statistics below a child are kept when it becomes the root.

    Args:
        iterations: run from each root.
        c_puct: exploration constant of PUCT.
        gamma: discount of later rewards.
        first_factor: multiplies the iterations from the first root.
        diversity: see `decide`.

    Returns:
        The choice of each next root; their `chosen` nodes are the answer that the search settles on.
    """
    decisions: list[Decision] = []
    while not root.ended:
        for _ in range(iterations if decisions else iterations * first_factor):
            await run_iteration(root, expand, c_puct, gamma)
        if root.children:
            decisions.append(decide(root, diversity))
            root = decisions[-1].chosen
    return decisions


async def run_iteration(root: Node, expand: Expand, c_puct: float, gamma: float) -> None:
    """Descend once from `root` to the end of an answer, and back up.

    An iteration counts two visits of its root, as in the authors' code, so that PUCT explores its children more.
    """
    root.visits += 1
    path = select(root, c_puct)
    while not path[-1].ended:
        for child in await expand(path[-1]):
            path[-1].add_child(child)
        if not path[-1].children:
            path[-1].ended = True
            break
        path.append(select_child(path[-1], c_puct))
    backup(path, gamma)
