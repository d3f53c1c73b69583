"""Choose the device and the number format."""

from __future__ import annotations

import time
from functools import cache
from textwrap import shorten
from typing import TYPE_CHECKING

from selftaught.errors import BadInput, suggest

if TYPE_CHECKING:
    import torch

MIN_GAIN = 1.2  # speedup from which on bfloat16 is preferred to float32
DTYPES = ("auto", "float32", "bfloat16", "float16")


def pick_device(name: str) -> str:
    """ "auto" as CUDA if there is a GPU, else CPU; any other name unchanged.

    Raises:
        BadInput: torch does not know the device, or this machine has none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # depends on the backend
        known = ("auto", "cpu", "cuda", "mps")
        kind = name.partition(":")[0]
        fix = "use auto or cpu" if kind in known else suggest(kind, known)
        reason = shorten(str(error), 90, placeholder=" ...")
        raise BadInput(f"no device {name!r} here ({reason})", where="--device", fix=fix) from None
    return name


def pick_dtype(name: str, device: str) -> torch.dtype:
    """ "auto" as bfloat16 if the device multiplies it faster, else float32; or the dtype of that name."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    return torch.bfloat16 if device != "cpu" or bfloat16_gain() > MIN_GAIN else torch.float32


@cache
def bfloat16_gain() -> float:
    """How many times faster this processor multiplies bfloat16 than float32, measured once, in some 10 ms."""
    import torch
    import torch.nn.functional as F

    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    pairs = {dtype: (torch.ones(64, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)) for dtype in best}
    for _ in range(8):  # alternating, best of each, so that other load matters little
        for dtype, (x, weight) in pairs.items():
            started = time.perf_counter()
            F.linear(x, weight)
            best[dtype] = min(best[dtype], time.perf_counter() - started)
    return best[torch.float32] / best[torch.bfloat16]
