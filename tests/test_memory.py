"""Memory is given back to the operating system."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from selftaught.machine.malloc import hold_memory, release_memory, unhold_memory


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_freed_pieces_leave_the_process() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    pieces = [torch.zeros(16_000) for _ in range(4_000)]  # 64 kB each: below the size that malloc maps on its own
    held = process.memory_info().rss - before
    assert held > 200e6
    keep = pieces[-1]  # the last piece pins the top of the heap, as a live tensor does in a real run
    del pieces
    release_memory()
    assert process.memory_info().rss - before < held / 4
    assert keep.sum() == 0


HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # "always" makes few faults of many
FAULTS = """
import resource, torch
from selftaught.machine.malloc import hold_memory

def faults():
    "Pages that the kernel had to find for pieces of 64 MB, in such pieces."
    for _ in range(4):  # what the process has not yet, it has then
        torch.empty(20_000_000).fill_(1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(16_000_000).fill_(1.0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 64e6

print(faults())
hold_memory()
print(faults())"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own")
def test_what_is_kept_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, kept = map(float, done.stdout.split())
    assert before > (0 if HUGE.exists() and "[always]" in HUGE.read_text() else 16)
    assert kept < 6  # a piece of another size before may leave a hole too small


def test_what_was_kept_is_returned() -> None:
    process = psutil.Process()
    hold_memory()
    pieces = [torch.ones(16_000_000) for _ in range(4)]
    held = process.memory_info().rss
    del pieces
    unhold_memory()
    assert process.memory_info().rss < held - 200e6
