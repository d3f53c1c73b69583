"""The local engine against transformers: tokens, log-probabilities, and what happens when things go wrong."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftaught.engines.base import EngineError, Request, RequestRefused, Sample, Sampling
from selftaught.engines.local import shared_prefixes as trunk
from selftaught.engines.local.decoder import load_decoder
from selftaught.engines.local.engine import LocalEngine
from selftaught.engines.local.llama import LlamaDecoder
from selftaught.errors import BadInput
from selftaught.models import Policy
from selftaught.records import Message
from selftaught.tasks.extract import Kind, find_answer
from tiny_models import CHATML, FUSED, KINDS, edit_json, greedy, make_policy, prompt_ids, reference, teacher_forced

TEXTS = ["hi", "what is 2 + 3?", "a" * 40, "tell me a story " * 5, "x", "naïve café ☕", "1,2,3,4,5,6"]


def ask(text: str, *, seed: int = 0, prefix: str = "", **sampling: Any) -> Request:
    return Request(
        (Message("user", text),), Sampling(**{"temperature": 0.0, "max_tokens": 12, **sampling}), seed, prefix
    )


def crowd(count: int = 15, **sampling: Any) -> list[Request]:
    """Requests of different prompt lengths and limits, some sharing a prompt."""
    return [ask(TEXTS[i % 7] + "!" * (i % 4), seed=i, max_tokens=1 + (i * 5) % 17, **sampling) for i in range(count)]


def run(engine: LocalEngine, asked: Sequence[tuple[Policy, Request]]) -> list[Any]:
    """Samples, or the exceptions in their places."""

    async def go() -> list[Any]:
        return await asyncio.gather(*(engine.sample(p, r) for p, r in asked), return_exceptions=True)

    return asyncio.run(asyncio.wait_for(go(), 60))


def served(engine: LocalEngine, policy: Policy, requests: Sequence[Request]) -> list[Sample]:
    found = run(engine, [(policy, r) for r in requests])
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


@pytest.fixture
def engine() -> Any:
    made = LocalEngine(dtype="float32", device="cpu", max_batch_size=3)
    yield made
    made.close()


@pytest.mark.parametrize(("kind", "fused"), [*((k, True) for k in FUSED), *((k, False) for k in KINDS)])
def test_greedy_is_generate_token_for_token(tiny: Any, kind: str, fused: bool) -> None:
    policy, engine = tiny(kind), LocalEngine(dtype="float32", device="cpu", max_batch_size=3, fused=fused)
    model = reference(policy)
    requests = crowd()
    found = served(engine, policy, requests)
    for request, sample in zip(requests, found, strict=True):
        ids = prompt_ids(policy, request.prompt)
        assert sample.token_ids == greedy(model, ids, request.sampling.max_tokens)
        assert sample.prompt_tokens == len(ids)
        assert sample.finish_reason == ("stop" if sample.token_ids[-1] == 3 else "length")
        assert sample.policy == policy.version
    engine.close()


@pytest.mark.parametrize("kind", KINDS)
def test_which_architectures_have_a_fused_pass(tiny: Any, kind: str) -> None:
    import torch

    decoder = load_decoder(tiny(kind), torch.float32, "cpu")
    assert isinstance(decoder, LlamaDecoder) == (kind in FUSED)


@pytest.mark.parametrize(("kind", "fused"), [("llama", True), ("qwen3", True), ("gpt2", False)])
def test_logprobs_are_those_of_the_untempered_model(tiny: Any, kind: str, fused: bool) -> None:
    policy, engine = tiny(kind), LocalEngine(dtype="float32", device="cpu", max_batch_size=4, fused=fused)
    model = reference(policy)
    requests = [*crowd(6, temperature=0.7, top_p=0.9), *crowd(4, temperature=1.5, top_k=20), *crowd(3)]
    for request, sample in zip(requests, served(engine, policy, requests), strict=True):
        true = teacher_forced(model, prompt_ids(policy, request.prompt), sample.token_ids)
        assert sample.logprobs == pytest.approx(true, abs=1e-4)
    text = " an answer, naïve"
    prompt = requests[1].prompt
    found = asyncio.run(engine.loglikelihood(policy, prompt, text))
    scored = found.logprobs
    after = _plain_ids(policy, text)
    assert scored == pytest.approx(teacher_forced(model, prompt_ids(policy, prompt), after), abs=1e-4)
    assert len(scored) == len(text.encode())
    assert found.prompt_tokens == len(prompt_ids(policy, prompt))
    engine.close()


def _plain_ids(policy: Policy, text: str) -> list[int]:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(policy.path))(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("rows", [1, 4, 40])
def test_a_request_gets_the_same_tokens_in_any_company(tiny: Any, rows: int) -> None:
    policy = tiny("llama")
    alone = LocalEngine(dtype="float32", device="cpu", max_batch_size=1)
    together = LocalEngine(dtype="float32", device="cpu", max_batch_size=rows)
    requests = [
        ask(TEXTS[i % 7], seed=i % 5, temperature=1.0, top_p=(1.0, 0.9)[i % 2], max_tokens=10) for i in range(40)
    ]
    singly = [served(alone, policy, [r])[0] for r in requests]
    at_once = served(together, policy, requests)
    assert [s.token_ids for s in at_once] == [s.token_ids for s in singly]
    assert at_once[0].token_ids != at_once[7].token_ids  # the same question under another seed
    alone.close()
    together.close()


def test_end_of_sequence_stops_and_is_no_text(tiny: Any, tmp_path: Path, engine: LocalEngine) -> None:
    whole = tiny("llama")
    ids = prompt_ids(whole, ask("hi").prompt)
    free = greedy(reference(whole), ids, 12, eos=())
    at = next(i for i in range(3, 12) if free[i] not in free[:i])  # made an end of sequence in a copy
    shutil.copytree(whole.path, tmp_path / "m")
    edit_json(tmp_path / "m" / "generation_config.json", eos_token_id=[3, free[at]])
    from selftaught.models import resolve

    (sample,) = served(engine, resolve(tmp_path / "m"), [ask("hi", max_tokens=30)])
    assert sample.finish_reason == "stop"
    assert sample.token_ids == free[: at + 1]
    assert len(sample.logprobs) == at + 1
    from transformers import AutoTokenizer

    assert sample.text == AutoTokenizer.from_pretrained(str(whole.path)).decode(free[:at], skip_special_tokens=True)


def test_stop_strings_cut_and_unmet_ones_do_not(tiny: Any, engine: LocalEngine) -> None:
    policy = tiny("llama", seed=1)
    (full,) = served(engine, policy, [ask("hi", max_tokens=24)])
    assert full.finish_reason == "length"
    assert len(full.token_ids) == 24
    stop = next(c for c in full.text if c.isascii() and full.text.index(c) > 2)
    met, first, never = served(
        engine,
        policy,
        [
            ask("hi", max_tokens=24, stop=(stop,)),
            ask("hi", max_tokens=24, stop=("\0never\0", stop)),
            ask("hi", max_tokens=24, stop=("\0never\0",)),
        ],
    )
    assert met.finish_reason == first.finish_reason == "stop"
    assert met.text == first.text == full.text[: full.text.index(stop)]
    assert met.token_ids == full.token_ids[: len(met.token_ids)]
    assert len(met.token_ids) < 24
    assert (never.text, never.token_ids, never.finish_reason) == (full.text, full.token_ids, "length")


def test_a_stop_string_is_met_wherever_it_ends(tiny: Any) -> None:
    """Long answers, where only their end is looked at: the cut is that of the whole text."""
    policy, engine = tiny("llama", context=1024), LocalEngine(dtype="float32", device="cpu", max_batch_size=8)
    free = [ask("hi", seed=seed, temperature=1.0, max_tokens=300) for seed in range(4)]
    for request, full in zip(free, served(engine, policy, free), strict=True):
        places = [len(full.text) * share // 8 for share in range(1, 8)]
        stops = [full.text[at : at + 5] for at in places if "\ufffd" not in full.text[at : at + 5]]
        limits = [replace(request.sampling, stop=("\0" * 70, stop)) for stop in stops if stop]
        cut = served(engine, policy, [replace(request, sampling=one) for one in limits])
        for one, limit in zip(cut, limits, strict=True):
            assert one.text == full.text[: full.text.index(limit.stop[1])]
            assert one.token_ids == full.token_ids[: len(one.token_ids)]
            assert one.finish_reason == "stop"
    engine.close()


@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"temperature": 1.0}, {"temperature": 0.8, "top_p": 0.9}])
def test_an_answer_goes_on_from_its_tokens_as_if_never_cut(tiny: Any, engine: LocalEngine, how: dict[str, Any]) -> None:
    policy = tiny("llama", seed=1)
    for i, text in enumerate(TEXTS):
        request = ask(text, seed=i, prefix="So", max_tokens=30, **how)
        (whole,) = served(engine, policy, [request])
        tokens, logprobs, said = (), (), ""
        for most in (1, 9, 20):
            if tokens[-1:] == (3,):
                break
            part = replace(request, sampling=replace(request.sampling, max_tokens=most), prefix_tokens=tokens)
            (sample,) = served(engine, policy, [part])
            tokens, logprobs, said = tokens + sample.token_ids, logprobs + sample.logprobs, said + sample.text
        assert tokens == whole.token_ids
        assert logprobs == pytest.approx(whole.logprobs, abs=1e-4)
        assert said.replace("\ufffd", "") == whole.text.replace("\ufffd", "")


def test_distributions_and_entropies_where_asked_for(tiny: Any, engine: LocalEngine) -> None:
    import torch

    policy = tiny("qwen3")
    model = reference(policy)
    asked = [
        replace(ask(t, seed=i, temperature=1.3, top_k=9), top_logprobs=(None, 0, 3)[i % 3]) for i, t in enumerate(TEXTS)
    ]
    for request, sample in zip(asked, served(engine, policy, asked), strict=True):
        if request.top_logprobs is None:
            assert sample.top_logprobs == sample.entropies == sample.self_certainties == ()
            continue
        ids = prompt_ids(policy, request.prompt)
        with torch.inference_mode():
            logits = model(torch.tensor([[*ids, *sample.token_ids]])).logits[0, len(ids) - 1 : -1].double()
        logp = torch.log_softmax(logits, -1)
        assert sample.entropies == pytest.approx((-(logp.exp() * logp).sum(-1)).tolist(), abs=1e-4)
        uniform = torch.full_like(logp, 1 / logp.shape[1])
        divergence = torch.nn.functional.kl_div(logp, uniform, reduction="none").sum(-1)
        assert sample.self_certainties == pytest.approx(divergence.tolist(), abs=1e-4)
        best, index = logp.topk(request.top_logprobs, -1)
        assert [[token for token, _ in step] for step in sample.top_logprobs] == index.tolist()
        assert [value for step in sample.top_logprobs for _, value in step] == pytest.approx(
            best.flatten().tolist(), abs=1e-4
        )


@pytest.mark.parametrize(("kind", "fused"), [("llama", True), ("gpt2", False)])
@pytest.mark.parametrize("cache_gib", [2.0, 3e-4])
@pytest.mark.parametrize("saving", [trunk.MIN_SAVED_TOKENS, 0])
def test_shared_beginnings_change_no_token(
    monkeypatch: pytest.MonkeyPatch, tiny: Any, kind: str, fused: bool, cache_gib: float, saving: int
) -> None:
    """A header, prompts under it, partial answers and next turns, asked in every order, are each as on their own."""
    monkeypatch.setattr(trunk, "MIN_SAVED_TOKENS", saving)
    held: set[bool] = set()
    place = trunk.PrefixPool.add
    monkeypatch.setattr(
        trunk.PrefixPool, "add", lambda *a, shareable=False: (held.add(shareable), place(*a, shareable=shareable))[1]
    )
    policy = tiny(kind)
    model = reference(policy)
    engine = LocalEngine(dtype="float32", device="cpu", max_batch_size=7, fused=fused, cache_gib=cache_gib)
    header = Message("system", "Be brief, be right, and show every step of what you do. " * 2)
    asked = []
    for i in range(6):
        talk = (header, Message("user", f"question {i % 3} of many"))
        asked += [Request(talk, Sampling(temperature=0.0, max_tokens=5 + i), seed=i)] * 2
        asked.append(
            Request(talk, Sampling(temperature=0.0, max_tokens=6), prefix="First, let me think. " * (i % 2 + 1))
        )
        turns = (*talk, Message("assistant", "an answer"), Message("user", "are you sure?"))
        asked.append(Request(turns, Sampling(temperature=0.0, max_tokens=7)))
    true = {}
    for request in asked:
        ids = prompt_ids(policy, request.prompt) + (_plain_ids(policy, request.prefix) if request.prefix else [])
        true[request] = greedy(model, ids, request.sampling.max_tokens)
    for order in range(3):
        shuffled = random.Random(order).sample(asked, len(asked))
        for request, sample in zip(shuffled, served(engine, policy, shuffled), strict=True):
            assert sample.token_ids == true[request]
    assert (True in held) == (not saving) or cache_gib < 1  # where memory is short, few run at a time
    engine.close()


def test_many_answers_to_one_prompt_hold_it_once(tiny: Any) -> None:
    """Memory grows with the tokens held, not with answers times prompt."""
    policy = tiny("llama", context=1024)
    sizes = {}
    for count in (1, 32):
        engine = LocalEngine(dtype="float32", device="cpu", max_batch_size=32)
        asked = [ask("a long question " * 30, seed=i, temperature=1.0, max_tokens=30) for i in range(count)]
        prompt = served(engine, policy, asked)[0].prompt_tokens
        (batch,) = engine._policies.batches.values()
        sizes[count] = batch.peak_tokens
        engine.close()
    assert prompt > 480
    assert sizes[32] <= sizes[1] + 32 * 32 + 32 * 32
    assert sizes[32] < 32 * prompt / 4


def test_a_queue_far_beyond_the_budget_is_served_within_it(tiny: Any) -> None:
    policy = tiny("llama")
    small = LocalEngine(dtype="float32", device="cpu", max_batch_size=64, cache_gib=1024 * 2000 / 2**30)
    asked = [ask(TEXTS[i % 7], seed=i, temperature=1.0, max_tokens=1 + i % 8) for i in range(2000)]
    found = served(small, policy, asked)
    assert len(found) == 2000
    (batch,) = small._policies.batches.values()
    assert batch.peak_tokens * batch.bytes_per_token <= 1024 * 2000
    large = LocalEngine(dtype="float32", device="cpu", max_batch_size=64)
    assert [s.token_ids for s in served(large, policy, asked[:100])] == [s.token_ids for s in found[:100]]
    small.close()
    large.close()


def test_running_out_of_memory_shrinks_the_batch(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator of torch refuses for real: the engine asks for more than the address space holds."""
    import torch

    from selftaught.engines.local import batch as module

    policy, engine = tiny("llama"), LocalEngine(dtype="float32", device="cpu", max_batch_size=16)
    requests = crowd(20, temperature=1.0)
    want = [s.token_ids for s in served(engine, policy, requests)]
    step = module.ContinuousBatch.step

    def greedy_step(self: Any) -> None:
        if len(self.active) > 4:
            torch.empty(2**56, dtype=torch.uint8)
        step(self)

    monkeypatch.setattr(module.ContinuousBatch, "step", greedy_step)
    assert [s.token_ids for s in served(engine, policy, requests)] == want
    (held,) = engine._policies.batches.values()
    assert held.max_batch_size <= 4
    engine.close()


