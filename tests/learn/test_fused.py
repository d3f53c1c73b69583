"""Fused norms and gated layers: the values of the modules they stand for, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from selftaught.learn.fused import _alike, _Gated, _Norm, fused


def model(kind: str = "llama", **more: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=40, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=6, max_position_embeddings=64, pad_token_id=0, **more,
    )  # fmt: skip
    made = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn_like(p) * 0.2)  # the weights of norms are all 1 otherwise
    return made


def loss_and_gradients(made: Any, around: Callable[[Any], Any] | None) -> tuple[Tensor, dict[str, Tensor]]:
    ids = torch.arange(1, 33).view(2, 16)
    made.zero_grad()
    if around is None:
        loss = made(input_ids=ids, labels=ids).loss
        loss.backward()
    else:
        with around(made):
            loss = made(input_ids=ids, labels=ids).loss
            loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in made.named_parameters()}


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    x, weight, gate, up = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 5), (5,), (3, 4), (3, 4))
    )
    assert torch.autograd.gradcheck(lambda a, b: _Norm.apply(a, b, 1e-3), (x, weight))
    assert torch.autograd.gradcheck(lambda a, b: _Gated.apply(a, b), (gate, up))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
def test_a_model_s_loss_and_gradients_are_its_own(kind: str) -> None:
    made = model(kind)
    true, gradients = loss_and_gradients(made, None)
    loss, found = loss_and_gradients(made, fused)
    assert torch.allclose(loss, true, rtol=1e-6)
    for name, gradient in gradients.items():
        assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-6), name
    layers = {"qwen3": 5}.get(kind, 3)  # two norms and a gated layer, and norms of queries and keys
    assert len(_alike(made)) == 2 * layers + 1
    assert all("forward" not in vars(module) for module in made.modules())


def test_bfloat16_is_as_close_to_float32_as_without() -> None:
    made = model()
    _, true = loss_and_gradients(made, None)
    made.to(torch.bfloat16)
    (_, plain), (_, found) = loss_and_gradients(made, None), loss_and_gradients(made, fused)
    for name in true:
        errors = [float((g[name].float() - true[name]).norm()) for g in (plain, found)]
        assert errors[1] <= 1.5 * errors[0] + 1e-4, name


def test_other_norms_and_activations_stay_as_they_are() -> None:
    assert _alike(model("gemma")) == []  # 1 + weight, and GELU
    made = model(hidden_act="gelu")
    assert {type(module).__name__ for module in _alike(made)} == {"LlamaRMSNorm"}

    other = model()
    other.model.norm.forward = lambda x: x  # somebody's own
    assert other.model.norm not in _alike(other)


def test_little_is_kept_for_the_gradient() -> None:
    made = model()

    def kept(around: Any) -> int:
        """Bytes of the tensors that autograd keeps, each once, but for parameters."""
        own = {p.untyped_storage().data_ptr() for p in made.parameters()}
        sizes: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            if x.untyped_storage().data_ptr() not in own:
                sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss_and_gradients(made, around)
        return sum(sizes.values())

    made.to(torch.bfloat16)
    assert kept(fused) < 0.85 * kept(None)
