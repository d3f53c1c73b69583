"""The filter of system calls, as a program that a small interpreter of BPF runs, and its numbers."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from selftaught.feedback.sandbox.seccomp import denied_calls, seccomp_filter

ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"),),
}


def decided(program: bytes, number: int, architecture: int, argument: int = 0) -> int:
    """What the filter returns for a call: classic BPF as the kernel documents it."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, argument, 0, 0, 0, 0, 0)
    steps = [struct.unpack_from("=HBBI", program, i) for i in range(0, len(program), 8)]
    at, value = 0, 0
    while True:
        code, yes, no, k = steps[at]
        if code == 0x06:
            return k
        if code == 0x20:
            value, taken = struct.unpack_from("<I", data, k)[0], None
        else:
            taken = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[code]
        at += 1 + (0 if taken is None else yes if taken else no)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_is_refused(machine: str) -> None:
    program, architecture = seccomp_filter(machine), ARCHITECTURE[machine]
    for name, number in denied_calls(machine).items():
        assert decided(program, number, architecture) == ERROR | errno.EPERM, name
    read, clone = {"x86_64": (0, 56), "aarch64": (63, 220)}[machine]
    assert decided(program, read, architecture) == ALLOW
    assert decided(program, clone, architecture, 17) == ERROR | errno.EPERM  # a process: SIGCHLD and no CLONE_THREAD
    assert decided(program, clone, architecture, 0x3D0F00) == ALLOW  # as the C library starts a thread
    assert decided(program, 435, architecture) == ERROR | errno.ENOSYS  # clone3
    assert decided(program, 425, architecture) == ERROR | errno.ENOSYS  # io_uring_setup
    assert decided(program, 9999, architecture) == ERROR | errno.ENOSYS
    assert decided(program, 439, architecture) == ALLOW  # faccessat2
    assert decided(program, read, ARCHITECTURE[{"x86_64": "aarch64", "aarch64": "x86_64"}[machine]]) == KILL
    assert decided(program, 0x40000000, architecture) == KILL  # x32


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_are_the_kernels(machine: str) -> None:
    found = [path for path in HEADERS[machine] if path.exists()]
    if not found:
        pytest.skip("no kernel headers here")
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", found[0].read_text()))
    known = {name: int(numbers[name]) for name in denied_calls(machine) if name in numbers}
    assert len(known) > 50
    assert known == {name: number for name, number in denied_calls(machine).items() if name in known}