@pytest.mark.parametrize(("kind", "fused"), [("llama", True), ("gpt2", False)])
def test_scoring_many_texts_is_scoring_each(tiny: Any, kind: str, fused: bool) -> None:
    policy, engine = tiny(kind), LocalEngine(dtype="float32", device="cpu", max_batch_size=5, fused=fused)
    model = reference(policy)
    asked = [(ask(TEXTS[i % 4]).prompt, ("yes", "no, not at all", "", "naïve ☕ " * (i % 5))[i % 4]) for i in range(24)]

    async def go() -> list[Any]:
        return await asyncio.gather(*(engine.loglikelihood(policy, p, t) for p, t in asked))

    for (prompt, text), found in zip(asked, asyncio.run(go()), strict=True):
        true = teacher_forced(model, prompt_ids(policy, prompt), after) if (after := _plain_ids(policy, text)) else []
        assert found.logprobs == pytest.approx(true, abs=1e-4)
        assert found.prompt_tokens == len(prompt_ids(policy, prompt))
    engine.close()


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_a_live_model_is_sampled_as_it_is_at_every_step(tiny: Any, kind: str) -> None:
    import torch

    base, engine = tiny(kind), LocalEngine(dtype="float32", device="cpu", max_batch_size=4)
    model = reference(base)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    seen = set()
    for step in range(3):
        policy = Policy(f"{step:016x}", base.path, base)
        engine.attach_model(policy, model)
        requests = crowd(6)
        found = served(engine, policy, requests)
        for request, sample in zip(requests, found, strict=True):
            ids = prompt_ids(policy, request.prompt)
            assert sample.token_ids == greedy(model, ids, request.sampling.max_tokens)
            assert sample.policy == policy.version
        seen.add(found[-1].token_ids)
        model.train()
        model(torch.tensor([[5, 6, 7, 8]]), labels=torch.tensor([[5, 6, 7, 8]])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(seen) == 3
    old = Policy(f"{0:016x}", base.path / "gone", base)  # no longer in memory: it is loaded, or refused
    assert isinstance(run(engine, [(old, ask("hi"))])[0], BadInput)
    engine.close()
    with pytest.raises(EngineError):
        engine.attach_model(base, model)


def test_a_prefix_is_conditioned_on_and_not_sampled(tiny: Any, engine: LocalEngine) -> None:
    policy = tiny("llama")
    (sample,) = served(engine, policy, [ask("hi", prefix="The answer is ")])
    ids = prompt_ids(policy, ask("hi").prompt) + _plain_ids(policy, "The answer is ")
    assert sample.token_ids == greedy(reference(policy), ids, 12)
    assert "The answer is" not in sample.text


def test_refusals_touch_only_their_own_request(tiny: Any, engine: LocalEngine) -> None:
    policy = tiny("llama", context=64)
    edge = ask("y" * 30, max_tokens=500)
    left = 64 - len(prompt_ids(policy, edge.prompt))
    found = run(engine, [(policy, r) for r in (ask("hi"), ask("z" * 64), ask("hi", max_tokens=0), edge, ask("yo"))])
    assert [isinstance(f, RequestRefused) for f in found] == [False, True, True, False, False]
    assert "64" in str(found[1])
    assert found[3].token_ids == greedy(reference(policy), prompt_ids(policy, edge.prompt), left)
    with pytest.raises(RequestRefused):
        asyncio.run(engine.loglikelihood(policy, ask("hi").prompt, "w" * 64))


@pytest.mark.parametrize("fused", [True, False])
def test_nan_logits_refuse_one_request_and_spoil_no_row(tiny: Any, tmp_path: Path, fused: bool) -> None:
    from safetensors.torch import load_file, save_file

    good = tiny("llama")
    shutil.copytree(good.path, tmp_path / "m")
    weights = load_file(tmp_path / "m" / "model.safetensors")
    (poison,) = _plain_ids(good, "Z")
    weights["model.embed_tokens.weight"][poison] = float("nan")
    save_file(weights, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    from selftaught.models import resolve

    bad = resolve(tmp_path / "m")
    engine = LocalEngine(dtype="float32", device="cpu", max_batch_size=2, fused=fused)
    texts = ["hi", "this one is long enough to fill the row with ZZZ", "yo", "a further one", "Z", "and the last"]
    found = run(engine, [(bad, ask(t, max_tokens=9)) for t in texts])
    assert [isinstance(f, RequestRefused) for f in found] == ["Z" in t for t in texts]
    assert "NaN" in str(found[1])
    model = reference(bad)
    for text, sample in zip(texts, found, strict=True):
        if "Z" not in text:
            assert sample.token_ids == greedy(model, prompt_ids(good, ask(text).prompt), 9)
    engine.close()


def test_a_policy_that_does_not_load_fails_alone(tiny: Any, tmp_path: Path, engine: LocalEngine) -> None:
    good = tiny("llama")
    shutil.copytree(good.path, tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    cut, gone = Policy("c" * 16, tmp_path / "cut"), Policy("d" * 16, tmp_path / "gone")
    found = run(engine, [(good, ask("hi")), (cut, ask("hi")), (gone, ask("hi")), (good, ask("yo"))])
    assert [isinstance(f, BadInput) for f in found] == [False, True, True, False]
    assert [isinstance(f, Sample) for f in found] == [True, False, False, True]
    assert str(found[1]).startswith(f"{file}: cannot load the model (")
    assert str(found[2]).startswith(f"{tmp_path / 'gone' / 'config.json'}: no such file")


@pytest.mark.parametrize("held", [1, 2])
def test_each_policy_answers_with_its_own_weights(tiny: Any, held: int) -> None:
    engine = LocalEngine(dtype="float32", device="cpu", max_batch_size=3, max_policies=held)
    policies = [tiny("llama"), tiny("llama", seed=1)]
    asked = [(policies[i % 2], ask(TEXTS[i % 7], max_tokens=8)) for i in range(12)]
    models = {p.version: reference(p) for p in policies}
    for (policy, request), sample in zip(asked, run(engine, asked), strict=True):
        assert sample.policy == policy.version
        assert sample.token_ids == greedy(models[policy.version], prompt_ids(policy, request.prompt), 8)
    engine.close()


def test_release_forgets_and_the_next_request_loads_again(tiny: Any, engine: LocalEngine) -> None:
    served(engine, tiny("llama"), crowd(3))
    loads = engine.load_seconds
    engine.release()
    assert engine._policies.batches == {}
    served(engine, tiny("llama"), crowd(3))
    assert engine.load_seconds > loads


def test_a_tiny_cache_serves_everyone(tiny: Any, engine: LocalEngine) -> None:
    policy = tiny("llama")
    small = LocalEngine(dtype="float32", device="cpu", max_batch_size=64, cache_gib=1e-9)
    assert [s.token_ids for s in served(small, policy, crowd())] == [
        s.token_ids for s in served(engine, policy, crowd())
    ]
    small.close()


def test_an_adapter_is_merged(tiny: Any, tmp_path: Path, engine: LocalEngine) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    base = tiny("llama")
    torch.manual_seed(5)
    adapted = get_peft_model(
        reference(base), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(str(tmp_path / "a"))
    policy = Policy("a" * 16, tmp_path / "a", base, adapter=True)
    ids = prompt_ids(base, ask("hi").prompt)
    (sample,) = served(engine, policy, [ask("hi")])
    assert sample.token_ids == greedy(adapted.merge_and_unload(), ids, 12)
    assert sample.token_ids != served(engine, base, [ask("hi")])[0].token_ids


def test_a_base_model_without_template_continues_text(tmp_path: Path, engine: LocalEngine) -> None:
    policy = make_policy(tmp_path / "m", "gpt2", template=None)
    (sample,) = served(engine, policy, [ask("Once")])
    assert sample.token_ids == greedy(reference(policy), _plain_ids(policy, "Once\n\n"), 12)


def test_thinking_that_the_template_opened_and_the_answer_never_closes_holds_no_answer(
    tmp_path: Path, engine: LocalEngine
) -> None:
    opening = "<|im_start|>assistant\n<think>\n"
    policy = make_policy(tmp_path / "thinks", template=CHATML.replace("<|im_start|>assistant\n{%", opening + "{%"))
    sample = served(engine, policy, [ask("Answer: 5")])[0]
    assert sample.text.startswith("<think>\n")
    assert find_answer(f"{sample.text} Answer: 5", Kind.NUMBER) is None
    plain = make_policy(tmp_path / "plain", seed=0)
    assert not served(engine, plain, [ask("Answer: 5")])[0].text.startswith("<think>")
