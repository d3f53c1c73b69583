"""Why a training runs on a slower code path, for the user."""

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
}  # endings of class names
FUSED_FAMILIES = {kind: tuple(CLASS_SUFFIXES) for kind in ("llama", "mistral", "qwen2")} | {
    "qwen3": ("norm", "gated layer")
}
"""Model types with fused forms (see `kernels.fused`), and of which layers."""


def slow_path_reason(model: Any) -> str:
    """Which layers of a large Llama-like model run as in transformers although a faster form exists, and why.

    Returns:
        One line; empty if there are none, and for small models and other families.
    """
    parts = FUSED_FAMILIES.get(model.config.get_text_config().model_type, ())
    if not parts or not is_large(model):
        return ""
    config_texts: dict[int, str] = {}
    reasons = []
    if not can_pack(model):
        seen = sliding_window(model)
        reasons.append(f"rows are padded ({f'a window of {seen} tokens' if seen else 'packed, its logits differ'})")
        parts = tuple(part for part in parts if part != "attention")  # which is fused for packed rows alone
    if next(model.parameters()).device.type != "cpu":
        parts = tuple(part for part in parts if part != "attention")
    for part, fuse in FUSED_FORMS:
        if part.name in parts:
            found = [m for m in model.modules() if type(m).__name__.endswith(CLASS_SUFFIXES[part.name])]
            odd = [f"{type(m).__name__}: {why}" for m in found if (why := why_not_fused(m, part, fuse, config_texts))]
            if odd or not found:
                reasons.append(
                    f"{part.name} of transformers {version('transformers')} ({(odd or ['none is known'])[0]})"
                )
    return f"training is slower than it could be: {'; '.join(reasons)}" if reasons else ""
