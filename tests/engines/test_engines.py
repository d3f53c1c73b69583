"""What every engine must do: one table that all engines pass, and that refuses what an engine does not support."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from selftaught.engines import (
    Engine,
    EngineConfig,
    EngineError,
    Request,
    RequestRefused,
    Sample,
    Sampling,
    ScriptedEngine,
    create_engine,
)
from selftaught.engines.local.engine import LocalEngine
from selftaught.engines.openai.engine import Endpoint, OpenAIEngine
from selftaught.errors import BadInput
from selftaught.models import Policy
from selftaught.models.remote import remote_policy
from selftaught.records import as_prompt
from selftaught.testing.endpoint import Endpoint as Server
from selftaught.testing.endpoint import Got, Reply, completion

NAMES = ("local", "openai", "scripted", "vllm")
PROMPTS = ("hi", "what is 2 + 3?", "a" * 40, "1,2,3,4,5,6", "x")


@dataclass
class Subject:
    """An engine, a policy that it serves, and others.

    Attributes:
        make: creates a new engine.
        other: a second policy with other weights.
        foreign: a policy that it cannot serve; None for an engine that serves any.
    """

    engine: Engine
    make: Callable[[], Engine]
    policy: Policy
    other: Policy
    foreign: Policy | None

    def ask(self, *requests: Request, policy: Policy | None = None) -> list[Any]:
        """Samples, or the exceptions in their places."""

        async def gather() -> list[Any]:
            asked = (self.engine.sample(policy or self.policy, request) for request in requests)
            return await asyncio.gather(*asked, return_exceptions=True)

        return asyncio.run(asyncio.wait_for(gather(), 300))

    def sample(self, *requests: Request, policy: Policy | None = None) -> list[Sample]:
        found = self.ask(*requests, policy=policy)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return found


def script(policy: str, question: str, seed: int) -> str:
    """An answer of 32 characters that depends on all of its arguments."""
    return hashlib.sha256(f"{policy}/{question}/{seed}".encode()).hexdigest()[:32]


def scripted_answer(policy: Policy, request: Request) -> str:
    """The answer from where the prefix leaves off."""
    seed = 0 if request.sampling.greedy else request.seed
    begun = sum(1 if isinstance(piece, int) else len(piece) for piece in request.prefix_tokens)
    return script(policy.version, request.prompt[-1].content, seed)[begun:]


def endpoint_answer(got: Got) -> Reply:
    """What a server that continues messages and honors seeds answers; a character is a token."""
    last = got.body["messages"][-1]
    begun = last["content"] if last["role"] == "assistant" else ""
    seed = got.body["seed"] if got.body["temperature"] else 0
    text = script(got.body["model"], got.question, seed).removeprefix(begun)
    kept = text[: got.body["max_tokens"]]
    finish = "stop" if kept == text else "length"
    return completion(kept, model=got.body["model"], tokens=len(kept), finish=finish, delay=0.01)


@pytest.fixture(scope="module")
def vllm_engine() -> Iterator[Engine]:
    """One for all tests, as it takes long to start."""
    engine = make_vllm()
    yield engine
    engine.close()


def make_vllm() -> Engine:
    from selftaught.engines.vllm.engine import VllmEngine

    return VllmEngine(dtype="float32", max_batch_size=16, cache_gib=0.25)


@pytest.fixture(params=NAMES)
def subject(request: pytest.FixtureRequest, tiny: Any, tmp_path: Path) -> Iterator[Subject]:
    name = request.param
    if name == "vllm" and not find_spec("vllm"):
        pytest.skip("vllm is not installed here; make test-vllm")
    kind = "llama-wide" if name == "vllm" else "llama"
    weights = tiny(kind, 1), tiny(kind, 0), Policy("d" * 16, tmp_path / "gone")
    if name == "vllm":
        yield Subject(request.getfixturevalue("vllm_engine"), make_vllm, *weights)
        return
    if name == "local":
        made = Subject(make_local(), make_local, *weights)
    elif name == "openai":
        server: Server = request.getfixturevalue("server")
        server.owner, server.script = "vllm", endpoint_answer
        foreign = remote_policy("tiny", "http://other.example/v1")
        made = Subject(OpenAIEngine(), OpenAIEngine, remote_policy("tiny"), remote_policy("second"), foreign)
    else:
        first, second = (Policy(version, tmp_path) for version in ("first", "second"))
        made = Subject(slow_script(), slow_script, first, second, None)
    yield made
    made.engine.close()


def make_local() -> Engine:
    return LocalEngine(dtype="float32", device="cpu")


def slow_script() -> Engine:
    return ScriptedEngine(scripted_answer, delay=0.01)


def ask(text: str = "hi", *, seed: int = 0, prefix_tokens: Sequence[int | str] = (), **sampling: Any) -> Request:
    return Request(as_prompt(text), Sampling(**({"max_tokens": 12} | sampling)), seed, prefix_tokens=(*prefix_tokens,))


def crowd(count: int = 12) -> list[Request]:
    return [ask(PROMPTS[i % 5], seed=i, max_tokens=1 + i * 5 % 17) for i in range(count)]


def one_line(error: BaseException) -> bool:
    return bool(str(error)) and "\n" not in str(error)


def test_it_is_an_engine(subject: Subject) -> None:
    assert isinstance(subject.engine, Engine)
    assert subject.engine.num_retries == 0


def test_seeds_determine_the_answer_in_any_company(subject: Subject) -> None:
    together = subject.sample(*crowd())
    if subject.engine.capabilities.seeds:
        assert [s.text for s in subject.sample(*crowd())] == [s.text for s in together]
        alone = [subject.sample(request)[0].token_ids for request in crowd()[::4]]
        assert alone == [s.token_ids for s in together[::4]]
    several = subject.sample(*(ask(seed=seed, temperature=1.5) for seed in range(6)))
    assert len({s.text for s in several}) > 1
    greedy = subject.sample(*(ask(seed=seed, temperature=0.0) for seed in range(3)))
    assert len({s.text for s in greedy}) == 1


def test_usage_is_counted(subject: Subject) -> None:
    requests = crowd()
    for request, sample in zip(requests, subject.sample(*requests), strict=True):
        assert sample.prompt_tokens > 0
        assert 1 <= sample.tokens <= request.sampling.max_tokens
        assert len(sample.token_ids) in (0, sample.tokens)
        assert len(sample.logprobs) in (0, sample.tokens)
        assert all(value <= 0 for value in sample.logprobs)
        assert sample.finish_reason in ("stop", "length")
    assert subject.engine.busy_seconds > 0


def test_token_limits_hold_and_none_is_refused(subject: Subject) -> None:
    (short,) = subject.sample(ask(max_tokens=5))
    assert (short.tokens, short.finish_reason) == (5, "length")
    refused, fine = subject.ask(ask(max_tokens=0), ask(max_tokens=5))
    assert isinstance(refused, RequestRefused)
    assert one_line(refused)
    assert isinstance(fine, Sample)


def test_stop_strings_end_the_answer(subject: Subject) -> None:
    (whole,) = subject.sample(ask(temperature=0.0))
    stop = next(c for i, c in enumerate(whole.text) if i > 2 and c.isascii() and c not in whole.text[:3])
    met, first, never = subject.sample(
        *(ask(temperature=0.0, stop=stops) for stops in ((stop,), ("\0never\0", stop), ("\0never\0",)))
    )
    assert met.text == first.text == whole.text[: whole.text.index(stop)]
    assert met.finish_reason == first.finish_reason == "stop"
    assert met.stop_text[:1] in (stop, "")
    assert bool(met.stop_text) == bool(met.token_ids)
    assert (never.text, never.finish_reason, never.stop_text) == (whole.text, whole.finish_reason, "")


def test_an_answer_continues_given_tokens_as_if_never_cut_off(subject: Subject) -> None:
    (whole,) = subject.sample(ask(seed=3, temperature=1.0))
    (head,) = subject.sample(ask(seed=3, temperature=1.0, max_tokens=5))
    tail = ask(seed=3, temperature=1.0, max_tokens=7, prefix_tokens=head.token_ids or (1, 2))
    (found,) = subject.ask(tail)
    if not subject.engine.capabilities.prefix_tokens:
        assert isinstance(found, RequestRefused)
        assert one_line(found)
        return
    assert head.token_ids + found.token_ids == whole.token_ids
    assert (head.text + found.text).replace("\ufffd", "") == whole.text.replace("\ufffd", "")


def test_an_answer_continues_a_given_text_that_is_not_part_of_it(subject: Subject) -> None:
    assert subject.engine.capabilities.prefix
    (whole,) = subject.sample(ask(temperature=0.0))
    for request in (replace(ask(temperature=0.0), prefix="0"), ask(temperature=0.0, prefix_tokens=("0",))):
        (sample,) = subject.sample(request)
        assert sample.prompt_tokens >= whole.prompt_tokens
        assert sample.tokens > 0


def test_most_probable_tokens_are_returned_or_refused(subject: Subject) -> None:
    (found,) = subject.ask(replace(ask(), top_logprobs=3))
    if subject.engine.capabilities.top_logprobs:
        assert [len(top) for top in found.top_logprobs] == [3] * found.tokens
        assert len(found.entropies) == len(found.self_certainties) == found.tokens
        assert min(found.entropies) >= 0
        assert min(found.self_certainties) >= 0
    else:
        assert isinstance(found, RequestRefused)
        assert one_line(found)


def test_given_text_is_scored_or_refused(subject: Subject) -> None:
    def score(text: str) -> tuple[float, ...]:
        return asyncio.run(subject.engine.loglikelihood(subject.policy, as_prompt("hi"), text)).logprobs

    if not subject.engine.capabilities.logprobs:
        with pytest.raises(RequestRefused) as refused:
            score("yes")
        assert one_line(refused.value)
        return
    assert score("yes") == pytest.approx(score("yes"))
    assert len(score("yes")) == 3
    assert all(value < 0 for value in score("yes"))
    assert score("") == ()


def test_a_head_is_read_or_refused_in_one_line(subject: Subject) -> None:
    def read() -> Any:
        return asyncio.run(subject.engine.scores(subject.policy, as_prompt("hi"), "yes", (1, 3)))

    if subject.engine.capabilities.scores and subject.engine.name != "local":  # the subject's policies have no head
        assert read() == read()
        assert len(read().values) == 2
        return
    with pytest.raises(BadInput, match="value head") as refused:
        read()
    assert one_line(refused.value)


def test_a_model_in_training_is_served_or_refused(subject: Subject) -> None:
    from tiny_models import reference

    if not subject.engine.capabilities.live_models:
        with pytest.raises(BadInput, match="weights in training") as refused:
            subject.engine.attach_model(subject.policy, None)
        assert one_line(refused.value)
        return
    live = Policy("live", subject.policy.path, subject.policy)
    subject.engine.attach_model(live, reference(subject.policy))
    want = subject.sample(ask(temperature=0.0))[0].token_ids
    subject.engine.attach_model(live, reference(subject.policy))
    (sample,) = subject.sample(ask(temperature=0.0), policy=live)
    assert (sample.policy, sample.token_ids) == ("live", want)


def test_each_policy_gets_its_own_answers_and_no_other_ones(subject: Subject) -> None:
    asked = [ask(text, temperature=0.0) for text in PROMPTS[:3]]
    first, second, again = (
        subject.sample(*asked, policy=policy) for policy in (subject.policy, subject.other, subject.policy)
    )
    assert {s.policy for s in first} == {subject.policy.version}
    assert {s.policy for s in second} == {subject.other.version}
    assert [s.text for s in first] == [s.text for s in again]
    assert [s.text for s in first] != [s.text for s in second]


def test_a_policy_that_it_cannot_serve_is_an_error_in_one_line(subject: Subject, tmp_path: Path) -> None:
    policies = [subject.foreign] if subject.foreign else []
    if not subject.engine.capabilities.trained_policies:
        policies.append(Policy("0123", tmp_path, base=subject.policy))
    for policy in policies:
        (found,) = subject.ask(ask(), policy=policy)
        assert isinstance(found, BadInput | EngineError)
        assert one_line(found)
    assert len(subject.sample(ask())) == 1


def test_a_cancelled_request_leaves_the_others_alone(subject: Subject) -> None:
    requests = [ask(PROMPTS[i % 5], seed=i, temperature=0.0, max_tokens=24) for i in range(12)]
    want = [s.text for s in subject.sample(*requests)]

    async def cancel_half() -> list[Any]:
        tasks = [asyncio.create_task(subject.engine.sample(subject.policy, request)) for request in requests]
        await asyncio.sleep(0.002)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)

    found = asyncio.run(cancel_half())
    assert [s.text for s in found[1::2]] == want[1::2]
    assert any(isinstance(one, asyncio.CancelledError) for one in found[::2])
    assert [s.text for s in subject.sample(*requests)] == want


def test_release_waits_for_answers_and_the_next_request_is_served_as_before(subject: Subject) -> None:
    requests = [replace(request, sampling=replace(request.sampling, temperature=0.0)) for request in crowd(6)]
    before = [s.text for s in subject.sample(*requests)]

    async def midway() -> list[Any]:
        tasks = [asyncio.create_task(subject.engine.sample(subject.policy, request)) for request in requests]
        await asyncio.sleep(0.005)
        await asyncio.to_thread(subject.engine.release)
        return await asyncio.wait_for(asyncio.gather(*tasks), 300)

    assert [s.text for s in asyncio.run(midway())] == before
    subject.engine.release()
    assert [s.text for s in subject.sample(*requests)] == before


def test_close_fails_what_is_in_progress_and_leaves_nothing_running(subject: Subject) -> None:
    before = set(threading.enumerate())
    engine = subject.make()
    engine.release()  # before any request

    async def close_midway() -> list[Any]:
        asked = [ask(PROMPTS[i % 5], seed=i, max_tokens=200) for i in range(40)]
        tasks = [asyncio.create_task(engine.sample(subject.policy, request)) for request in asked]
        await asyncio.sleep(0.005)
        await asyncio.to_thread(engine.close)
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)

    found = asyncio.run(close_midway())
    assert all(isinstance(one, Sample | EngineError) for one in found)
    assert isinstance(found[-1], EngineError)
    assert {thread.name for thread in set(threading.enumerate()) - before if "selftaught" in thread.name} == set()
    engine.close()
    engine.release()
    for call in (engine.sample(subject.policy, ask()), engine.loglikelihood(subject.policy, as_prompt("hi"), "x")):
        with pytest.raises(EngineError, match="closed"):
            asyncio.run(asyncio.wait_for(call, 10))
    unused = subject.make()
    unused.close()
    unused.close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"temperature": -1.0}, "temperature must be ≥ 0, got -1.0"),
        ({"temperature": float("nan")}, "temperature must be ≥ 0, got nan"),
        ({"top_p": 0.0}, "top_p must be in (0, 1], got 0.0"),
        ({"top_k": -1}, "top_k must be ≥ 0, got -1"),
        ({"stop": "END"}, "stop must be a tuple of non-empty strings, got 'END'"),
        ({"stop": ("",)}, "stop must be a tuple of non-empty strings"),
    ],
)
def test_sampling_values_out_of_range_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as refused:
        Sampling(**wrong)
    assert says in str(refused.value)
    assert one_line(refused.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LocalEngine(max_batch_size=0), "max_batch_size=0"),
        (lambda: LocalEngine(dtype="bflot16"), "unknown dtype 'bflot16'"),
        (lambda: LocalEngine(cache_gib=0.0), "cache_gib=0.0"),
        (lambda: OpenAIEngine(Endpoint("http://127.0.0.1:1/v1"), timeout=0), "timeout must be > 0"),
        (lambda: EngineConfig(engine="vlm"), "there is no engine 'vlm'"),  # type: ignore[arg-type]
        (lambda: create_engine("underfit", EngineConfig(engine="vllm", device="cpu")), "CUDA_VISIBLE_DEVICES"),
        (lambda: create_engine("openai:tiny", EngineConfig(engine="vllm")), "openai:tiny is behind an endpoint"),
    ],
)
def test_engine_options_out_of_range_are_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(BadInput) as refused:
        make()
    assert says in str(refused.value)
    assert one_line(refused.value)
