"""Which device and number format to compute with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "bfloat16", "float16")


def pick_device(name: str) -> str:
    """ "auto" as CUDA where there is one, else the CPU; any other name as it is."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def pick_dtype(name: str, device: str) -> torch.dtype:
    """ "auto" as bfloat16 where the device multiplies it natively, else float32; or the dtype of that name."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    native = device != "cpu" or torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    return torch.bfloat16 if native else torch.float32
