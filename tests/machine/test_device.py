"""Devices, number formats and memory: what is there is used, and what is not is one line."""

from __future__ import annotations

import sys

import pytest

from selftaught.errors import BadInput
from selftaught.machine import malloc
from selftaught.machine.device import bfloat16_gain, pick_device, pick_dtype
from selftaught.machine.threads import use_passive_wait


def test_a_dtype_has_its_name_and_auto_is_what_is_faster() -> None:
    import torch

    assert [pick_dtype(name, "cpu") for name in ("float32", "bfloat16")] == [torch.float32, torch.bfloat16]
    assert pick_dtype("auto", "cuda") is torch.bfloat16
    gain = bfloat16_gain()
    assert gain > 0
    assert bfloat16_gain() == gain  # measured once
    assert pick_dtype("auto", "cpu") is (torch.bfloat16 if gain > 1.2 else torch.float32)


def test_a_device_of_this_machine_is_taken_as_named() -> None:
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda")


@pytest.mark.parametrize(("name", "fix"), [("cuda:99", "use auto or cpu"), ("cud", "cuda"), ("mpu", "mps")])
def test_a_device_that_is_not_there_is_one_line(name: str, fix: str) -> None:
    with pytest.raises(BadInput, match=f"--device: no device '{name}' here") as caught:
        pick_device(name)
    assert fix in caught.value.fix
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_goes_back_to_the_system_after_it_was_held() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[1]) * 4096

    malloc.hold_memory()
    try:
        blocks = [bytearray(b"x" * 60_000) for _ in range(400)]  # 24 MB, in blocks that glibc keeps
        full = resident()
        del blocks
    finally:
        malloc.unhold_memory()
    malloc.release_memory()
    assert resident() < full - 12_000_000


def test_passive_waiting_is_an_environment_variable_for_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("GOMP_SPINCOUNT", "300")
    use_passive_wait()
    assert os.environ["GOMP_SPINCOUNT"] == "0"
