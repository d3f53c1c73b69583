"""Which layers the fused forms may stand for: those with the same result, whatever their code; never a lookalike."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, LlamaRMSNorm

from selftaught.learn.kernels.fused import _fused_form
from selftaught.learn.kernels.packing import attention_function, pack_rows, register_attention
from selftaught.learn.kernels.recognition import TRIAL_ROWS

CONFIG = LlamaConfig(
    vocab_size=40, hidden_size=24, intermediate_size=40, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2, head_dim=6, attention_bias=True, mlp_bias=True,
)  # fmt: skip


def made(kind: type, forward: Callable[..., Any] | None = None, **facts: Any) -> Any:
    """A layer of a class of its own, like Llama's but for `forward` and further attributes."""
    own: Any = type(f"Own{kind.__name__}", (kind,), {"forward": forward} if forward else {})
    first = {LlamaRMSNorm: (24,), LlamaMLP: (CONFIG,), LlamaAttention: (CONFIG, 0)}[kind]
    layer = own(*first)
    for name, value in facts.items():
        setattr(layer, name, value)
    return layer


# --- the same, told otherwise ---


def other_words(self: Any, x: Tensor) -> Tensor:
    wide = x.float()
    return self.weight * (wide / (wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).sqrt()).to(x.dtype)


def through_a_decorator(self: Any, *given: Any, **named: Any) -> Any:
    return LlamaAttention.forward(self, *given, **named)


def gate_last(self: Any, x: Tensor) -> Tensor:
    return self.down_proj(self.up_proj(x) * self.act_fn(self.gate_proj(x)))


SAME: list[tuple[type, Callable[..., Any] | None]] = [
    (LlamaRMSNorm, None), (LlamaRMSNorm, other_words), (LlamaMLP, None), (LlamaMLP, gate_last), (LlamaAttention, None),
    (LlamaAttention, functools.wraps(LlamaAttention.forward)(through_a_decorator)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "forward"), SAME)
def test_the_same_result_is_recognized_whatever_the_code(kind: type, forward: Any, dtype: torch.dtype) -> None:
    with torch.no_grad():  # as where a frozen model is asked
        assert _fused_form(made(kind, forward).to(dtype)) is not None
    assert _fused_form(made(kind, forward).to(dtype).eval()) is not None


def test_a_trial_leaves_no_trace() -> None:
    layer = made(LlamaAttention)
    config, weights = layer.config, [p.clone() for p in layer.parameters()]
    implementation, state = config._attn_implementation, torch.get_rng_state()
    assert _fused_form(layer) is not None
    assert layer.config is config
    assert config._attn_implementation == implementation
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(p, w) and p.grad is None for p, w in zip(layer.parameters(), weights, strict=True))


# --- lookalikes ---


def one_more(self: Any, x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], eps=self.variance_epsilon) * (1 + self.weight)


def centred(self: Any, x: Tensor) -> Tensor:
    return LlamaRMSNorm.forward(self, x - x.mean(-1, keepdim=True))


def clamped(self: Any, x: Tensor) -> Tensor:
    return LlamaRMSNorm.forward(self, x.clamp(-3000, 3000))


def eps_outside(self: Any, x: Tensor) -> Tensor:
    return self.weight * x / (x.pow(2).mean(-1, keepdim=True).sqrt() + self.variance_epsilon)


def weight_held(self: Any, x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], self.weight.detach(), self.variance_epsilon) + 0 * self.weight


def dropped_out(self: Any, x: Tensor) -> Tensor:
    return F.dropout(type(self).__mro__[1].forward(self, x), 1e-9)


def gated(self: Any, x: Tensor, gate: Tensor | None = None) -> Tensor:
    return LlamaRMSNorm.forward(self, x if gate is None else x * F.silu(gate))


def limited(self: Any, x: Tensor) -> Tensor:
    return self.down_proj(F.silu(self.gate_proj(x).clamp(max=7)) * self.up_proj(x).clamp(-7, 7))


def added(self: Any, x: Tensor) -> Tensor:
    return x + LlamaMLP.forward(self, x)


def less(self: Any, x: Tensor) -> Tensor:
    return 0.999 * LlamaMLP.forward(self, x)


