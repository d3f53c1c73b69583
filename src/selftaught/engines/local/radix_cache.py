"""What has been computed already: keys and values by their tokens, in a radix tree.

Sequences that begin alike share that beginning (RadixAttention, arXiv:2312.07104): prompts under one header, the
answers to one prompt, the nodes of a search tree, the turns of a dialogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import torch
from torch import Tensor

STEM = 32  # fewest tokens worth holding, or reading, apart for the sequences that share them


class _Node:
    """A run of tokens and, of each, keys and values `[layers, 2, heads, tokens, head_dim]`."""

    __slots__ = ("children", "ids", "parent", "span", "used")

    def __init__(self, parent: _Node | None, ids: tuple[int, ...], span: Tensor, used: int) -> None:
        self.parent, self.ids, self.span, self.used = parent, ids, span, used
        self.children: dict[int, _Node] = {}


class Known:
    """A radix tree of token ids with the keys and values of each token; the least recently used leaves go first.

    What is read is copied by the reader, so any node may go at any time.

    Args:
        most: most tokens held.
    """

    def __init__(self, most: int) -> None:
        self._most, self._clock = most, count(1)
        self.tokens = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._root = _Node(None, (), torch.empty(0), 0)
        self.tokens = 0

    def find(self, ids: Sequence[int]) -> tuple[int, list[Tensor]]:
        """How many of the first tokens of `ids` are known, and their spans in order."""
        length, spans, now = 0, [], next(self._clock)
        for node, shared in self._path(ids):
            node.used = now
            spans.append(node.span if shared == len(node.ids) else node.span[..., :shared, :])
            length += shared
        return length, spans

    def add(self, ids: Sequence[int], start: int, span: Tensor) -> None:
        """Learn `ids` from their keys and values from position `start` on; those before must be known still."""
        if len(ids) > self._most:
            return
        length, node, now = 0, self._root, next(self._clock)
        for found, shared in self._path(ids):
            node = found if shared == len(found.ids) else self._split(found, shared)
            node.used = now
            length += shared
        if start <= length < len(ids):
            rest = tuple(ids[length:])
            node.children[rest[0]] = _Node(node, rest, span[..., length - start :, :].clone(), now)
            self.tokens += len(rest)
            if self.tokens > self._most:
                self._shed()

    def _path(self, ids: Sequence[int]) -> Iterator[tuple[_Node, int]]:
        """The nodes that `ids` goes through, and how many tokens it shares with each."""
        at, node = 0, self._root
        while at < len(ids) and (child := node.children.get(ids[at])):
            shared = common(child.ids, ids[at : at + len(child.ids)])
            ends_within = shared < len(child.ids)  # told now, as the reader may split the node
            yield child, shared
            if ends_within:
                return
            at, node = at + shared, child

    def _split(self, node: _Node, at: int) -> _Node:
        """Cut a node in two; the upper half is returned."""
        assert node.parent is not None
        upper = _Node(node.parent, node.ids[:at], node.span[..., :at, :].clone(), node.used)
        node.parent.children[upper.ids[0]] = upper
        node.ids, node.span, node.parent = node.ids[at:], node.span[..., at:, :].clone(), upper
        upper.children[node.ids[0]] = node
        return upper

    def _shed(self) -> None:
        """Drop the least recently used leaves, to some way under the limit so that it is not done at every turn."""
        while self.tokens > self._most * 7 // 8:
            for leaf in sorted(self._leaves(), key=lambda node: node.used):
                if self.tokens <= self._most * 7 // 8:
                    return
                assert leaf.parent is not None
                del leaf.parent.children[leaf.ids[0]]
                self.tokens -= len(leaf.ids)

    def _leaves(self) -> list[_Node]:
        leaves, todo = [], list(self._root.children.values())
        while todo:
            node = todo.pop()
            todo += node.children.values()
            if not node.children:
                leaves.append(node)
        return leaves


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    if one == other:
        return len(one)
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
