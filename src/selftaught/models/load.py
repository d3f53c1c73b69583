"""Weights as a transformers module, for training and for architectures without a fused pass."""

from __future__ import annotations

from typing import Any

from selftaught.models.policy import Policy


def load_model(policy: Policy, dtype: Any) -> Any:
    """The `transformers` model of a policy with every adapter of its lineage merged in.

    Only safetensors are read; code from the model's repository is never run.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    if not policy.adapter or policy.base is None:
        return AutoModelForCausalLM.from_pretrained(
            str(policy.path), dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    from peft import PeftModel

    return PeftModel.from_pretrained(load_model(policy.base, dtype), str(policy.path)).merge_and_unload()  # pyright: ignore[reportCallIssue]
