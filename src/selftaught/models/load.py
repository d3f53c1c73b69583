"""Weights as a transformers module, for training and for architectures without a fused pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from selftaught.models.policy import Policy

if TYPE_CHECKING:
    import torch


def load_model(policy: Policy, dtype: torch.dtype) -> Any:
    """The `transformers` model of a policy with every adapter of its lineage merged in.

    Only safetensors are read; code from the model's repository is never run. Adapters are merged in
    float32 before the cast to `dtype`: a small change would be lost in bfloat16 arithmetic.

    Raises:
        OSError, ValueError: the weights or the configuration cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    if not policy.adapter or policy.base is None:
        return AutoModelForCausalLM.from_pretrained(
            str(policy.path), dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(load_model(policy.base, torch.float32), str(policy.path))
    return adapted.merge_and_unload().to(dtype)  # pyright: ignore[reportCallIssue]
