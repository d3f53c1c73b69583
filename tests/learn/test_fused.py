"""Fused norms, gated layers and attention: the values of the modules they stand for, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from selftaught.learn import TrainConfig, sft, trainer
from selftaught.learn.forward import forward_batch, is_plain_head
from selftaught.learn.frozen import with_frozen_logprobs
from selftaught.learn.kernels import fused as fusing
from selftaught.learn.kernels import segments
from selftaught.learn.kernels.fused import _fused_form, _Gated, _Norm, _Rotary, fused_modules
from selftaught.learn.kernels.packing import packs_exactly
from selftaught.learn.objectives.base import Row


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
    heads, cos, sin = (torch.randn(shape, dtype=torch.float64) for shape in ((3, 2, 6), (3, 1, 6), (3, 1, 6)))
    assert torch.autograd.gradcheck(lambda a: _Rotary.apply(a, cos, sin), heads.requires_grad_())


ROWS = [Row((1, 2, 3), (4, 5, 6)), Row((1, 2, 3), (7, 8)), Row((9, 10), tuple(range(11, 30)))]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gemma", "mistral", "dropout"])
def test_packed_rows_see_what_they_see_without(kind: str, alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts shared and not; with spans so long, or said to be, that torch's attention has them; dropped out."""
    monkeypatch.setattr(segments, "LONG_SEGMENT", 20 if alone else 1024)
    more = {"mistral": {"sliding_window": None}, "dropout": {"attention_dropout": 0.5}}.get(kind, {})
    made = model("llama" if kind == "dropout" else kind, **more).train()
    assert packs_exactly(made)
    assert is_plain_head(made)
    found: list[tuple[Tensor, list[Tensor]]] = []
    for around in (nullcontext, fused_modules):
        made.zero_grad()
        torch.manual_seed(1)
        with around(made):
            batch = forward_batch(made, ROWS)
            (batch.logprobs**2).sum().backward()
        found.append((batch.logprobs.detach(), [p.grad.clone() for p in made.parameters()]))
    (true, gradients), (said, others) = found
    assert torch.allclose(said, true, atol=1e-5)
    for gradient, other in zip(gradients, others, strict=True):
        assert (gradient - other).norm() <= 1e-5 * gradient.norm() + 1e-6
    assert "Attention" in " ".join(type(m).__name__ for m in replaced(made))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
def test_a_model_s_loss_and_gradients_are_its_own(kind: str) -> None:
    made = model(kind)
    true, gradients = loss_and_gradients(made, None)
    loss, found = loss_and_gradients(made, fused_modules)
    assert torch.allclose(loss, true, rtol=1e-6)
    for name, gradient in gradients.items():
        assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-6), name
    layers = {"qwen3": 5, "mistral": 3}.get(kind, 4)  # two norms, a gated layer, attention; norms of queries and keys
    assert len(replaced(made)) == 2 * layers + 1
    assert all("forward" not in vars(module) for module in made.modules())


def test_bfloat16_is_as_close_to_float32_as_without() -> None:
    made = model()
    _, true = loss_and_gradients(made, None)
    made.to(torch.bfloat16)
    (_, plain), (_, found) = loss_and_gradients(made, None), loss_and_gradients(made, fused_modules)
    for name in true:
        errors = [float((g[name].float() - true[name]).norm()) for g in (plain, found)]
        assert errors[1] <= 1.5 * errors[0] + 1e-4, name


def replaced(made: Any) -> list[Any]:
    return [module for module in made.modules() if _fused_form(module) is not None]


@pytest.mark.parametrize("kind", ["gemma", "gemma2", "cohere", "seed_oss", "helium", "glm", "glm4"])
def test_layers_that_compute_something_else_stay_as_they_are(kind: str) -> None:
    """1 + weight and GELU; a mean taken off; a dropout behind the gated layer; neighbours rotated as a pair."""
    names = {type(module).__name__ for module in replaced(model(kind))}
    may = {"gemma": {"GemmaAttention"}, "cohere": {"CohereMLP"}, "seed_oss": {"SeedOssRMSNorm"}}
    may |= {"helium": {"HeliumMLP", "HeliumRMSNorm"}, "glm": {"GlmRMSNorm"}, "glm4": {"Glm4RMSNorm"}}
    assert names == may.get(kind, set())


def test_a_norm_with_a_gate_stays_as_it_is() -> None:
    from transformers.models.mamba2.modeling_mamba2 import MambaRMSNormGated

    assert _fused_form(MambaRMSNormGated(8, 8)) is None


def test_somebody_s_own_forward_stays_and_all_is_restored_after_an_error() -> None:
    made = model()
    made.model.norm.forward = own = lambda x: x

    def fails() -> None:
        with fused_modules(made), fused_modules(made):
            assert made.model.norm.forward is own
            assert "forward" in vars(made.model.layers[0].mlp)
            raise RuntimeError("of the training")

    with pytest.raises(RuntimeError, match="of the training"):
        fails()
    assert vars(made.model.norm)["forward"] is own
    assert sum("forward" in vars(module) for module in made.modules()) == 1


@pytest.mark.parametrize("how", [{}, {"gradient_checkpointing": True}, {"lora_rank": 2}])
def test_a_training_is_the_same_with_it(monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]) -> None:
    losses = []
    for large in (10**9, 0):
        monkeypatch.setattr(fusing, "LARGE_MODEL", large)
        made = model()
        if how.get("lora_rank"):
            from peft import LoraConfig, get_peft_model

            made = get_peft_model(made, LoraConfig(r=2, target_modules="all-linear"))
        settings = TrainConfig(precision="float32", batch_size=2, learning_rate=1e-2, warmup_ratio=0.0, **how)
        groups = [(Row((1, 2, 3), (4, 5, 6)),), (Row((7, 8), (9, 10, 11, 12)),)]
        steps = trainer.Trainer(made, sft(), settings, groups, seed=0)
        losses.append([steps.step(groups, i, 4).loss for i in range(4)])
        steps.close()
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[0][-1] < losses[0][0]


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
    assert kept(fused_modules) < 0.85 * kept(None)


def test_a_reference_is_asked_in_the_arithmetic_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a first step would see differences between a model and itself."""
    monkeypatch.setattr(fusing, "LARGE_MODEL", 0)
    made = model().to(torch.bfloat16)
    ((row,),) = with_frozen_logprobs(made, [(ROWS[2],)], {"reference"}, 100)
    with torch.no_grad():
        apart = forward_batch(made, ROWS[2:]).logprobs[0]
        with fused_modules(made):
            alike = forward_batch(made, ROWS[2:]).logprobs[0]
    assert torch.equal(row.token_features["reference"], alike)
    assert not torch.equal(apart, alike)
