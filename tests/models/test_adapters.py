"""Adapter folders that peft saved: on their base, sampled and trained alike, or refused in one line."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from selftaught.engines.base import Request, Sampling
from selftaught.engines.local.engine import LocalEngine
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig, sft
from selftaught.learn.learner import train_policy
from selftaught.models import Policy, resolve
from selftaught.models.load import load_model
from selftaught.models.policy import base_reference, publish
from selftaught.records import Demo, Message
from tiny_models import BOS_CHATML, edit_json, greedy, prompt_ids, reference, save_tokenizer

PROMPT = (Message("user", "hi"),)
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


def adapted(base: Policy, folder: Path, **settings: Any) -> tuple[Policy, Any]:
    """An adapter with random weights as peft saves it, resolved, and the model that it makes."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    how = {"r": 4, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, **settings}
    model = get_peft_model(reference(base), LoraConfig(**how))
    model.save_pretrained(str(folder))
    return resolve(folder), model.merge_and_unload()


@pytest.fixture
def saved(tiny: Any, tmp_path: Path) -> Path:
    """A folder with an adapter, to be spoiled."""
    return adapted(tiny("llama"), tmp_path / "a")[0].path


def sampled(policy: Policy) -> tuple[int, ...]:
    engine = LocalEngine(dtype="float32", device="cpu")
    asked = Request(PROMPT, Sampling(temperature=0.0, max_tokens=12))
    try:
        return asyncio.run(engine.sample(policy, asked)).token_ids
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {}),
        ("qwen2", {"use_dora": True}),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
        ("llama-tied", {"modules_to_save": ["lm_head"]}),
    ],
)
def test_an_adapter_is_laid_over_the_base_that_it_names(
    tiny: Any, tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    policy, model = adapted(tiny(kind), tmp_path / "a", **settings)
    assert (policy.base, policy.adapter, policy.weights) == (tiny(kind), True, tiny(kind).path)
    found = sampled(policy)
    ids = prompt_ids(tiny(kind), PROMPT)
    assert found == greedy(model, ids, 12) == greedy(load_model(policy, torch.float32).eval(), ids, 12)
    assert found != sampled(tiny(kind))
    assert resolve(policy.path) == policy


def test_what_is_learnt_from_it_finds_it_again(tiny: Any, tmp_path: Path) -> None:
    policy, _ = adapted(tiny("llama"), tmp_path / "a")
    how = TrainConfig(epochs=1, batch_size=1, learning_rate=1e-2, precision="float32", lora_rank=2)
    after = train_policy(policy, sft(), [Demo(PROMPT, "yes")], how, seed=0, folder=tmp_path / "policies")
    assert (resolve(after.path), after.base, after.root) == (after, policy, tiny("llama"))
    assert sampled(after) == greedy(load_model(after, torch.float32).eval(), prompt_ids(tiny("llama"), PROMPT), 12)
    edit_json(policy.path / SETTINGS, lora_alpha=99)
    with pytest.raises(BadInput, match=r"not .* that the adapter was trained on"):
        resolve(after.path)


def test_a_base_is_named_by_a_folder_beside_it_or_by_a_known_name(tiny: Any, saved: Path) -> None:
    shutil.copytree(tiny("llama").path, saved.parent / "base")
    edit_json(saved / SETTINGS, base_model_name_or_path="../base")
    assert resolve(saved).weights == saved.parent / "base"
    edit_json(saved / SETTINGS, base_model_name_or_path="underfit")
    assert resolve(saved).base == resolve("underfit")


@pytest.mark.parametrize(
    ("name", "reason"),
    [(None, "it names no base"), ("", "it names no base"), ("/no/such/folder", "its base /no/such/folder cannot be"),
     ("../a", "is an adapter too")],
)  # fmt: skip
def test_a_base_that_is_not_there_is_one_line(saved: Path, name: Any, reason: str) -> None:
    edit_json(saved / SETTINGS, base_model_name_or_path=name)
    with pytest.raises(BadInput, match=reason) as caught:
        resolve(saved)
    assert str(caught.value).startswith(str(saved / SETTINGS))
    assert "\n" not in str(caught.value)


def test_an_adapter_with_weights_missing_or_from_elsewhere_is_refused(saved: Path) -> None:
    whole = load_file(saved / WEIGHTS)
    first = sorted(whole)[0]
    save_file({name: w for name, w in whole.items() if name != first}, saved / WEIGHTS)
    with pytest.raises(BadInput, match="1 weights of the adapter are missing"):
        load_model(resolve(saved), torch.float32)
    save_file({**whole, first.replace("layers.0", "layers.7"): whole[first].clone()}, saved / WEIGHTS)
    with pytest.raises(BadInput, match="1 weights of the adapter match nothing"):
        load_model(resolve(saved), torch.float32)


def test_a_pickled_adapter_is_refused_and_never_opened(tiny: Any, saved: Path) -> None:
    """Also where it looks like one of our own."""
    marker = saved / "ran"
    (saved / "adapter_model.bin").write_text(f"cos\nsystem\n(S'touch {marker}'\ntR.", "ascii")
    (saved / WEIGHTS).unlink()
    with pytest.raises(BadInput, match="unpickling"):
        resolve(saved)
    base = tiny("llama")
    target = saved.with_name("ours")
    shutil.copytree(saved, target.with_name("draft"))
    publish(
        target.with_name("draft"), target, {"version": "1" * 16, "adapter": True, "base": base_reference(base, target)}
    )
    for use in (lambda: resolve(target), lambda: load_model(Policy("1" * 16, target, base, True), torch.float32)):
        with pytest.raises(BadInput, match="unpickling") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_an_adapter_beside_whole_weights_is_neither(tiny: Any, saved: Path) -> None:
    shutil.copy(tiny("llama").path / "model.safetensors", saved)
    shutil.copy(tiny("llama").path / "config.json", saved)
    with pytest.raises(BadInput, match="full weights and an adapter"):
        resolve(saved)


def test_a_tokenizer_of_its_own_must_be_that_of_the_base(saved: Path) -> None:
    save_tokenizer(saved)
    assert resolve(saved).adapter
    save_tokenizer(saved, BOS_CHATML)
    with pytest.raises(BadInput, match="its tokenizer or chat template is not that of its base"):
        resolve(saved)
