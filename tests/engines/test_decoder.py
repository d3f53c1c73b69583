"""Models whose layers look back a window only are sampled as transformers samples them, and their context is whole."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from selftaught.engines.base import Request, Sampling
from selftaught.engines.local import shared_prefixes as trunk
from selftaught.engines.local.decoder import TransformersDecoder, live_decoder, load_decoder
from selftaught.engines.local.engine import LocalEngine
from selftaught.engines.local.llama import LlamaDecoder
from selftaught.errors import BadInput
from selftaught.models import Policy, resolve
from selftaught.records import Message
from tiny_models import edit_json, greedy, prompt_ids, reference, save_model, save_tokenizer, windowed_config

HEADER = "under one header: "
TEXTS = (HEADER * 4 + "yes", HEADER * 4 + "no", "hi", "x" * 60, HEADER * 4 + "yes")


def saved(folder: Path, kind: str, **settings: Any) -> Policy:
    save_model(folder, config=windowed_config(kind, **settings))
    save_tokenizer(folder)
    return resolve(folder)


@pytest.mark.parametrize("kind", ["Mistral", "Phi3", "Gemma2", "Gemma3Text", "GptOss", "Qwen2"])
def test_a_sliding_window_is_a_window(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(trunk, "MIN_SAVED_TOKENS", 0)  # a level of its own for the header, however short
    policy = saved(tmp_path, kind)
    decoder = load_decoder(policy, torch.float32, "cpu")
    assert isinstance(decoder, TransformersDecoder)
    assert decoder.max_context == 256
    engine, model = LocalEngine(dtype="float32", device="cpu", max_batch_size=5), reference(policy)
    asked = [Request((Message("user", text),), Sampling(temperature=0.0, max_tokens=24)) for text in TEXTS]

    async def go() -> list[Any]:
        return await asyncio.gather(*(engine.sample(policy, one) for one in asked))

    for one, sample in zip(asked, asyncio.run(go()), strict=True):
        assert sample.token_ids == greedy(model, prompt_ids(policy, one.prompt), 24)
    engine.close()


@pytest.mark.parametrize(
    ("kind", "settings", "fused"),
    [
        ("Mistral", {"sliding_window": None}, True),
        ("Mistral", {"sliding_window": 256}, True),  # as wide as the context
        ("Mistral", {"sliding_window": 255}, False),
        ("Qwen2", {"use_sliding_window": False}, True),
        ("Qwen2", {}, False),
    ],
)
def test_a_window_that_hides_nothing_costs_nothing(tmp_path: Path, kind: str, settings: Any, fused: bool) -> None:
    import torch

    decoder = load_decoder(saved(tmp_path, kind, **settings), torch.float32, "cpu")
    assert isinstance(decoder, LlamaDecoder) == fused
    assert isinstance(live_decoder(reference(Policy("x", tmp_path))), LlamaDecoder) == fused


def test_a_window_that_the_configuration_leaves_to_the_default_is_one(tmp_path: Path) -> None:
    import json

    import torch

    policy = saved(tmp_path, "Mistral", max_position_embeddings=8192)
    config = json.loads((policy.path / "config.json").read_text("utf-8"))
    del config["sliding_window"]  # 4096, says transformers
    (policy.path / "config.json").write_text(json.dumps(config), "utf-8")
    decoder = load_decoder(resolve(tmp_path), torch.float32, "cpu")
    assert isinstance(decoder, TransformersDecoder)
    assert (decoder._mask_kind, decoder._window) == ("windowed", 4096)


def test_a_window_that_the_model_does_not_heed_is_none(tiny: Any) -> None:
    model = reference(tiny("llama"))
    model.config.sliding_window = 16  # means nothing to a llama
    decoder = TransformersDecoder(model, "cpu")
    assert (decoder._mask_kind, decoder.max_context, model.config.sliding_window) == ("plain", 256, 16)


@pytest.mark.parametrize("change", [{"sliding_window": 0}, {"layer_types": ["chunked_attention"] * 2}])
def test_what_is_not_understood_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    import torch

    policy = saved(tmp_path, "Gemma2" if "layer_types" in change else "Mistral")
    edit_json(policy.path / "config.json", **change)
    with pytest.raises(BadInput, match="cannot load the model") as caught:
        load_decoder(resolve(tmp_path), torch.float32, "cpu")
    assert "\n" not in str(caught.value)
