"""Reading ahead in a journal: what is found is what was written, few statements are needed, and memory is bounded."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from selftaught.journal import Journal, Usage
from selftaught.journal.read_ahead import KEPT, KEPT_CHARS, MOST


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with_effects = Journal(tmp_path)
    for number in range(6000):
        with_effects.put(f"key {number}", "sample" if number % 2 else "verify", {"n": number}, Usage(prompt=number))
    assert with_effects.get("key 7") is not None
    assert not with_effects._ahead._rows  # of the same session
    with_effects.close()
    opened = Journal(tmp_path)
    yield opened
    opened.close()


def statements(journal: Journal, keys: list[str]) -> int:
    """How many statements it takes to read effects; each is what was written."""
    count, run = 0, journal._run

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        return run(*args)

    journal._run = counted  # pyright: ignore[reportAttributeAccessIssue]
    journal._ahead._query = counted
    for key in keys:
        number = int(key.split()[1])
        assert journal.get(key) == ({"n": number}, Usage(prompt=number))
    return count


def test_a_rerun_reads_effects_many_at_a_time(journal: Journal) -> None:
    order = [f"key {number}" for number in range(6000)]
    assert statements(journal, order) < 2 * (6000 / MOST + 10)
    assert len(journal._ahead._rows) <= KEPT


def test_effects_in_another_order_are_read_one_by_one_at_little_cost(journal: Journal) -> None:
    order = [f"key {number}" for number in range(6000)]
    random.Random(0).shuffle(order)
    statements(journal, order)
    assert len(journal._ahead._rows) <= KEPT
    assert journal._ahead._size < MOST


def test_an_effect_that_is_replaced_is_read_anew(journal: Journal) -> None:
    assert journal.get("key 0") is not None
    assert journal.get("key 1") is not None  # and what follows it is known
    journal.replace("key 3", {"n": "another"}, Usage(prompt=9))
    assert journal.get("key 3") == ({"n": "another"}, Usage(prompt=9))
    assert journal.get("key 4") == ({"n": 4}, Usage(prompt=4))


def test_effects_that_are_not_there_are_none(journal: Journal) -> None:
    assert journal.get("key 6000") is None
    journal.put("key 6000", "sample", {"n": 6000})
    assert journal.get("key 6000") == ({"n": 6000}, Usage())


def test_long_effects_are_not_read_far_ahead(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(300):
        journal.put(f"key {number}", "sample", "x" * 200_000)
    journal.close()
    journal = Journal(tmp_path)
    for number in range(300):
        assert journal.get(f"key {number}") is not None
        assert journal._ahead._chars == sum(len(row[0]) for row in journal._ahead._rows.values()) <= KEPT_CHARS
    assert len(journal._ahead._rows) < 100
    journal.close()
