"""Which device and number format to compute with."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING

from selftaught.errors import BadInput, nearest

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "bfloat16", "float16")


def pick_device(name: str) -> str:
    """ "auto" as CUDA where there is one, else the CPU; any other name as it is.

    Raises:
        BadInput: torch knows no such device, or this machine has none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # each backend has its own way to say no
        known = ("auto", "cpu", "cuda", "mps")
        kind = name.partition(":")[0]
        fix = "use auto or cpu" if kind in known else nearest(kind, known)
        reason = shorten(str(error), 90, placeholder=" ...")
        raise BadInput(f"no device {name!r} here ({reason})", where="--device", fix=fix) from None
    return name


def pick_dtype(name: str, device: str) -> torch.dtype:
    """ "auto" as bfloat16 where the device multiplies it natively, else float32; or the dtype of that name."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    native = device != "cpu" or torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    return torch.bfloat16 if native else torch.float32
