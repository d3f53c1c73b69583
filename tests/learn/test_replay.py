"""Replay and populations: counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftaught.errors import BadInput
from selftaught.learn import Population, mix_replay
from selftaught.models import Policy


def test_earlier_records_make_up_the_share_asked_for():
    new, earlier = [f"n{i}" for i in range(30)], [f"e{i}" for i in range(50)]
    for share, count in ((0.0, 0), (0.25, 10), (0.5, 30), (0.9, 50)):  # the last would be 270
        found = mix_replay(new, earlier, share, seed=1)
        assert found[:30] == new
        assert len(found) == 30 + count
        assert len(set(found)) == len(found)
        assert set(found[30:]) <= set(earlier)
    assert (
        mix_replay(new, earlier, 0.25, seed=1)
        == mix_replay(new, earlier, 0.25, seed=1)
        != mix_replay(new, earlier, 0.25, seed=2)
    )
    with pytest.raises(BadInput, match="share: got 1"):
        mix_replay(new, earlier, 1.0)


def policy(version: str) -> Policy:
    return Policy(version, Path(version))


def test_a_policy_plays_its_past_and_the_others_as_they_are():
    start = Population().with_version("a", policy("a1")).with_version("b", policy("b1"))
    later = start.with_version("a", policy("a2")).with_version("a", policy("a3"))
    assert start["a"].version == "a1"  # a population does not change
    assert later["a"].version == "a3"
    assert [p.version for p in later.opponents("a")] == ["a1", "a2", "b1"]
    assert [p.version for p in later.opponents("a", last=1, others=False)] == ["a2"]
    assert [p.version for p in later.opponents("b")] == ["a3"]
    drawn = {later.sample_opponent("a", seed).version for seed in range(40)}
    assert drawn == {"a1", "a2", "b1"}
    assert later.sample_opponent("a", 7) == later.sample_opponent("a", 7)
    alone = Population().with_version("a", policy("a1"))
    assert alone.sample_opponent("a", 0) == alone["a"]
    with pytest.raises(BadInput, match="no policy is called 'c'"):
        later["c"]
