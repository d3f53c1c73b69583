"""Samples in a file: found again by another process, under what they were asked with."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from selftaught.check.cached_engine import CachedEngine
from selftaught.check.sample_store import STORE_FILE, SampleStore
from selftaught.engines import Engine, Request, Sample, Sampling, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.records import Message
from selftaught.testing.sums import base_policy, solve_sum

ASKED = Request((Message("user", "What is 2 + 3?"),), Sampling(temperature=0.7), seed=5)
SAMPLE = Sample("Answer: 5", (1, 2), (-0.125, -0.25), "stop", 7, "base", stop_text="\n", self_certainties=(0.5, 1.5))


def test_a_sample_is_found_again_by_the_next_process_and_only_under_its_own_request(tmp_path: Path) -> None:
    first = SampleStore(tmp_path, "local float32")
    first.put("base", ASKED, SAMPLE)
    second = SampleStore(tmp_path, "local float32")  # while the first is open
    assert second.get("base", ASKED) == SAMPLE
    assert second.get("other", ASKED) is None
    assert second.get("base", replace(ASKED, seed=6)) is None
    assert SampleStore(tmp_path, "vllm bfloat16").get("base", ASKED) is None
    second.put("base", ASKED, replace(SAMPLE, text="another"))
    assert first.get("base", ASKED) == SAMPLE


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / STORE_FILE).write_text("not a database, and longer than a header of one would be" * 20)
    with pytest.raises(BadInput, match=r"samples cannot be kept there.*remove it"):
        SampleStore(tmp_path, "local")


def test_a_damaged_sample_is_one_line(tmp_path: Path) -> None:
    base, store = base_policy(tmp_path), SampleStore(tmp_path, "scripted")
    store.put(base.version, ASKED, Sample("x", (1,), (-0.5,)))
    store._db.execute("UPDATE samples SET payload = replace(payload, 'BAQ==', 'B!')")
    with pytest.raises(BadInput, match=r"a sample in it is damaged .*; remove it: what it holds is sampled again"):
        store.get(base.version, ASKED)


def test_a_greedy_answer_is_one_whatever_the_seed_and_a_trained_policys_samples_stay_out(tmp_path: Path) -> None:
    base, engine, store = base_policy(tmp_path), ScriptedEngine(solve_sum), SampleStore(tmp_path, "scripted")
    trained = replace(base, version="trained")

    def ask(policy, request) -> Sample:  # type: ignore[no-untyped-def]
        fresh = CachedEngine(cast(Engine, engine), {}, store, [base.version])
        return asyncio.run(fresh.sample(policy, request))

    greedy = replace(ASKED, sampling=Sampling(temperature=0.0))
    texts = {ask(base, replace(greedy, seed=seed)).text for seed in range(3)}
    assert (len(texts), engine.calls) == (1, 1)
    for _ in range(2):
        ask(trained, ASKED)
    assert engine.calls == 3
