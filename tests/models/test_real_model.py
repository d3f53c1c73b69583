"""The real smollm2-135m: the right tokens, how much bfloat16 costs, and how soon the first token comes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from selftaught.engines.base import Request, Sampling
from selftaught.engines.local.engine import LocalEngine
from selftaught.errors import BadInput
from selftaught.models import ChatTokenizer, resolve
from selftaught.records import Message
from tiny_models import greedy, prompt_ids, reference

pytestmark = pytest.mark.real
ASKED = tuple((Message("user", text),) for text in ("What is 2 + 3?", "Name the capital of France.", "Count to five."))


@pytest.fixture
def policy(users_cache: Path) -> Any:
    try:
        return resolve("smollm2-135m")
    except BadInput as error:
        if "could not download" not in str(error):
            raise
        pytest.skip(str(error))


def answers(policy: Any, dtype: str) -> list[Any]:
    engine = LocalEngine(dtype=dtype, device="cpu", max_batch_size=2)

    async def go() -> list[Any]:
        how = Sampling(temperature=0.0, max_tokens=16)
        return await asyncio.gather(*(engine.sample(policy, Request(prompt, how)) for prompt in ASKED))

    try:
        return asyncio.run(go())
    finally:
        engine.close()


def test_greedy_in_float32_is_generate(policy: Any) -> None:
    model, tokenizer = reference(policy), ChatTokenizer(policy.weights)
    found = answers(policy, "float32")
    for prompt, sample in zip(ASKED, found, strict=True):
        ids = prompt_ids(policy, prompt)
        assert tokenizer.encode_prompt(prompt) == ids
        assert sample.token_ids == greedy(model, ids, 16, sorted(tokenizer.eos_ids))
    assert "Paris" in found[1].text


def test_bfloat16_stays_near_float32(policy: Any) -> None:
    text = "The capital of France is Paris, a city on the river Seine."
    found = {}
    for dtype in ("float32", "bfloat16"):
        engine = LocalEngine(dtype=dtype, device="cpu")
        found[dtype] = asyncio.run(engine.loglikelihood(policy, ASKED[1], text)).logprobs
        engine.close()
    gaps = [abs(a - b) for a, b in zip(*found.values(), strict=True)]
    print(f"bfloat16 - float32, |log p| ({len(gaps)} tokens): mean {sum(gaps) / len(gaps):.3f}, max {max(gaps):.3f}")
    assert 0 < sum(gaps) / len(gaps) < 0.15
    assert max(gaps) < 0.6


FIRST = """
import asyncio
from selftaught.engines.base import Request, Sampling
from selftaught.engines.local.engine import LocalEngine
from selftaught.models import resolve
from selftaught.records import Message
engine = LocalEngine()
asked = Request((Message("user", "hi"),), Sampling(max_tokens=1))
print(len(asyncio.run(engine.sample(resolve("smollm2-135m"), asked)).token_ids))
engine.close()
"""


def test_a_fresh_process_soon_has_its_first_token(policy: Any) -> None:
    ChatTokenizer(policy.weights)  # a warm cache
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", FIRST], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]
    took = time.perf_counter() - began
    print(f"first token of a fresh process after {took:.1f} s")
    assert took < 12
