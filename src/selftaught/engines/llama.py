"""The fused forward pass of the Llama family (Llama, SmolLM, Mistral, Qwen2, Qwen3), read straight from safetensors.

The same arithmetic as the models in `transformers`, with query/key/value and gate/up projections joined
into one matrix product each, and without importing their modelling code (2 s of start-up).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.engines.rows import Rows, step_mask

FAMILY = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    mlp_norm: Tensor
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


def fits(config: Mapping[str, Any]) -> bool:
    """Whether this configuration is one that the fused pass computes exactly.

    What a configuration leaves to a default of its model type makes it unfit, but for Llama's own.
    """
    kind, rope = config.get("model_type"), _rope(config)
    stated = () if kind == "llama" else ("rms_norm_eps", "max_position_embeddings", "num_key_value_heads")
    stated += ("head_dim",) if kind == "qwen3" else ()
    windowed = config.get("use_sliding_window") or (kind == "mistral" and config.get("sliding_window"))
    return (
        kind in FAMILY
        and all(name in config for name in stated)
        and (kind == "llama" or "rope_theta" in rope)
        and config.get("hidden_act", "silu") == "silu"
        and rope.get("rope_type", rope.get("type", "default")) == "default"
        and (rope.get("partial_rotary_factor") or 1) == 1
        and not config.get("quantization_config")
        and not windowed
        and all(layer == "full_attention" for layer in config.get("layer_types") or ())
    )


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary settings, wherever this generation of configurations keeps them."""
    old = {k: config[k] for k in ("rope_theta", "partial_rotary_factor") if config.get(k) is not None}
    return old | (config.get("rope_parameters") or config.get("rope_scaling") or {})


