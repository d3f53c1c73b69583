"""The engine on vLLM against the local engine, on vLLM itself: `make test-vllm` runs these."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from selftaught.engines.base import Engine, EngineError, Request, RequestRefused, Sample, Sampling
from selftaught.engines.local.engine import LocalEngine
from selftaught.engines.vllm.engine import VllmEngine
from selftaught.errors import BadInput
from selftaught.models import Policy, resolve
from selftaught.records import Message

pytestmark = pytest.mark.skipif(not find_spec("vllm"), reason="vllm is not installed here; make test-vllm")

SUMS = ("chain 30 -17 +20 -9", "chain 5 +18 +21 -13", "chain 27 -4 +23 -6", "chain 40 -11", "chain 1 +2 +3 +4 +5 +6 +7")


def ask(text: str = SUMS[0], *, seed: int = 0, **sampling: Any) -> Request:
    return Request((Message("user", text),), Sampling(**{"temperature": 0.0, "max_tokens": 60, **sampling}), seed)


def crowd(count: int = 15, **sampling: Any) -> list[Request]:
    """Requests of different prompt lengths and limits, some sharing a prompt."""
    return [ask(SUMS[i % 5], seed=i, max_tokens=1 + i * 5 % 47, **sampling) for i in range(count)]


def run(engine: Engine, asked: Sequence[tuple[Policy, Request]], within: float = 900) -> list[Any]:
    """Samples, or the exceptions in their places."""

    async def go() -> list[Any]:
        return await asyncio.gather(*(engine.sample(p, r) for p, r in asked), return_exceptions=True)

    return asyncio.run(asyncio.wait_for(go(), within))


def served(engine: Engine, policy: Policy, requests: Sequence[Request]) -> list[Sample]:
    found = run(engine, [(policy, r) for r in requests])
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def alike(one: Sample, other: Sample) -> None:
    """The same answer, but for the last digits of its log-probabilities."""
    assert replace(one, logprobs=(), top_logprobs=(), entropies=(), self_certainties=()) == replace(
        other, logprobs=(), top_logprobs=(), entropies=(), self_certainties=()
    )
    assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
    assert one.entropies == pytest.approx(other.entropies, abs=1e-3)
    assert one.self_certainties == pytest.approx(other.self_certainties, abs=1e-3)
    assert len(one.top_logprobs) == len(other.top_logprobs)
    for here, there in zip(one.top_logprobs, other.top_logprobs, strict=True):
        assert [value for _, value in here] == pytest.approx([value for _, value in there], abs=1e-3)
        assert all(a == b or abs(x - y) < 1e-3 for (a, x), (b, y) in zip(here, there, strict=True))


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    made = VllmEngine(dtype="float32", max_batch_size=16, cache_gib=0.25)
    yield made
    made.close()


@pytest.fixture(scope="module")
def local() -> Iterator[LocalEngine]:
    made = LocalEngine(dtype="float32", device="cpu", max_batch_size=16, max_policies=8)
    yield made
    made.close()


@pytest.fixture(scope="module")
def base() -> Policy:
    return resolve("underfit")


@pytest.fixture(scope="module")
def shaken(base: Policy, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Policy]:
    """`shaken(1)`: a policy of the base's shape with other weights."""

    def make(seed: int, edit: Callable[[dict[str, Any]], None] = lambda _: None) -> Policy:
        import shutil

        import torch
        from safetensors.torch import load_file, save_file

        folder = tmp_path_factory.mktemp("shaken") / str(seed)
        shutil.copytree(base.path, folder)
        weights = load_file(folder / "model.safetensors")
        torch.manual_seed(seed)
        for weight in weights.values():
            weight.add_(torch.randn_like(weight) * 0.02)
        edit(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return resolve(folder)

    return make


@pytest.fixture(scope="module")
def adapter(base: Policy, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Policy]:
    """`adapter(1)`: a policy that is a LoRA adapter of the base, or of another policy."""

    def make(seed: int, over: Policy = base, rank: int = 4, **config: Any) -> Policy:
        import torch
        from peft import LoraConfig, get_peft_model

        from selftaught.models.load import load_model

        torch.manual_seed(seed)
        how = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", init_lora_weights=False, **config)
        model: Any = get_peft_model(load_model(over, torch.float32), how)
        folder = tmp_path_factory.mktemp("adapter") / str(seed)
        model.save_pretrained(str(folder), save_embedding_layers=False)
        return Policy(f"{seed:016x}", folder, over, adapter=True)

    return make


def test_greedy_is_the_local_engine_token_for_token(engine: VllmEngine, local: LocalEngine, base: Policy) -> None:
    requests = [*crowd(), ask(max_tokens=400)]
    for one, other in zip(served(engine, base, requests), served(local, base, requests), strict=True):
        alike(one, other)
        assert one.policy == base.version
    assert {s.finish_reason for s in served(engine, base, requests)} == {"stop", "length"}


def test_a_seed_means_the_same_as_in_the_local_engine(engine: VllmEngine, local: LocalEngine, base: Policy) -> None:
    requests = [
        *crowd(12, temperature=1.0), *crowd(5, temperature=1.5, top_k=9), *crowd(5, temperature=0.8, top_p=0.7),
        *crowd(4, temperature=1.2, top_p=0.9, top_k=20), *crowd(3), ask(seed=2**80 + 1, temperature=1.0),
    ]  # fmt: skip
    together = served(engine, base, requests)
    for one, other in zip(together, served(local, base, requests), strict=True):
        alike(one, other)
    alone = [served(engine, base, [r])[0].token_ids for r in requests[::4]]
    assert alone == [s.token_ids for s in together[::4]]
    hot = served(engine, base, [ask(seed=seed, temperature=1.5) for seed in range(6)])
    assert len({s.token_ids for s in hot}) > 1


@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"temperature": 1.3}, {"temperature": 1.3, "top_p": 0.9}])
def test_an_answer_goes_on_from_its_tokens_as_if_never_cut(
    engine: VllmEngine, base: Policy, how: dict[str, Any]
) -> None:
    for seed, text in enumerate(SUMS):
        request = replace(ask(text, seed=seed, max_tokens=40, **how), prefix="1")
        (whole,) = served(engine, base, [request])
        first = replace(request, sampling=replace(request.sampling, max_tokens=7))
        (head,) = served(engine, base, [first])
        rest = replace(request, prefix_tokens=head.token_ids, sampling=replace(request.sampling, max_tokens=33))
        if head.finish_reason == "stop":
            continue
        (tail,) = served(engine, base, [rest])
        assert head.token_ids + tail.token_ids == whole.token_ids
        assert head.text + tail.text == whole.text
        assert head.logprobs + tail.logprobs == pytest.approx(whole.logprobs, abs=1e-3)


