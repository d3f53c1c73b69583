"""Memory is given back to the operating system."""

from __future__ import annotations

import sys

import psutil
import pytest
import torch

from selftaught.memory import give_back


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_freed_pieces_leave_the_process() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    pieces = [torch.zeros(16_000) for _ in range(4_000)]  # 64 kB each: below the size that malloc maps on its own
    held = process.memory_info().rss - before
    assert held > 200e6
    keep = pieces[-1]  # the last piece pins the top of the heap, as a live tensor does in a real run
    del pieces
    give_back()
    assert process.memory_info().rss - before < held / 4
    assert keep.sum() == 0
