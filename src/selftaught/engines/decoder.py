"""What the local engine needs of a model: a forward pass over cache rows, for any architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from selftaught.engines import llama
from selftaught.engines.base import EngineError
from selftaught.engines.rows import Rows, step_mask
from selftaught.models.policy import Policy


class Decoder(Protocol):
    """A model that reads and writes cache rows."""

    vocab: int
    max_context: int
    device: str

    def rows(self) -> Rows:
        """An empty cache."""
        ...

    def forward(self, ids: Tensor, positions: Tensor, cache: Rows, length: int, last: Tensor | None) -> Tensor:
        """Float32 logits `[rows, vocab]` at step `last` of each row, or `[rows, steps, vocab]` when it is None."""
        ...


class TransformersDecoder:
    """Any causal language model of `transformers`, as it is, through its cache and attention interfaces."""

    def __init__(self, model: Any, device: str) -> None:
        config = model.config.get_text_config()
        self.model, self.device = model.to(device).eval(), device
        self.vocab = config.vocab_size
        window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        self.max_context = min(getattr(config, "max_position_embeddings", None) or 2048, window or 1 << 30)
        heads = config.num_attention_heads
        self._shape = (
            config.num_hidden_layers,
            getattr(config, "num_key_value_heads", None) or heads,
            getattr(config, "head_dim", None) or config.hidden_size // heads,
        )

    def rows(self) -> Rows:
        """An empty cache."""
        layers, heads, head_dim = self._shape
        return Rows(layers, heads, head_dim, self.model.dtype, self.device)

    def forward(self, ids: Tensor, positions: Tensor, cache: Rows, length: int, last: Tensor | None) -> Tensor:
        """See `Decoder.forward`."""
        logits = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=step_mask(positions, length, self.model.dtype),
            past_key_values=_bridge(cache, positions, length),
            use_cache=True,
        ).logits
        if last is not None:
            logits = logits[torch.arange(ids.shape[0], device=logits.device), last]
        return logits.float()


def _bridge(cache: Rows, positions: Tensor, length: int) -> Any:
    """`cache` behind the cache interface of transformers: its update writes in place and returns views."""
    from transformers import Cache

    class Bridge(Cache):
        def __init__(self) -> None:
            super().__init__(layers=[])

        def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
            cache.write(layer_idx, key_states, value_states, positions)
            return cache.view(layer_idx, key_states.shape[0], length)

        def get_seq_length(self, layer_idx: int = 0) -> int:
            return length - positions.shape[1]

    return Bridge()


def state_dict(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors files, memory-mapped."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def load_decoder(policy: Policy, dtype: torch.dtype, device: str, *, fused: bool = True) -> Decoder:
    """The decoder of a policy: fused where the architecture allows, else the transformers model itself.

    Raises:
        EngineError: the weights cannot be loaded.
    """
    config = json.loads((policy.weights / "config.json").read_text("utf-8"))
    try:
        if fused and not policy.adapter and llama.fits(config):
            return llama.LlamaDecoder(config, state_dict(policy.path), dtype, device)
        from selftaught.models.load import load_model

        model = load_model(policy, dtype)
        if fused and llama.fits(config):
            return llama.LlamaDecoder(config, model.state_dict(), dtype, device)
        return TransformersDecoder(model, device)
    except (OSError, KeyError, ValueError) as error:
        raise EngineError(f"cannot load policy {policy.version} from {policy.path}: {error}") from error
