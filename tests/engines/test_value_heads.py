"""Value heads read by the local engine: equal to transformers' forward pass and the head's own weights."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from selftaught.engines import HeadValues
from selftaught.engines.local import prefill
from selftaught.engines.local.engine import LocalEngine
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.learn.learner import train_policy
from selftaught.learn.objectives import orm
from selftaught.models import Policy
from selftaught.records import Label, Prompt, as_prompt
from tiny_models import make_policy, prompt_ids, reference

LABELS = [Label(as_prompt(f"q{i}"), "yes" if i % 2 else "no way", bool(i % 2)) for i in range(8)]
TEXTS = [(as_prompt(f"question {i % 3}"), "a naïve line\nand ☕ another\n" * (i % 4)) for i in range(9)]


def trained(folder: Path, kind: str, rank: int = 0) -> Policy:
    base = make_policy(folder / "base", kind)
    how = TrainConfig(epochs=3, batch_size=8, learning_rate=5e-3, lora_rank=rank, precision="float32")
    return train_policy(base, orm(), LABELS, how, seed=0, folder=folder / "policies")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return trained(tmp_path_factory.mktemp("scored"), "llama")


def read(engine: LocalEngine, policy: Policy, asked: Sequence[tuple[Prompt, str, Sequence[int]]]) -> list[HeadValues]:
    async def go() -> list[HeadValues]:
        return await asyncio.gather(*(engine.scores(policy, *one) for one in asked))

    return asyncio.run(go())


def by_transformers(policy: Policy, prompt: Prompt, text: str) -> tuple[int, list[float]]:
    """Tokens of the prompt, and the head's number after each token, by transformers, peft and safetensors alone."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    model: Any = reference(policy.base if policy.adapter else policy)
    if policy.adapter:
        model = PeftModel.from_pretrained(model, str(policy.path)).eval()
    head, ids = load_file(policy.path / "value_head" / "head.safetensors"), prompt_ids(policy, prompt)
    after = AutoTokenizer.from_pretrained(str(policy.weights))(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        hidden = model(torch.tensor([[*ids, *after]]), output_hidden_states=True).hidden_states[-1][0]
    return len(ids), (hidden @ head["weight"][0] + head["bias"][0]).tolist()


@pytest.mark.parametrize(("kind", "rank"), [("llama", 0), ("gpt2", 0), ("qwen3", 4)])
def test_a_head_reads_what_transformers_and_its_weights_compute(tmp_path: Path, kind: str, rank: int) -> None:
    policy = trained(tmp_path, kind, rank)
    engine = LocalEngine(dtype="float32", device="cpu", max_batch_size=4)
    asked = [
        (prompt, text, (len(text),) if i % 2 else (0, len(text) // 2, 1)) for i, (prompt, text) in enumerate(TEXTS)
    ]
    for (prompt, text, ends), found in zip(asked, read(engine, policy, asked), strict=True):
        tokens, values = by_transformers(policy, prompt, text)
        places = [tokens - 1 + len(text[:end].encode()) for end in ends]  # a byte is a token
        assert found.values == pytest.approx([values[at] for at in places], abs=1e-4)
        assert found.prompt_tokens == max(places) + 1
    engine.close()


def test_reading_many_answers_passes_no_token_twice(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The positions that go through the model are those of the distinct prompts and of the answers, or fewer."""
    passed = []
    forward = prefill.Prefiller._forward

    def counted(self: Any, requests: Any, starts: Any, cache: Any) -> Any:
        passed.append(sum(len(r.ids) - start for r, start in zip(requests, starts, strict=True)))
        return forward(self, requests, starts, cache)

    monkeypatch.setattr(prefill.Prefiller, "_forward", counted)
    engine = LocalEngine(dtype="float32", device="cpu")
    asked = [(as_prompt(f"a question of some length {i % 4}"), f"answer {i} of them", (16,)) for i in range(64)]
    found = read(engine, policy, asked)
    prompts = sum(found[i].prompt_tokens - len(asked[i][1]) for i in range(4))
    assert sum(passed) <= prompts + sum(len(text) + 1 for _, text, _ in asked)
    engine.close()


def test_a_policy_with_a_head_is_sampled_as_one_without(policy: Policy) -> None:
    from selftaught.engines import Request, Sampling
    from tiny_models import greedy

    engine, prompt = LocalEngine(dtype="float32", device="cpu"), as_prompt("hello")
    read(engine, policy, [(prompt, "some text", (4,))])
    sample = asyncio.run(engine.sample(policy, Request(prompt, Sampling(temperature=0.0, max_tokens=12))))
    assert sample.token_ids == greedy(reference(policy), prompt_ids(policy, prompt), 12)
    engine.close()


def test_a_head_that_does_not_fit_is_one_line(policy: Policy, tiny: Any, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    engine = LocalEngine(dtype="float32", device="cpu")
    assert read(engine, policy, [(as_prompt("q"), "text", ())]) == [HeadValues((), 0)]
    with pytest.raises(BadInput, match="it has no value head; train one"):
        read(engine, tiny("gpt2"), [(as_prompt("q"), "text", (4,))])
    for shape, line in (
        ((1, 7), "reads 7 numbers per token and the model has 48; use the head with"),
        ((3, 48), "returns 3 numbers per token, not one score"),
    ):
        folder = tmp_path / str(shape[0])
        shutil.copytree(policy.path, folder)
        wrong = {"weight": torch.ones(shape), "bias": torch.ones(shape[0])}
        save_file(wrong, folder / "value_head" / "head.safetensors")
        with pytest.raises(BadInput, match=line):
            read(engine, Policy(f"wrong{shape}", folder), [(as_prompt("q"), "text", (4,))])
    assert len(read(engine, policy, [(as_prompt("q"), "text", (4,))])[0].values) == 1
    engine.close()
