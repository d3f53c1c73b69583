"""Which weights a policy needs in vLLM: a base, and possibly a LoRA adapter over it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from selftaught.errors import BadInput
from selftaught.models.policy import Policy, require_weights

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM can allocate
# Settings of an adapter that vLLM does not support; such adapters are merged into their base instead.
UNSUPPORTED_LORA_FIELDS = (
    "use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias", "layer_replication",
    "trainable_token_indices", "target_parameters", "use_qalora", "arrow_config", "corda_config", "eva_config",
)  # fmt: skip
IGNORED_CONFIG_FIELDS = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")


@dataclass(frozen=True, slots=True)
class RequiredWeights:
    """What must be loaded for a policy.

    Attributes:
        policy: the policy.
        base: the policy whose full weights are loaded; an adapter there is merged into its own base.
        lora_rank: of the adapter of `policy` that is applied to them; 0 for none.
    """

    policy: Policy
    base: Policy
    lora_rank: int = 0


def required_weights(policy: Policy, *, use_loras: bool = True) -> RequiredWeights:
    """What must be loaded for `policy`: its own weights, or its base's and an adapter over them.

    vLLM applies one plain LoRA adapter to full weights; other kinds, and adapters over adapters, are merged.

    Args:
        use_loras: whether adapters may be applied without merging.

    Raises:
        BadInput: the weights are behind an endpoint, the policy has notes, or the adapter's configuration cannot be
            read.
    """
    require_weights(policy)
    _ = policy.weights  # raises if they are behind an endpoint
    if not policy.adapter or policy.base is None:
        return RequiredWeights(policy, policy)
    rank = _lora_rank(policy.path) if use_loras and not policy.base.adapter else 0
    return RequiredWeights(policy, policy.base, rank) if rank else RequiredWeights(policy, policy)


def _lora_rank(folder: Path) -> int:
    """The rank of a plain LoRA adapter; 0 for one that must be merged."""
    file = folder / "adapter_config.json"
    try:
        config = json.loads(file.read_text("utf-8"))
        plain = config["peft_type"] == "LORA" and config.get("bias", "none") == "none"
        rank = int(config["r"]) if plain and not any(config.get(name) for name in UNSUPPORTED_LORA_FIELDS) else 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"cannot read the adapter ({error})", where=str(file), fix="train or save it again") from None
    return rank if rank <= LORA_RANKS[-1] else 0


def allocated_rank(rank: int) -> int:
    """The smallest rank that vLLM can allocate for an adapter of rank `rank`; 0 for none."""
    return next((r for r in LORA_RANKS if r >= rank), 0) if rank else 0


def weight_layout(folder: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """What must be equal for weights to replace each other: configuration, and the shape of each tensor.

    Raises:
        Exception: of many kinds, if the files cannot be read.
    """
    from safetensors import safe_open

    from selftaught.models.load import read_config

    config = {name: value for name, value in read_config(folder).items() if name not in IGNORED_CONFIG_FIELDS}
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:  # pyright: ignore[reportPrivateImportUsage]
            shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    return config, shapes


def merged_weights(policy: Policy) -> TemporaryDirectory[str]:
    """A folder with the full weights of a policy whose adapters are merged into their base."""
    import torch

    from selftaught.models.load import load_model

    folder = TemporaryDirectory(prefix="selftaught-merged-")
    load_model(policy, torch.float32).save_pretrained(folder.name)
    return folder
