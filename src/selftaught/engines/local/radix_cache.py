"""Cache of computed keys and values by their tokens, in a radix tree.

Sequences share their common prefixes (RadixAttention, arXiv:2312.07104): prompts with one system message, the
answers to one prompt, the nodes of a search tree, the turns of a dialogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import torch
from torch import Tensor

MIN_SHARED_TOKENS = 32  # shorter common prefixes are not computed or stored separately


class _Node:
    """A run of tokens with their keys and values `[layers, 2, heads, tokens, head_dim]`."""

    __slots__ = ("children", "ids", "kv", "last_used", "parent")

    def __init__(self, parent: _Node | None, ids: tuple[int, ...], span: Tensor, used: int) -> None:
        self.parent, self.ids, self.kv, self.last_used = parent, ids, span, used
        self.children: dict[int, _Node] = {}


class RadixCache:
    """A radix tree of token ids with the keys and values of each token; evicts the least recently used leaves.

    Readers copy what they read, so any node may be evicted at any time.

    Args:
        max_tokens: capacity.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens, self._clock = max_tokens, count(1)
        self.tokens = 0
        self.clear()

    def clear(self) -> None:
        """Drop everything."""
        self._root = _Node(None, (), torch.empty(0), 0)
        self.tokens = 0

    def match(self, ids: Sequence[int]) -> tuple[int, list[Tensor]]:
        """How many of the first tokens of `ids` are cached, and their keys and values in order."""
        length, spans, now = 0, [], next(self._clock)
        for node, shared in self._path(ids):
            node.last_used = now
            spans.append(node.kv if shared == len(node.ids) else node.kv[..., :shared, :])
            length += shared
        return length, spans

    def insert(self, ids: Sequence[int], start: int, kv: Tensor) -> None:
        """Store `ids` with their keys and values from position `start` on; those before must still be cached."""
        if len(ids) > self._max_tokens:
            return
        length, node, now = 0, self._root, next(self._clock)
        for found, shared in self._path(ids):
            node = found if shared == len(found.ids) else self._split(found, shared)
            node.last_used = now
            length += shared
        if start <= length < len(ids):
            rest = tuple(ids[length:])
            node.children[rest[0]] = _Node(node, rest, kv[..., length - start :, :].clone(), now)
            self.tokens += len(rest)
            if self.tokens > self._max_tokens:
                self._evict()

    def _path(self, ids: Sequence[int]) -> Iterator[tuple[_Node, int]]:
        """The nodes on the path of `ids`, and how many tokens it shares with each."""
        at, node = 0, self._root
        while at < len(ids) and (child := node.children.get(ids[at])):
            shared = common_prefix_length(child.ids, ids[at : at + len(child.ids)])
            ends_within = shared < len(child.ids)  # before the yield, as the caller may split the node
            yield child, shared
            if ends_within:
                return
            at, node = at + shared, child

    def _split(self, node: _Node, at: int) -> _Node:
        """Split a node in two, and return the upper half."""
        assert node.parent is not None
        upper = _Node(node.parent, node.ids[:at], node.kv[..., :at, :].clone(), node.last_used)
        node.parent.children[upper.ids[0]] = upper
        node.ids, node.kv, node.parent = node.ids[at:], node.kv[..., at:, :].clone(), upper
        upper.children[node.ids[0]] = node
        return upper

    def _evict(self) -> None:
        """Drop the least recently used leaves until 1/8 of the capacity is free, so that evictions are rare."""
        while self.tokens > self._max_tokens * 7 // 8:
            for leaf in sorted(self._leaves(), key=lambda node: node.last_used):
                if self.tokens <= self._max_tokens * 7 // 8:
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


def common_prefix_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix of two sequences."""
    if one == other:
        return len(one)
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