class LlamaDecoder:
    """A decoder (see `engines.decoder`) over a state dict of a Llama-like model.

    Args:
        config: the model's `config.json`, one that `fits`.
        weights: its state dict; tensors are cast to `dtype` and fused, so it can be dropped afterwards.

    Raises:
        KeyError: a weight is missing.
        ValueError: the weights have other sizes than the configuration says.
    """

    def __init__(
        self, config: Mapping[str, Any], weights: Mapping[str, Tensor], dtype: torch.dtype, device: str
    ) -> None:
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.width = config["hidden_size"]
        self.head_dim = config.get("head_dim") or self.width // self.heads
        self.max_context = config.get("max_position_embeddings", 2048)
        self.eps = config.get("rms_norm_eps", 1e-6)
        self.dtype, self.device = dtype, device
        self._weights: Mapping[str, Tensor] = weights
        self.embedding = self._take("model.embed_tokens.weight")
        if self.embedding.shape != (config["vocab_size"], self.width):
            raise ValueError(f"embeddings of {list(self.embedding.shape)} do not match the configuration")
        tied = config.get("tie_word_embeddings") or "lm_head.weight" not in weights
        self.head = self.embedding if tied else self._take("lm_head.weight")
        self.norm = self._take("model.norm.weight")
        self.layers = [self._layer(f"model.layers.{i}.") for i in range(config["num_hidden_layers"])]
        self._weights = {}
        theta = _rope(config).get("rope_theta", 10000.0)
        self._inverse = 1.0 / theta ** (torch.arange(0, self.head_dim, 2, device=device).float() / self.head_dim)
        self._angles(256)

    def _take(self, *names: str) -> Tensor:
        parts = [self._weights[n].to(self.device, self.dtype) for n in names]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous()

    def _maybe(self, *names: str) -> Tensor | None:
        return self._take(*names) if names[0] in self._weights else None

    def _layer(self, at: str) -> _Layer:
        qkv = [f"{at}self_attn.{n}_proj" for n in "qkv"]
        gate_up = [f"{at}mlp.gate_proj", f"{at}mlp.up_proj"]
        return _Layer(
            attention_norm=self._take(f"{at}input_layernorm.weight"),
            qkv=self._take(*(f"{n}.weight" for n in qkv)),
            qkv_bias=self._maybe(*(f"{n}.bias" for n in qkv)),
            q_norm=self._maybe(f"{at}self_attn.q_norm.weight"),
            k_norm=self._maybe(f"{at}self_attn.k_norm.weight"),
            out=self._take(f"{at}self_attn.o_proj.weight"),
            out_bias=self._maybe(f"{at}self_attn.o_proj.bias"),
            mlp_norm=self._take(f"{at}post_attention_layernorm.weight"),
            gate_up=self._take(*(f"{n}.weight" for n in gate_up)),
            gate_up_bias=self._maybe(*(f"{n}.bias" for n in gate_up)),
            down=self._take(f"{at}mlp.down_proj.weight"),
            down_bias=self._maybe(f"{at}mlp.down_proj.bias"),
        )

    def _angles(self, length: int) -> None:
        """Tables of cos and (signed) sin up to `length`; the sign folds rotate_half's negation in."""
        angles = torch.outer(torch.arange(length, device=self.device).float(), self._inverse)
        sine = angles.sin()
        self._cos = torch.cat([angles.cos()] * 2, -1).to(self.dtype)
        self._sin = torch.cat([-sine, sine], -1).to(self.dtype)

    def rows(self) -> Rows:
        """An empty cache."""
        return Rows(len(self.layers), self.kv_heads, self.head_dim, self.dtype, self.device)

    def forward(self, ids: Tensor, positions: Tensor, cache: Rows, length: int, wanted: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        if length > self._cos.shape[0]:
            self._angles(max(length, self._cos.shape[0] * 2))
        rows = torch.arange(ids.shape[0], device=self.device)[:, None]
        mask = step_mask(positions, length, self.dtype)
        cos, sin = self._cos[positions][:, :, None], self._sin[positions][:, :, None]
        x = self.embedding[ids]
        for i, layer in enumerate(self.layers):
            x = x + self._attend(layer, i, self._rms(x, layer.attention_norm), cos, sin, positions, cache, length, mask)
            gate, up = F.linear(self._rms(x, layer.mlp_norm), layer.gate_up, layer.gate_up_bias).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer.down, layer.down_bias)
        return F.linear(self._rms(x[rows, wanted], self.norm), self.head).float()

    def _rms(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.eps)

    def _attend(
        self, layer: _Layer, index: int, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, cache: Rows,
        length: int, mask: Tensor,
    ) -> Tensor:  # fmt: skip
        rows, steps, _ = x.shape
        joined = F.linear(x, layer.qkv, layer.qkv_bias).view(rows, steps, -1, self.head_dim)
        turned, value = joined[:, :, : self.heads + self.kv_heads], joined[:, :, self.heads + self.kv_heads :]
        if layer.q_norm is not None and layer.k_norm is not None:
            query, key = turned.split((self.heads, self.kv_heads), 2)
            turned = torch.cat((self._rms(query, layer.q_norm), self._rms(key, layer.k_norm)), 2)
        turned = (turned * cos + torch.roll(turned, self.head_dim // 2, -1) * sin).transpose(1, 2)
        query, key = turned[:, : self.heads], turned[:, self.heads :]
        cache.write(index, key, value.transpose(1, 2), positions)
        keys, values = cache.view(index, rows, length)
        group = self.heads // self.kv_heads
        if steps == 1:  # the query heads that share a key head stand in for steps: no key is repeated
            query = query.reshape(rows, self.kv_heads, group, self.head_dim)
            if rows <= 32:
                mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            else:  # on wide batches two plain products beat the fused kernel, which is built for long queries
                scores = torch.matmul(query, keys.transpose(-1, -2)) * self.head_dim**-0.5 + mask
                mixed = torch.matmul(torch.softmax(scores, -1), values)
            mixed = mixed.reshape(rows, 1, self.heads * self.head_dim)
        else:
            keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
            mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            mixed = mixed.transpose(1, 2).reshape(rows, steps, self.heads * self.head_dim)
        return F.linear(mixed, layer.out, layer.out_bias)