def test_stop_strings_cut_as_in_the_local_engine(engine: VllmEngine, local: LocalEngine, base: Policy) -> None:
    stops = [("=",), ("Answer",), ("\n", "20"), ("never",), ("15", "Answer: 1")]
    requests = [ask(SUMS[i % 5], seed=i, temperature=i % 2 * 1.0, stop=stops[i % len(stops)]) for i in range(12)]
    found = served(engine, base, requests)
    for one, other in zip(found, served(local, base, requests), strict=True):
        alike(one, other)
    assert all("=" not in s.text and s.finish_reason == "stop" for s in found[::5])


def test_distributions_and_entropies_where_asked_for(engine: VllmEngine, local: LocalEngine, base: Policy) -> None:
    requests = [replace(r, top_logprobs=(None, 0, 3)[i % 3]) for i, r in enumerate(crowd(9, temperature=1.2))]
    for request, one, other in zip(
        requests, served(engine, base, requests), served(local, base, requests), strict=True
    ):
        alike(one, other)
        asked = request.top_logprobs is not None
        assert (len(one.entropies), len(one.top_logprobs)) == ((len(one.token_ids),) * 2 if asked else (0, 0))


def test_log_probabilities_of_given_text(engine: VllmEngine, local: LocalEngine, base: Policy) -> None:
    texts = ["30-17=13\nAnswer: 13", "7", "", "Hello!", "x" * 490]

    async def score(of: Engine, text: str) -> tuple[float, ...]:
        return (await of.loglikelihood(base, ask().prompt, text)).logprobs

    async def go(of: Engine) -> list[tuple[float, ...]]:
        return await asyncio.gather(*(score(of, text) for text in texts))

    for text, one, other in zip(texts, asyncio.run(go(engine)), asyncio.run(go(local)), strict=True):
        assert one == pytest.approx(other, abs=1e-3)
        assert len(one) == len(text)
    left = 512 - served(engine, base, [ask(max_tokens=1)])[0].prompt_tokens
    assert len(asyncio.run(score(engine, "y" * left))) == left  # to the last place of the context
    with pytest.raises(RequestRefused, match="513 tokens to score and the model's context holds 512"):
        asyncio.run(score(engine, "y" * (left + 1)))


def test_refusals_touch_only_their_own_request(engine: VllmEngine, local: LocalEngine, base: Policy) -> None:
    edge = ask("y" * 480, max_tokens=500)
    asked = [ask(), ask("z" * 600), ask(max_tokens=0), edge, ask(SUMS[1])]
    found = run(engine, [(base, r) for r in asked])
    assert [isinstance(f, RequestRefused) for f in found] == [False, True, True, False, False]
    assert "context holds 512" in str(found[1])
    for one, request in zip(found, asked, strict=True):
        if isinstance(one, Sample):
            alike(one, served(local, base, [request])[0])
    assert found[3].prompt_tokens + found[3].tokens <= 512


