"""The fused forward pass of the Llama family (Llama, SmolLM, Mistral, Qwen2, Qwen3), read straight from safetensors.

The same arithmetic as the models in `transformers`, with the query, key and value projections joined into one
product and fused activations, and without importing their modeling code (2 s of start-up).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.engines.local.kv_cache import KVCache
from selftaught.engines.local.linear import ConcatLinear, Linear, PackedLinear, packing_works
from selftaught.engines.local.passes import ForwardPass
from selftaught.models.load import embedding_names

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Tensor
    qkv: Linear
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Linear
    mlp_norm: Tensor
    gate: Linear
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class _OptionalWeights:
    """Which of the weights that only some models of the family have are used.

    The configuration decides, as in transformers: others in the files are ignored, and missing ones are an error.
    """

    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    head_norms: bool


def _optional_weights(config: Mapping[str, Any]) -> _OptionalWeights:
    kind = config.get("model_type")
    attention = kind in ("llama", "qwen3") and bool(config.get("attention_bias"))
    mlp = kind == "llama" and bool(config.get("mlp_bias"))
    return _OptionalWeights(attention or kind == "qwen2", attention, mlp, kind == "qwen3")


def is_supported(config: Mapping[str, Any]) -> bool:
    """Whether the fused pass computes this configuration exactly."""
    return config.get("model_type") in MODEL_TYPES and not unsupported_reason(config)


def unsupported_reason(config: Mapping[str, Any]) -> str:
    """Why the fused pass does not support this configuration of a model of the family; empty if it does.

    A configuration that relies on defaults of its model type is not supported, except for Llama's.
    """
    kind, rope = config.get("model_type"), _rope(config)
    stated = () if kind == "llama" else ("rms_norm_eps", "max_position_embeddings", "num_key_value_heads")
    stated += {"qwen3": ("head_dim",), "mistral": ("sliding_window",)}.get(str(kind), ())
    if missing := [name for name in stated if name not in config]:
        return f"its configuration does not state {', '.join(missing)}"
    if kind != "llama" and "rope_theta" not in rope:
        return "its configuration does not state rope_theta"
    if (act := config.get("hidden_act", "silu")) != "silu":
        return f"its activation is {act}"
    if (turn := rope.get("rope_type", rope.get("type", "default"))) != "default":
        return f"its rotary positions are of type {turn}"
    if (rope.get("partial_rotary_factor") or 1) != 1:
        return "its heads are rotated in part"
    if config.get("quantization_config"):
        return "its weights are quantized"
    if _has_sliding_window(config) or any(layer != "full_attention" for layer in config.get("layer_types") or ()):
        return "its tokens see only a window of those before them"
    return ""


def _has_sliding_window(config: Mapping[str, Any]) -> bool:
    """Whether some layers have a window shorter than the context."""
    window = config.get("sliding_window") if config.get("model_type") == "mistral" else None
    return bool(config.get("use_sliding_window")) or (
        window is not None and window < config.get("max_position_embeddings", 0)
    )


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary settings, of older and newer configurations."""
    old = {k: config[k] for k in ("rope_theta", "partial_rotary_factor") if config.get(k) is not None}
    return old | (config.get("rope_parameters") or config.get("rope_scaling") or {})


