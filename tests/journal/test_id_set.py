"""The set of ids against a plain one, and the memory that a run holds of its attempts."""

from __future__ import annotations

import gc
import random
import tracemalloc
from pathlib import Path

import pytest

from selftaught.journal import id_set
from selftaught.journal.id_set import IdSet
from selftaught.records import content_hash
from selftaught.testing import make_run, make_task


@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_set(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_set, "RECENT", 7)
    luck, plain, found = random.Random(seed), set[str](), IdSet()
    for _ in range(2000):
        one = content_hash(luck.randrange(900)) if luck.random() < 0.9 else f"name {luck.randrange(50)}"
        assert (one in found) == (one in plain)
        assert found.add(one) == (one not in plain)
        plain.add(one)
        assert len(found) == len(plain)
    some = {content_hash(number) for number in range(0, 2000, 3)}
    assert found.count(some) == len(some & plain)
    assert IdSet(plain).count(plain) == len(plain)


def test_hashes_take_eight_bytes_each() -> None:
    IdSet(map(str, range(id_set.RECENT)))  # imports what it needs
    gc.collect()
    tracemalloc.start()
    found = IdSet(map(str, range(9 * id_set.RECENT)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / len(found) < 12


def test_a_run_holds_at_most_300_bytes_of_an_attempt_whose_round_is_over(tmp_path: Path) -> None:
    samples, size = 4, 800
    with make_run(tmp_path, task=make_task(train=size, dev=1, test=1)) as run:
        for number in run.rounds(3):
            run.attempt(run.base, run.task.train, samples=samples, temperature=0.5 + 0.1 * number)
            if number == 1:
                gc.collect()
                tracemalloc.start()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert held / (2 * samples * size) < 300
