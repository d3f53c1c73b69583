"""The tree of what is known, against a plain dictionary of prefixes."""

from __future__ import annotations

import random

import pytest
import torch

from selftaught.engines.local.radix_cache import RadixCache, common_prefix_length


def span(ids: tuple[int, ...], start: int = 0) -> torch.Tensor:
    """Keys and values that tell which prefix they belong to: `[layers, 2, heads, tokens, head_dim]`."""
    values = [float(hash(ids[: i + 1]) % 10007) for i in range(start, len(ids))]
    return torch.tensor(values).view(1, 1, 1, -1, 1).expand(2, 2, 1, -1, 1).clone()


def test_what_is_found_is_the_longest_beginning_ever_added() -> None:
    rng, known, added = random.Random(0), RadixCache(10**6), set()
    for _ in range(300):
        ids = tuple(rng.randrange(3) for _ in range(rng.randrange(1, 12)))
        best = max((n for n in range(len(ids) + 1) if ids[:n] in added or n == 0), default=0)
        length, spans = known.match(ids)
        assert length == best
        if length:
            assert torch.equal(torch.cat(spans, 3), span(ids[:length]))
        known.insert(ids, length, span(ids, length))
        added |= {ids[:n] for n in range(1, len(ids) + 1)}
    assert known.tokens == len(added)  # every token of every beginning once


def test_the_least_recently_used_leaves_go_first_and_the_limit_holds() -> None:
    known = RadixCache(100)
    stem = tuple(range(20))
    for i in range(12):
        ids = (*stem, *([100 + i] * 10))
        known.insert(ids, 0, span(ids))
        known.match((*stem, *([100] * 10)))  # the first one stays in use
        assert known.tokens <= 100
    assert known.match((*stem, *([100] * 10)))[0] == 30
    assert known.match((*stem, *([111] * 10)))[0] == 30
    assert known.match((*stem, *([101] * 10)))[0] == 20
    known.clear()
    assert known.match(stem) == (0, [])


def test_what_is_too_long_or_lacks_its_beginning_is_not_added() -> None:
    known = RadixCache(10)
    long = tuple(range(11))
    known.insert(long, 0, span(long))
    known.insert((1, 2, 3, 4), 2, span((1, 2, 3, 4), 2))
    assert known.tokens == 0


@pytest.mark.parametrize(("one", "other", "shared"), [((), (1,), 0), ((1, 2), (1, 2), 2), ((1, 2, 3), (1, 3), 1)])
def test_common(one: tuple[int, ...], other: tuple[int, ...], shared: int) -> None:
    assert common_prefix_length(one, other) == common_prefix_length(other, one) == shared