class LlamaDecoder:
    """A `Decoder` over the state dict of a Llama-like model.

    Args:
        config: the model's `config.json`, which `is_supported`.
        weights: its state dict; tensors are cast to `dtype` and fused, so it can be deleted afterwards.
        live: use the tensors of `weights` in place instead; they must be of `dtype` and on `device`.

    Raises:
        KeyError: a weight is missing.
        ValueError: sizes of the weights do not match the configuration.
    """

    def __init__(
        self, config: Mapping[str, Any], weights: Mapping[str, Tensor], dtype: torch.dtype, device: str,
        *, live: bool = False,
    ) -> None:  # fmt: skip
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.width = config["hidden_size"]
        if self.heads < 1 or self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} attention heads cannot share {self.kv_heads} key heads")
        self.head_dim = config.get("head_dim") or self.width // self.heads
        self.max_context = config.get("max_position_embeddings", 2048)
        self.eps = config.get("rms_norm_eps", 1e-6)
        self._eps = torch.tensor(self.eps)
        self.dtype, self.device = dtype, device
        self._linear = PackedLinear if not live and packing_works(dtype, device) else Linear
        self._live, self.parameters = live, sum(weight.numel() for weight in weights.values())
        self._weights: Mapping[str, Tensor] = weights
        embedding, head = embedding_names(config, weights, "model.embed_tokens.weight", "lm_head.weight")
        self.embedding = self._load(embedding)
        if self.embedding.shape != (config["vocab_size"], self.width):
            raise ValueError(f"embeddings of {list(self.embedding.shape)} do not match the configuration")
        tied = weights[head].data_ptr() == weights[embedding].data_ptr()
        self.head = self._linear(self.embedding if tied else self._load(head))
        self.norm = self._load("model.norm.weight")
        self._optional = _optional_weights(config)
        self.layers = [self._layer(f"model.layers.{i}.") for i in range(config["num_hidden_layers"])]
        self._weights = {}
        theta = _rope(config).get("rope_theta", 10000.0)
        self._inverse_frequencies = 1.0 / theta ** (
            torch.arange(0, self.head_dim, 2, device=device).float() / self.head_dim
        )
        self._extend_rope_tables(256)

    def _load(self, *names: str) -> Tensor:
        parts = [self._weights[n].to(self.device, self.dtype) for n in names]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous()

    def _projection(self, *names: str, bias: bool) -> Linear:
        if self._live and len(names) > 1:
            return ConcatLinear([self._projection(name, bias=bias) for name in names])
        weight = self._load(*(f"{n}.weight" for n in names))
        return self._linear(weight, self._load(*(f"{n}.bias" for n in names)) if bias else None)

    def _layer(self, at: str) -> _Layer:
        has = self._optional
        return _Layer(
            attention_norm=self._load(f"{at}input_layernorm.weight"),
            qkv=self._projection(*(f"{at}self_attn.{n}_proj" for n in "qkv"), bias=has.qkv_bias),
            q_norm=self._load(f"{at}self_attn.q_norm.weight") if has.head_norms else None,
            k_norm=self._load(f"{at}self_attn.k_norm.weight") if has.head_norms else None,
            out=self._projection(f"{at}self_attn.o_proj", bias=has.out_bias),
            mlp_norm=self._load(f"{at}post_attention_layernorm.weight"),
            gate=self._projection(f"{at}mlp.gate_proj", bias=has.mlp_bias),
            up=self._projection(f"{at}mlp.up_proj", bias=has.mlp_bias),
            down=self._projection(f"{at}mlp.down_proj", bias=has.mlp_bias),
        )

    def _extend_rope_tables(self, length: int) -> None:
        """Tables of cos and (signed) sin up to `length`; the sign folds rotate_half's negation in."""
        angles = torch.outer(torch.arange(length, device=self.device).float(), self._inverse_frequencies)
        sine = angles.sin()
        self._cos = torch.cat([angles.cos()] * 2, -1).to(self.dtype)
        self._sin = torch.cat([-sine, sine], -1).to(self.dtype)

    def new_cache(self) -> KVCache:
        """An empty cache."""
        return KVCache(len(self.layers), self.kv_heads, self.head_dim, self.dtype, self.device)

    def forward(self, ids: Tensor, run: ForwardPass, wanted: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """See `Decoder.forward`."""
        last = self.hidden_states(ids, run, wanted)
        return self.head(last) if len(last) else last

    def hidden_states(self, ids: Tensor, run: ForwardPass, wanted: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """See `Decoder.hidden_states`."""
        longest = int(run.positions.max()) + 1
        if longest > self._cos.shape[0]:
            self._extend_rope_tables(max(longest, self._cos.shape[0] * 2))
        cos, sin = self._cos[run.positions][:, :, None], self._sin[run.positions][:, :, None]
        x = self.embedding[ids]
        for i, layer in enumerate(self.layers):
            query, key, value = self._qkv_heads(layer, self._norm(x, layer.attention_norm), cos, sin)
            x = layer.out.add(run.attend(i, query, key, value), x)
            within = self._norm(x, layer.mlp_norm)
            x = layer.down.add(layer.up.mul(within, layer.gate.silu(within)), x)
        last = x[:, 0] if wanted is None else x[[row for row, _ in wanted], [step for _, step in wanted]]
        return self._norm(last, self.norm) if len(last) else last

    def _qkv_heads(self, layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each `[rows, steps, heads, head_dim]`, the first two rotated by their positions."""
        joined = layer.qkv(x).unflatten(-1, (-1, self.head_dim))
        rotated, value = joined.split((self.heads + self.kv_heads, self.kv_heads), 2)
        if layer.q_norm is not None and layer.k_norm is not None:
            query, key = rotated.split((self.heads, self.kv_heads), 2)
            rotated = torch.cat((self._norm(query, layer.q_norm), self._norm(key, layer.k_norm)), 2)
        query, key = apply_rope(rotated, cos, sin).split((self.heads, self.kv_heads), 2)
        return query, key, value

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return F.rms_norm(x, (x.shape[-1],), weight, self.eps)
        return rms_norm(x, weight, self._eps)


def rms_norm(x: Tensor, weight: Tensor, eps: Tensor) -> Tensor:
    """RMS norm over the last dimension, with fewer calls than torch's own on a CPU."""
    wide = x.float()
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = torch.addcmul(eps, norm, norm, value=1 / x.shape[-1]).rsqrt_()
    return (wide * scale).mul_(weight).to(x.dtype)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate heads `[..., head_dim]` by their positions; `sin` includes the sign of its first half."""
    return x * cos + torch.roll(x, x.shape[-1] // 2, -1) * sin