def switched(self: Any, x: Tensor) -> Tensor:
    return -LlamaMLP.forward(self, x) if self.switch else LlamaMLP.forward(self, x)


def attention(
    change: Callable[[Any, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] = lambda _, q, k, v: (q, k, v),
    turn: Callable[..., tuple[Tensor, Tensor]] | None = None, **handed: Any,
) -> Callable[..., Any]:  # fmt: skip
    """A forward like Llama's, of which one thing is otherwise."""
    from transformers.models.llama.modeling_llama import ALL_ATTENTION_FUNCTIONS, apply_rotary_pos_emb

    def forward(self: Any, hidden_states: Tensor, position_embeddings: Any, attention_mask: Any, **more: Any) -> Any:
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        q, k, v = (p(hidden_states).view(shape).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = change(self, q, k, v)
        q, k = (turn or apply_rotary_pos_emb)(q, k, *position_embeddings)
        attend = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        found, weights = attend(self, q, k, v, attention_mask, scaling=self.scaling, **handed, **more)
        return self.o_proj(found.reshape(*hidden_states.shape[:-1], -1)), weights

    return forward


def neighbours(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    def turned(x: Tensor) -> Tensor:
        swapped = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        return x * cos[:, None] + swapped * sin[:, None]

    return turned(q), turned(k)


def in_part(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    some = slice(0, q.shape[-1] // 3 * 2)
    turned = neighbours(q[..., some], k[..., some], cos[..., some], sin[..., some])
    return torch.cat([turned[0], q[..., some.stop :]], -1), torch.cat([turned[1], k[..., some.stop :]], -1)


def normed(_: Any, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:]), v


def clipped(limit: float, which: int) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def change(_: Any, *parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (x.clamp(-limit, limit) if i == which else x for i, x in enumerate(parts))
        return q, k, v

    return change


LOOKALIKES: dict[str, tuple[type, Callable[..., Any] | None, dict[str, Any]]] = {
    "1 + weight": (LlamaRMSNorm, one_more, {}),
    "a mean taken off": (LlamaRMSNorm, centred, {}),
    "clamped far out": (LlamaRMSNorm, clamped, {}),
    "eps outside the root": (LlamaRMSNorm, eps_outside, {}),
    "a weight without gradient": (LlamaRMSNorm, weight_held, {}),
    "dropout in a norm": (LlamaRMSNorm, dropped_out, {}),
    "a second tensor": (LlamaRMSNorm, gated, {}),
    "a bias in a norm": (LlamaRMSNorm, None, {"bias": nn.Parameter(torch.zeros(24))}),
    "GELU": (LlamaMLP, None, {"act_fn": nn.GELU(approximate="tanh")}),
    "limits": (LlamaMLP, limited, {}),
    "a sum": (LlamaMLP, added, {}),
    "a factor": (LlamaMLP, less, {}),
    "a switch that is off": (LlamaMLP, switched, {"switch": False}),
    "dropout in a gated layer": (LlamaMLP, dropped_out, {}),
    "one layer more": (LlamaMLP, None, {"norm": nn.Identity()}),
    "neighbours rotated": (LlamaAttention, attention(turn=neighbours), {}),
    "rotated in part": (LlamaAttention, attention(turn=in_part), {}),
    "not rotated": (LlamaAttention, attention(turn=lambda q, k, *_: (q, k)), {}),
    "norms of queries and keys": (LlamaAttention, attention(normed), {}),
    "with layers for them": (LlamaAttention, attention(normed), {"q_norm": nn.Identity(), "k_norm": nn.Identity()}),
    "clipped queries": (LlamaAttention, attention(clipped(50.0, 0)), {}),
    "clipped keys": (LlamaAttention, attention(clipped(50.0, 1)), {}),
    "clipped values": (LlamaAttention, attention(clipped(50.0, 2)), {}),
    "a soft cap": (LlamaAttention, attention(softcap=50.0), {}),
    "a soft cap that is off": (LlamaAttention, None, {"attn_logit_softcapping": None}),
    "a window": (LlamaAttention, None, {"sliding_window": 4096}),
    "a window handed over": (LlamaAttention, attention(sliding_window=4096), {}),
    "sinks": (LlamaAttention, attention(s_aux=torch.zeros(4)), {}),
    "another scale": (LlamaAttention, attention(lambda self, q, k, v: (q * 1.01, k, v)), {}),
}


def test_what_the_lookalikes_are_made_from_is_recognized() -> None:
    assert _fused_form(made(LlamaAttention, attention())) is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("what", LOOKALIKES)
def test_a_lookalike_stays_as_it_is(what: str, dtype: torch.dtype) -> None:
    kind, forward, facts = LOOKALIKES[what]
    assert _fused_form(made(kind, forward, **facts).to(dtype)) is None


def test_a_class_with_a_call_of_its_own_stays_as_it_is() -> None:
    own: Any = type("Own", (LlamaMLP,), {"__call__": lambda self, x: -self.forward(x)})
    assert _fused_form(own(CONFIG)) is None


def test_a_window_in_the_configuration_keeps_attention_as_it_is() -> None:
    layer = made(LlamaAttention)
    layer.config = LlamaConfig(**CONFIG.to_dict() | {"sliding_window": 32})
    assert _fused_form(layer) is None


def test_a_hook_on_what_is_not_called_keeps_a_gated_layer_as_it_is() -> None:
    layer, heard = made(LlamaMLP), []
    assert _fused_form(layer) is not None
    handle = layer.act_fn.register_forward_hook(lambda *given: heard.append(given))
    assert _fused_form(layer) is None
    assert not heard
    handle.remove()
    assert _fused_form(layer) is not None


@pytest.mark.parametrize("more", [{"head_mask": torch.ones(4)}, {"attention_mask": torch.zeros(1)}, {"narrow": 4}])
def test_a_call_for_more_is_left_to_the_layer(more: dict[str, Any]) -> None:
    """A rotation of part of each head, a mask, or anything not known."""
    register_attention()
    asked = []

    def forward(self: Any, *given: Any, **named: Any) -> Any:
        asked.append(given)
        if (
            any(named.get(name) is not None for name in more)
            or named["position_embeddings"][0].shape[-1] < self.head_dim
        ):
            return "its own"
        return LlamaAttention.forward(self, *given, **named)

    layer = made(LlamaAttention, forward)
    fast, layout = _fused_form(layer), pack_rows(TRIAL_ROWS)
    x = torch.randn(1, layout.ids.shape[1], 24)
    turns = tuple(torch.randn(1, layout.ids.shape[1], 4 if "narrow" in more else 6) for _ in range(2))
    asked.clear()
    named = {n: v for n, v in more.items() if n != "narrow"}
    assert fast(hidden_states=x, position_embeddings=turns, layout=layout, **named) == "its own"
    assert asked


@pytest.mark.parametrize("more", [{"softcap": 50.0}, {"sliding_window": 8}, {"s_aux": torch.zeros(2)}])
def test_attention_over_a_layout_refuses_what_it_does_not_do(more: dict[str, Any]) -> None:
    layout = pack_rows(TRIAL_ROWS)
    q, k, v = torch.randn(3, 1, 2, layout.ids.shape[1], 4).unbind()
    with pytest.raises(TypeError, match=next(iter(more))):
        attention_function(None, q, k, v, layout=layout, **more)
    assert (
        attention_function(None, q, k, v, layout=layout, position_ids=layout.positions, softcap=None)[0].shape[1]
        == q.shape[2]
    )


def test_a_layer_that_does_otherwise_at_its_place_stays_as_it_is() -> None:
    """The first is Llama's; the second rotates neighbours."""
    other = attention(turn=neighbours)

    def forward(self: Any, hidden_states: Tensor, **named: Any) -> Any:
        return (other if self.layer_idx else LlamaAttention.forward)(self, hidden_states, **named)

    own = type(made(LlamaAttention, forward))
    assert [_fused_form(own(CONFIG, place)) is not None for place in range(3)] == [True, False, False]


def test_a_kind_is_tried_once() -> None:
    calls = []

    def forward(self: Any, x: Tensor) -> Tensor:
        calls.append(x.shape)
        return LlamaMLP.forward(self, x)

    layers = [made(LlamaMLP, forward)]
    layers.append(type(layers[0])(CONFIG))
    assert _fused_form(layers[0]) is not None
    count = len(calls)
    assert count
    assert _fused_form(layers[1]) is not None
    assert len(calls) == count
