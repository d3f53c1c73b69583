"""Why a training is slower than it could be, in words for the user."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from selftaught.learn.forward import can_pack
from selftaught.learn.kernels.fused import FUSED_FORMS, is_large
from selftaught.learn.kernels.packing import sliding_window
from selftaught.learn.kernels.recognition import why_not_fused

CLASS_SUFFIXES = {
    "norm": "RMSNorm",
    "gated layer": "MLP",
    "attention": "Attention",
}  # by what the names of classes end with
FUSED_FAMILIES = {kind: tuple(CLASS_SUFFIXES) for kind in ("llama", "mistral", "qwen2")} | {
    "qwen3": ("norm", "gated layer")
}
"""Models that have fused forms (see `learn.fused`), and of what."""


def slow_path_reason(model: Any) -> str:
    """What of a large model of Llama's family is computed as transformers has it though a faster form exists, and why.

    Returns:
        A line; empty where nothing is, and for small models and other families.
    """
    parts = FUSED_FAMILIES.get(model.config.get_text_config().model_type, ())
    if not parts or not is_large(model):
        return ""
    told: dict[int, str] = {}
    whys = []
    if not can_pack(model):
        seen = sliding_window(model)
        whys.append(f"rows are padded ({f'a window of {seen} tokens' if seen else 'side by side its logits differ'})")
        parts = tuple(part for part in parts if part != "attention")  # which is fused for rows side by side
    if next(model.parameters()).device.type != "cpu":
        parts = tuple(part for part in parts if part != "attention")
    for part, fuse in FUSED_FORMS:
        if part.name in parts:
            found = [m for m in model.modules() if type(m).__name__.endswith(CLASS_SUFFIXES[part.name])]
            odd = [f"{type(m).__name__}: {why}" for m in found if (why := why_not_fused(m, part, fuse, told))]
            if odd or not found:
                whys.append(f"{part.name} of transformers {version('transformers')} ({(odd or ['none is known'])[0]})")
    return f"training is slower than it could be: {'; '.join(whys)}" if whys else ""
