"""The network of a world: a small Llama in few large tensors, whose gradients cost little on a CPU.

Same function as `transformers.LlamaForCausalLM` with tied embeddings, which it is exported to. Matrices of equal shape
are one tensor, so that they can be multiplied and orthogonalized together; norms of layers have no gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional as F

from selftaught.worlds.kit.text import Batch

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

EPSILON = 1e-6
ROPE_BASE = 10_000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a network.

    Attributes:
        vocabulary: number of tokens.
        width: width of the residual stream.
        layers: decoder layers.
        heads: attention heads.
        hidden: width of the feed-forward layers.
    """

    vocabulary: int
    width: int = 128
    layers: int = 6
    heads: int = 4
    hidden: int = 352

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of each tensor of weights."""
        width, layers, hidden = self.width, self.layers, self.hidden
        return {
            "embedding": (self.vocabulary, width),
            "gain": (width,),
            "attention": (layers, 4, width, width),
            "gate_up": (layers, 2, hidden, width),
            "down": (layers, width, hidden),
        }


Weights = dict[str, torch.Tensor]


def initial_weights(shape: Shape, seed: int) -> Weights:
    """Random weights: normal with standard deviation 0.02, gain 1."""
    generator = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(size, generator=generator) * 0.02 for name, size in shape.tensors().items()}
    return made | {"gain": torch.ones(shape.width)}


class _Norm(torch.autograd.Function):
    """Root-mean-square normalization of the rows, in a dtype for what follows."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:  # type: ignore[override]
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = square.div_(x.shape[-1]).add_(EPSILON).rsqrt_()
        normed = x * inverse
        ctx.save_for_backward(normed, inverse)
        return normed.to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        normed, inverse = ctx.saved_tensors
        gradient = gradient.float()
        along = torch.linalg.vecdot(gradient, normed).div_(-normed.shape[-1]).unsqueeze(-1)
        return torch.addcmul(gradient, normed, along).mul_(inverse), None


class _Rotate(torch.autograd.Function):
    """Rotary position embedding of rows of neighboring pairs; each pair is a complex number, turned by an angle."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(turns)
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turns).flatten(-2)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        (turns,) = ctx.saved_tensors
        pairs = torch.view_as_complex(gradient.contiguous().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turns.conj_physical()).flatten(-2), None


class _GatedSilu(torch.autograd.Function):
    """`silu(gate) * up` for `[rows, gate and up]`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        gate, up = x.chunk(2, -1)
        silu = F.silu(gate)
        ctx.save_for_backward(x, silu)
        return silu * up

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        x, silu = ctx.saved_tensors
        gate, up = x.chunk(2, -1)
        for_gate, for_up = (out := torch.empty_like(x)).chunk(2, -1)
        torch.mul(gradient, silu, out=for_up)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=for_gate)
        return out


class _SoftCrossEntropy(torch.autograd.Function):
    """Cross-entropy of each row of logits against a sparse distribution, in nats."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, logits: torch.Tensor, target: torch.Tensor, token: torch.Tensor, probs: torch.Tensor
    ) -> torch.Tensor:
        logprobs = torch.log_softmax(logits, -1)
        nats = torch.zeros(len(logits)).index_add_(0, target, logprobs[target, token] * -probs)
        ctx.save_for_backward(logprobs, target, token, probs)
        return nats

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        logprobs, target, token, probs = ctx.saved_tensors
        out = logprobs.exp().mul_(gradient.unsqueeze(-1))
        out.index_put_((target, token), -probs * gradient[target], accumulate=True)
        return out, None, None, None


def logits_of(
    weights: Weights, shape: Shape, ids: torch.Tensor, at: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Logits `[positions, vocabulary]` after the tokens at flat positions `at` of `ids` `[rows, tokens]`.

    Args:
        dtype: of the large matrix products; everything else is done in float32.
    """
    (rows, tokens), (width, heads) = ids.shape, (shape.width, shape.heads)
    turns = _turns(tokens, width // heads, 2 * heads)
    x = F.embedding(ids, weights["embedding"]).view(rows * tokens, width)
    stacks = (weights[name].to(dtype).unbind() for name in ("attention", "gate_up", "down"))
    for attention, gate_up, down in zip(*stacks, strict=True):
        projected = F.linear(_norm(x, dtype), attention[:3].flatten(0, 1)).float().view(rows, tokens, -1)
        turned = cast(torch.Tensor, _Rotate.apply(projected[..., : 2 * width], turns))
        queries, keys = turned.view(rows, tokens, 2 * heads, -1).transpose(1, 2).chunk(2, 1)
        values = projected[..., 2 * width :].view(rows, tokens, heads, -1).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + F.linear(mixed.transpose(1, 2).reshape(rows * tokens, width).to(dtype), attention[3])
        hidden = cast(torch.Tensor, _GatedSilu.apply(F.linear(_norm(x, dtype), gate_up.flatten(0, 1)).float()))
        x = x + F.linear(hidden.to(dtype), down)
    final = _norm(x[at], torch.float32) * weights["gain"]
    return F.linear(final.to(dtype), weights["embedding"].to(dtype)).float()


def _norm(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return cast(torch.Tensor, _Norm.apply(x, dtype))


def _turns(tokens: int, size: int, heads: int) -> torch.Tensor:
    """Each position's rotations as complex numbers, `[tokens, heads * size / 2]`."""
    frequencies = ROPE_BASE ** -(torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(tokens).float(), frequencies).repeat(1, heads)
    return torch.polar(torch.ones_like(angles), angles)


def surprise(weights: Weights, shape: Shape, batch: Batch, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Cross-entropy of the network against the writer at each target of a batch, in nats."""
    ids, at, _, *targets = (torch.from_numpy(array) for array in batch)
    return cast(torch.Tensor, _SoftCrossEntropy.apply(logits_of(weights, shape, ids, at, dtype), *targets))


def as_llama(weights: Weights, shape: Shape, *, context: int, end: int) -> LlamaForCausalLM:
    """The network as a model of transformers, in float32.

    Args:
        context: most tokens of a conversation.
        end: id of the token that ends a reply.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=context,
        rms_norm_eps=EPSILON,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(_named(weights, shape), strict=False)
    model.tie_weights()
    return model


def _named(weights: Weights, shape: Shape) -> Weights:
    """The weights by their names in transformers; gains of layers stay at 1."""
    named = {"model.embed_tokens.weight": weights["embedding"], "model.norm.weight": weights["gain"]}
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        for i, name in enumerate("qkvo"):
            matrix = weights["attention"][layer, i]
            named[f"{prefix}.self_attn.{name}_proj.weight"] = _halved(matrix, shape.heads) if name in "qk" else matrix
        for i, name in enumerate(("gate", "up")):
            named[f"{prefix}.mlp.{name}_proj.weight"] = weights["gate_up"][layer, i]
        named[f"{prefix}.mlp.down_proj.weight"] = weights["down"][layer]
    return named


def _halved(matrix: torch.Tensor, heads: int) -> torch.Tensor:
    """A projection whose outputs are pairs of neighbors, as one whose pairs are half a head apart."""
    return matrix.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
