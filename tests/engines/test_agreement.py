"""What is sampled is what is trained: one reader decides which weights belong to a model."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from selftaught.engines.local import agreement
from selftaught.engines.local.agreement import check_before_sampling, check_before_training
from selftaught.engines.local.decoder import load_decoder
from selftaught.engines.local.engine import LocalEngine
from selftaught.engines.local.llama import LlamaDecoder
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig, sft
from selftaught.learn.learner import train_policy
from selftaught.models import ChatTokenizer, Policy, resolve
from selftaught.models.load import load_model
from selftaught.records import Demo, Message
from tiny_models import edit_json, reference, teacher_forced

PROMPT, TEXT = (Message("user", "What is 2+2?"),), " The answer is 4."


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def sampled(policy: Policy, dtype: str = "float32") -> list[float]:
    engine = LocalEngine(dtype=dtype, device="cpu")
    try:
        return list(asyncio.run(engine.loglikelihood(policy, PROMPT, TEXT)).logprobs)
    finally:
        engine.close()


def trained(policy: Policy) -> list[float]:
    tokenizer = ChatTokenizer(policy.weights)
    model = load_model(policy, torch.float32).eval()
    return teacher_forced(model, tokenizer.encode_prompt(PROMPT), tokenizer.encode(TEXT))


def changed(policy: Policy, folder: Path, *, gone: str = "", **settings: Any) -> Path:
    """A copy of a model with another configuration and without some weights."""
    shutil.copytree(policy.path, folder)
    edit_json(folder / "config.json", **settings)
    weights = {n: w for n, w in load_file(folder / "model.safetensors").items() if not gone or gone not in n}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_an_output_layer_of_its_own_counts_though_the_configuration_ties_it(tiny: Any, tmp_path: Path) -> None:
    policy = resolve(changed(tiny("llama"), tmp_path / "m", tie_word_embeddings=True))
    (tmp_path / "secret").write_text("a secret", "utf-8")
    (policy.path / "notes.txt").symlink_to(tmp_path / "secret")
    assert sampled(policy) == pytest.approx(trained(policy), abs=1e-4)
    assert sampled(policy) == pytest.approx(sampled(tiny("llama")), abs=1e-4)
    how = TrainConfig(epochs=1, batch_size=1, learning_rate=1e-2, precision="float32")
    for rank in (0, 4):
        how = TrainConfig(epochs=1, batch_size=1, learning_rate=1e-2, precision="float32", lora_rank=rank)
        policy = resolve(policy.path)
        after = train_policy(policy, sft(), [Demo(PROMPT, TEXT)], how, seed=0, folder=tmp_path / "policies")
        assert sampled(after) == pytest.approx(trained(after), abs=1e-4)
        assert sum(sampled(after)) > sum(sampled(policy))
        assert not (after.path / "notes.txt").exists()  # a link out of the model's folder is not followed


def test_an_output_layer_that_is_missing_and_not_tied_is_refused_when_it_is_loaded(tiny: Any, tmp_path: Path) -> None:
    policy = resolve(changed(tiny("llama"), tmp_path / "m", gone="lm_head"))
    for use in (sampled, trained):
        with pytest.raises(BadInput, match=r"lm_head\.weight"):
            use(policy)


def test_embeddings_that_are_missing_and_tied_are_the_output_layer(tiny: Any, tmp_path: Path) -> None:
    policy = resolve(changed(tiny("llama"), tmp_path / "m", gone="embed_tokens", tie_word_embeddings=True))
    assert isinstance(load_decoder(policy, torch.float32, "cpu"), LlamaDecoder)
    assert sampled(policy) == pytest.approx(trained(policy), abs=1e-4)


def test_weights_that_the_configuration_does_not_name_are_left_aside(tiny: Any, tmp_path: Path) -> None:
    folder = changed(tiny("llama"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    for name in list(weights):
        if name.endswith("proj.weight"):
            weights[name.replace("weight", "bias")] = torch.ones(len(weights[name]))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert sampled(resolve(folder)) == pytest.approx(sampled(tiny("llama")), abs=1e-5)
    assert trained(resolve(folder)) == pytest.approx(sampled(tiny("llama")), abs=1e-4)


def test_a_layer_that_is_missing_is_refused(tiny: Any, tmp_path: Path) -> None:
    policy = resolve(changed(tiny("llama"), tmp_path / "m", gone="layers.1."))
    with pytest.raises(BadInput, match=r"9 weights of a LlamaForCausalLM are missing, such as model\.layers\.1\."):
        sampled(policy)


def test_names_of_another_kind_are_read_by_transformers(tiny: Any, tmp_path: Path) -> None:
    """As of a model that was saved without its head; transformers puts the prefix back."""
    folder = changed(tiny("llama-tied"), tmp_path / "m", gone="lm_head")
    weights = {n.removeprefix("model."): w for n, w in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert sampled(resolve(folder)) == pytest.approx(sampled(tiny("llama-tied")), abs=1e-4)


def sharded(policy: Policy, folder: Path) -> Path:
    shutil.copytree(policy.path, folder)
    reference(policy).save_pretrained(str(folder), max_shard_size="100KB")
    (folder / "model.safetensors").unlink()
    assert (folder / "model.safetensors.index.json").is_file()
    return folder


def test_parts_are_read_by_their_index(tiny: Any, tmp_path: Path) -> None:
    folder = sharded(tiny("llama"), tmp_path / "m")
    assert sampled(resolve(folder)) == pytest.approx(sampled(tiny("llama")), abs=1e-5)
    (parts := sorted(folder.glob("model-*.safetensors")))[0].rename(folder / "part.download")
    with pytest.raises(BadInput, match=f"{parts[0].name}, which it names, is missing"):
        resolve(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(BadInput, match=r"neither model\.safetensors nor an index"):
        resolve(folder)


def test_a_whole_file_wins_over_an_index(tiny: Any, tmp_path: Path) -> None:
    folder = sharded(tiny("llama", seed=1), tmp_path / "m")
    shutil.copy(tiny("llama").path / "model.safetensors", folder)
    policy = resolve(folder)
    assert sampled(policy) == pytest.approx(trained(policy), abs=1e-4)
    assert sampled(policy) == pytest.approx(sampled(tiny("llama")), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_models_in_one_folder_are_refused_and_one_is_compared_once(
    tiny: Any, own_cache: Path, dtype: torch.dtype
) -> None:
    policy = tiny("llama")
    other = load_model(tiny("llama", seed=1), dtype)
    with pytest.raises(BadInput, match="read two different models") as caught:
        check_before_training(policy, other)
    assert "\n" not in str(caught.value)
    check_before_training(policy, load_model(policy, dtype))
    assert len(list((own_cache / "compared").iterdir())) == 1
    check_before_training(policy, other)  # not compared again


def test_small_models_are_compared_before_they_are_sampled(
    tiny: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "SMALL_WEIGHTS", 1000)
    check_before_sampling(tiny("llama"))
    assert not (own_cache / "compared").exists()  # a large one only when it is trained
    monkeypatch.undo()
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(own_cache))
    sampled(tiny("llama"))
    assert len(list((own_cache / "compared").iterdir())) == 1
    config = json.loads((tiny("gpt2").path / "config.json").read_text("utf-8"))
    assert config["model_type"] == "gpt2"
    sampled(tiny("gpt2"))  # has but one reader
    assert len(list((own_cache / "compared").iterdir())) == 1
