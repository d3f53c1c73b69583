"""Check that the fused forward pass computes what transformers computes, once for each model folder."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from selftaught.engines.local import llama
from selftaught.engines.local.kv_cache import BLOCK_SIZE
from selftaught.engines.local.passes import PrefillPass
from selftaught.errors import BadInput
from selftaught.models.cache import cache_dir, write_cache
from selftaught.models.load import load_model, read_config, state_dict, weight_files
from selftaught.models.policy import Policy
from selftaught.records import content_hash

SMALL_WEIGHTS = 600 * 2**20  # bytes up to which a folder is compared before sampling; larger ones, before training
NUM_TOKENS = 16
TOLERANCE = {torch.float32: 1e-3}  # of the largest logit; for other formats:
LOW_PRECISION_TOLERANCE = 0.1


def check_before_sampling(policy: Policy) -> None:
    """Refuse a starting model that would be sampled and trained as two different models; large ones are skipped."""
    if _needs_check(policy) and sum(file.stat().st_size for file in weight_files(policy.path)) <= SMALL_WEIGHTS:
        check_before_training(policy, load_model(policy, torch.float32))


def check_before_training(policy: Policy, model: Any) -> None:
    """Refuse a starting model whose fused pass computes something else than `model` does.

    Checked once for the content of a folder and the versions of the libraries; the cache remembers it.

    Args:
        model: the weights of `policy` as `transformers` loads them.

    Raises:
        BadInput: the log-probabilities of a few tokens differ.
    """
    if not _needs_check(policy):
        return
    try:
        gap, slack = _max_difference(policy, model)
    except KeyError:  # the fused pass lacks a weight, and is not used
        return
    if not gap <= slack:
        raise BadInput(
            f"the engine and transformers read two different models from it (log-probabilities differ by {gap:.2g})",
            where=str(policy.path),
            fix="load it with transformers and save it again with save_pretrained",
        )
    write_cache(_stamp(policy), f"{gap:.2g}\n")


def _needs_check(policy: Policy) -> bool:
    """Whether the fused pass is used for the folder, and was not compared yet."""
    return policy.base is None and not _stamp(policy).is_file() and llama.is_supported(read_config(policy.path))


def _stamp(policy: Policy) -> Any:
    libraries = [version(name) for name in ("torch", "transformers", "selftaught")]
    return cache_dir() / "compared" / content_hash(policy.version, libraries)


def _max_difference(policy: Policy, model: Any) -> tuple[float, float]:
    """Largest difference of the log-probabilities of a few tokens, and its tolerance."""
    config = read_config(policy.path)
    device, dtype = str(model.device), model.dtype
    fused = llama.LlamaDecoder(config, state_dict(policy.path), dtype, device, live=True)
    ids = (torch.arange(NUM_TOKENS, device=device)[None] * 7919 + 3) % config["vocab_size"]
    rows = fused.new_cache()
    rows.resize(1, BLOCK_SIZE)
    with torch.no_grad():
        mine = fused.forward(ids, PrefillPass(rows, (0,), NUM_TOKENS), [(0, step) for step in range(NUM_TOKENS)])
        true = model(input_ids=ids, use_cache=False).logits[0]
    apart = (_logprobs(mine) - _logprobs(true)).abs()
    return float(apart.max()), TOLERANCE.get(dtype, LOW_PRECISION_TOLERANCE) * float(_logprobs(true).abs().max())


def _logprobs(logits: Tensor) -> Tensor:
    """Log-probabilities; NaN becomes 0, as both sides have the same ones."""
    return logits.float().log_softmax(-1).nan_to_num()
