"""Answers that are the same to the last bit, whatever is sampled beside them, and a model that cannot promise it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from selftaught.engines import EngineConfig, create_engine
from selftaught.engines.base import Request, Sample, Sampling
from selftaught.engines.local.batch_invariance import ROWS, batch_dependent_sizes, require_batch_invariance
from selftaught.engines.local.decoder import load_decoder
from selftaught.engines.local.engine import LocalEngine
from selftaught.errors import BadInput
from selftaught.models import Policy
from selftaught.records import Message
from tiny_models import FUSED, reference

TEXTS = ("hi", "what is 2 + 3?", "a" * 40, "tell me a story " * 5, "tell me a story " * 4 + "now", "x")


def requests(count: int = 48) -> list[Request]:
    """Groups of samples of prompts of many lengths, some of which begin alike."""
    how = [Sampling(temperature=1.0, max_tokens=12 + 30 * (place % 3 == 0)) for place in range(count)]
    return [
        Request((Message("user", TEXTS[place // 4 % len(TEXTS)]),), how[place], seed=place) for place in range(count)
    ]


def answers(engine: LocalEngine, policy: Policy, asked: Sequence[Request]) -> dict[int, tuple[Any, ...]]:
    """Tokens and log-probabilities by seed."""

    async def go() -> list[Sample]:
        return await asyncio.gather(*(engine.sample(policy, one) for one in asked))

    found = asyncio.run(asyncio.wait_for(go(), 60))
    return {one.seed: (s.token_ids, s.logprobs, s.text) for one, s in zip(asked, found, strict=True)}


def test_long_neighbors_change_nothing(tiny: Any) -> None:
    """A sum over blocks is one over the longest row's, whose order must not follow from their number."""
    policy, how = tiny("llama"), Sampling(temperature=1.0, max_tokens=12)
    prompts = [Message("user", "ab " * 51 + "c" * number) for number in range(6)]
    asked = [Request((prompt,), how, seed=number) for number, prompt in enumerate(prompts)]
    longer = [Request((Message("user", "xy " * 70 + "z" * number),), how, seed=10 + number) for number in range(3)]
    engine = LocalEngine(device="cpu", batch_invariant=True)
    alone, beside = answers(engine, policy, asked), answers(engine, policy, [*asked, *longer])
    engine.close()
    assert {seed: beside[seed] for seed in alone} == alone


@pytest.mark.parametrize("kind", FUSED)
def test_answers_are_the_same_to_the_last_bit_in_any_company(tiny: Any, kind: str) -> None:
    policy, every = tiny(kind), requests()
    alone = LocalEngine(device="cpu", max_batch_size=1, batch_invariant=True)
    first = answers(alone, policy, every)
    alone.close()
    for size, some in ((48, every), (5, every[::-1]), (16, random.Random(0).sample(every, 23)), (48, every[7:8])):
        together = LocalEngine(device="cpu", max_batch_size=size, batch_invariant=True)
        assert answers(together, policy, some) == {one.seed: first[one.seed] for one in some}
        together.close()
    plain = LocalEngine(dtype="float32", device="cpu", max_batch_size=48)
    shared = answers(plain, policy, every)  # what it is compared with, but for the last bits
    plain.close()
    assert sum(first[seed][0] == shared[seed][0] for seed in shared) >= len(shared) - 1


def test_weights_in_training_are_sampled_so_too(tiny: Any) -> None:
    policy, every = tiny("llama"), requests()
    model, found = reference(policy), list[dict[int, tuple[Any, ...]]]()
    engine = LocalEngine(device="cpu", batch_invariant=True)
    for count in (48, 3):
        engine.attach_model(Policy(f"step-{count}", policy.path), model)
        found.append(answers(engine, Policy(f"step-{count}", policy.path), every[:count]))
    with torch.no_grad():
        model.lm_head.weight.mul_(3.0)
    engine.attach_model(Policy("later", policy.path), model)
    later = answers(engine, Policy("later", policy.path), every[:3])
    engine.close()
    assert found[1] == {seed: found[0][seed] for seed in range(3)}
    assert all(later[seed][1] != found[1][seed][1] for seed in range(3))  # it sees each step's weights


def test_a_model_trained_in_bfloat16_is_refused(tiny: Any) -> None:
    policy, engine = tiny("llama"), LocalEngine(device="cpu", batch_invariant=True)
    answers(engine, policy, requests(2))
    with pytest.raises(BadInput, match=r"^--deterministic: the model in training is in bfloat16; train with"):
        engine.attach_model(Policy("step", policy.path), reference(policy).bfloat16())
    engine.close()


class Dependent:
    """A model whose logits depend on the number of rows, as of a product that is split among threads."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def forward(self, ids: Any, run: Any, wanted: Any = None) -> Any:
        logits = self._decoder.forward(ids, run, wanted)
        return logits * (1 + 1e-6) if len(ids) == ROWS[3] else logits


def test_a_model_that_depends_on_the_batch_is_found_and_refused(tiny: Any) -> None:
    policy = tiny("llama")
    decoder = load_decoder(policy, torch.float32, "cpu")
    assert batch_dependent_sizes(decoder) == []
    with torch.inference_mode():
        assert batch_dependent_sizes(Dependent(decoder)) == [ROWS[3]]
    with pytest.raises(BadInput, match=rf"^--deterministic: .*{ROWS[3]} rows and {ROWS[-1]}.*; leave it out"):
        require_batch_invariance(Dependent(decoder), policy)


@pytest.mark.parametrize(
    ("model", "options", "why"),
    [
        ("tiny", {"dtype": "bfloat16"}, "bfloat16 sums in an order .* use --dtype float32"),
        ("tiny", {"engine": "vllm"}, "an endpoint and vLLM decide for themselves"),
        ("openai:model", {}, "an endpoint and vLLM decide for themselves"),
    ],
)
def test_what_cannot_be_deterministic_is_one_line(model: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=f"^--deterministic: {why}"):
        create_engine(model, EngineConfig(deterministic=True, **options))