# --- policies ---


def test_whole_weights_take_each_others_place(
    engine: VllmEngine, local: LocalEngine, base: Policy, shaken: Callable[..., Policy]
) -> None:
    policies = [base, shaken(1), shaken(2)]
    served(engine, base, [ask()])
    running = engine._server.llm
    long = "chain 30 -17 +20 -9 " * 8  # beyond a block of vLLM's cache of prefixes, which must not outlive the weights
    texts = set()
    for policy in (*policies, *policies):
        requests = [*crowd(6), ask(long), ask(long, seed=1, temperature=1.0)]
        found = served(engine, policy, requests)
        for one, other in zip(found, served(local, policy, requests), strict=True):
            alike(one, other)
            assert one.policy == policy.version
        texts.add(tuple(s.text for s in found))
    assert len(texts) == 3
    assert engine._server.llm is running  # without a restart
    asked = [(policies[i % 3], ask(SUMS[i % 5], max_tokens=8)) for i in range(12)]
    for (policy, request), one in zip(asked, run(engine, asked), strict=True):
        alike(one, served(local, policy, [request])[0])


def test_weights_of_another_shape_are_started_anew(
    engine: VllmEngine, local: LocalEngine, base: Policy, tiny: Any, tmp_path: Path
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from tiny_models import save_tokenizer

    def made(name: str) -> Policy:
        size = {"hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = LlamaConfig(
            **size, vocab_size=260, num_key_value_heads=1, head_dim=64, max_position_embeddings=256,
            initializer_range=0.15, eos_token_id=3, bos_token_id=1,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(str(tmp_path / name))
        save_tokenizer(tmp_path / name)
        return resolve(tmp_path / name)

    other = made("other")
    requests = [ask("what is 2 + 3?"), ask("naïve café ☕", seed=3, temperature=1.0), ask("hi", stop=("a", "e"))]
    for policy in (other, made("again")):  # the second in place of the first, with an output layer of its own
        for one, its in zip(served(engine, policy, requests), served(local, policy, requests), strict=True):
            alike(one, its)
    alike(served(engine, base, [ask()])[0], served(local, base, [ask()])[0])


def test_adapters_are_laid_over_their_base(
    engine: VllmEngine, local: LocalEngine, base: Policy, adapter: Callable[..., Policy]
) -> None:
    policies = [base, *(adapter(seed) for seed in range(1, 7)), adapter(7, rank=20)]  # more than are held at a time
    asked = [(policy, ask(text, max_tokens=20)) for text in SUMS[:3] for policy in policies]
    run(engine, asked[-1:])  # the largest rank, for which there must be room
    running = engine._server.llm
    found = run(engine, asked)
    for (policy, request), one in zip(asked, found, strict=True):
        alike(one, served(local, policy, [request])[0])
        assert one.policy == policy.version
    assert engine._server.llm is running
    assert len({s.logprobs for s in found[:8]}) == 8
    assert len({s.text for s in found[:8]}) > 1
    for policy in policies[:3]:
        (one,) = asyncio.run(_scores(engine, policy))
        assert one == pytest.approx(asyncio.run(_scores(local, policy))[0], abs=1e-3)


async def _scores(of: Engine, policy: Policy) -> list[tuple[float, ...]]:
    return [(await of.loglikelihood(policy, ask().prompt, "30-17=13\nAnswer: 13")).logprobs]


def test_adapters_over_other_whole_weights(
    engine: VllmEngine, local: LocalEngine, shaken: Callable[..., Policy], adapter: Callable[..., Policy]
) -> None:
    other = shaken(3)
    asked = [(p, ask(SUMS[1])) for p in (adapter(1), other, adapter(11, over=other), adapter(1), other)]
    for (policy, request), one in zip(asked, run(engine, asked), strict=True):
        alike(one, served(local, policy, [request])[0])
        assert one.policy == policy.version


def test_adapters_that_vllm_does_not_compute_are_merged(
    engine: VllmEngine, local: LocalEngine, base: Policy, adapter: Callable[..., Policy]
) -> None:
    below = adapter(21)
    for policy in (adapter(22, over=below), adapter(23, use_dora=True), below, base):
        alike(served(engine, policy, [ask(SUMS[2])])[0], served(local, policy, [ask(SUMS[2])])[0])


def test_what_cannot_be_loaded_is_an_error_and_nothing_else_is_served(
    engine: VllmEngine, base: Policy, tmp_path: Path, shaken: Callable[..., Policy], adapter: Callable[..., Policy]
) -> None:
    cut = shaken(4)
    file = cut.path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    broken = adapter(31)
    (broken.path / "adapter_model.safetensors").write_bytes(b"nothing")
    gone, lost = Policy("d" * 16, tmp_path / "gone"), Policy("e" * 16, tmp_path / "lost", base, adapter=True)
    asked = [(base, ask()), (cut, ask()), (gone, ask()), (broken, ask()), (lost, ask()), (cut, ask()), (base, ask())]
    found = run(engine, asked)
    assert [type(f) for f in found] == [Sample, BadInput, BadInput, BadInput, BadInput, BadInput, Sample]
    assert found[0].policy == found[-1].policy == base.version
    assert str(cut.path) in str(found[1])
    assert all("\n" not in str(f) for f in found[1:6])


def test_nan_logits_refuse_one_request(
    engine: VllmEngine, local: LocalEngine, base: Policy, shaken: Callable[..., Policy]
) -> None:
    from selftaught.models.chat import ChatTokenizer
    from tiny_models import edit_json

    (token,) = ChatTokenizer(base.weights).encode("Z")

    def poison(weights: dict[str, Any]) -> None:
        """The embedding of one letter is spoiled; the output layer, untied, is not."""
        embedding = weights["model.embed_tokens.weight"]
        weights["lm_head.weight"] = embedding.clone()
        embedding[token] = float("nan")

    folder = shaken(5, poison).path
    edit_json(folder / "config.json", tie_word_embeddings=False)
    bad = resolve(folder)
    texts = [SUMS[0], "chain Z 1", SUMS[1], SUMS[2], "Z", SUMS[3]]
    asked = [ask(text, seed=i, temperature=i % 2) for i, text in enumerate(texts)]
    found = run(engine, [(bad, request) for request in asked])
    assert [isinstance(f, RequestRefused) and "NaN" in str(f) for f in found] == ["Z" in text for text in texts]
    for text, request, one in zip(texts, asked, found, strict=True):
        if "Z" not in text:
            alike(one, served(local, bad, [request])[0])


# --- life ---


def children() -> set[int]:
    """Processes below this one."""
    below, found = {os.getpid()}, set()
    parents = {int(p.name): _parent(p) for p in Path("/proc").iterdir() if p.name.isdigit()}
    while below:
        below = {pid for pid, parent in parents.items() if parent in below and pid not in found}
        found |= below
    return found


def _parent(process: Path) -> int:
    """0 for one that has ended, waited for or not."""
    try:
        state, parent = (process / "stat").read_text().rsplit(")", 1)[1].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(parent)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc, which Linux has")
def test_release_and_death_and_close(local: LocalEngine, base: Policy) -> None:
    before = children()
    engine = VllmEngine(dtype="float32", max_batch_size=4, cache_gib=0.25)
    engine.release()  # nothing to release yet
    want = served(local, base, [ask()])[0]
    alike(served(engine, base, [ask()])[0], want)
    assert children() > before
    assert 0 < engine.load_seconds < engine.busy_seconds
    engine.release()
    assert children() == before

    async def killed() -> list[Any]:
        asked = [asyncio.create_task(engine.sample(base, ask(max_tokens=400))) for _ in range(3)]
        while not engine._scheduler.num_active:
            await asyncio.sleep(0.05)
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 120)

    assert all(isinstance(f, EngineError | Sample) for f in asyncio.run(killed()))
    alike(served(engine, base, [ask()])[0], want)  # started again

    async def closed() -> list[Any]:
        asked = [asyncio.create_task(engine.sample(base, ask(max_tokens=400))) for _ in range(20)]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(engine.close)
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)

    found = asyncio.run(closed())
    assert all(isinstance(f, EngineError | Sample) for f in found)
    assert isinstance(found[-1], EngineError)
    assert children() == before


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """New processes import the script that started them, which must not sample again there."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import selftaught as st
        from selftaught.engines import Sampling
        from selftaught.engines.vllm.engine import VllmEngine

        print("begun")
        task = st.load_task("underfit:family=chain,level=2", train=2)
        settings = st.Settings(sampling=Sampling(temperature=0.0, max_tokens=60))
        engine = VllmEngine(dtype="float32", cache_gib=0.25)
        with st.Run("runs/script", model="underfit", task=task, engine=engine, settings=settings) as run:
            for attempt in run.attempt(run.base, task.train, samples=2):
                print("got", attempt.policy)
        """),
        "utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "begun"
    assert done.stdout.count("begun") == 1
    assert done.stdout.count(f"got {resolve('underfit').version}") == 4
