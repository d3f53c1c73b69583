"""An engine whose answers come from a function, and its learner: deterministic, instant, for tests and dry runs."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.engines.base import (
    BaseEngine,
    Capabilities,
    EngineError,
    HeadValues,
    Likelihood,
    Request,
    Sample,
    truncate_at_stop,
    validate_request,
)
from selftaught.engines.busy_timer import BusyTimer
from selftaught.errors import BadInput
from selftaught.models.policy import Policy, base_reference, load_policy, publish, read_manifest, require_weights
from selftaught.records import Prompt, as_json, content_hash

if TYPE_CHECKING:
    from selftaught.learn import Objective, TrainConfig

Script = Callable[[Policy, Request], str]
LikelihoodScript = Callable[[Policy, Prompt, str], Sequence[float]]
Scorer = Callable[[Policy, Prompt, str], float]


def scripted_judgment(asked: str, good: bool) -> str | None:
    """What a scripted model replies to a usual request for a judgment of an answer; None to any other request.

    Args:
        asked: the request: for a score in points, for the better of A and B, or for the word right or wrong.
        good: whether the answer, or of two A, is the better one.
    """
    if "[[A]]" in asked:
        return "[[A]]" if good else "[[B]]"
    if "Score: " in asked:
        return f"It is {'right' if good else 'wrong'}.\nScore: {4 if good else 1}"
    return ("right" if good else "wrong") if "right or wrong" in asked else None


class ScriptedEngine(BusyTimer, BaseEngine):
    """Answers with `script(policy, request)`; a token is a byte of UTF-8.

    Log-probabilities are a fixed function of the bytes, and value heads one of policy, prompt and text, so that
    downstream code has numbers to work with. A byte b has -(b + 1) / 256 nats; the other 255 share the rest of the
    probability equally.

    Args:
        script: returns the answer; must depend on nothing but its arguments.
        likelihood: returns the log-probabilities of a given text's bytes after a prompt; likewise.
        scorer: returns the number of a policy's value head after a prompt and a text; likewise.
        delay: seconds each answer takes.

    Attributes:
        calls: number of answers so far.
    """

    name = "scripted"
    capabilities = Capabilities(
        seeds=True, prefix=True, prefix_tokens=True, top_logprobs=True, logprobs=True, scores=True,
        trained_policies=True, endpoints=True,
    )  # fmt: skip

    def __init__(
        self, script: Script, *, delay: float = 0.0, likelihood: LikelihoodScript | None = None,
        scorer: Scorer | None = None,
    ) -> None:  # fmt: skip
        self._script, self._delay, self._likelihood, self._scorer = script, delay, likelihood, scorer or _head_value
        self.calls = 0
        self._closed = False

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """The script's answer, truncated at `max_tokens` bytes and at stop strings. See `Engine.sample`."""
        self._check_open()
        require_weights(policy)
        validate_request(request)
        with self._busy():
            await asyncio.sleep(self._delay)
        self._check_open()
        self.calls += 1
        text = self._script(policy, request)
        stopped = truncate_at_stop(text, request.sampling.stop)
        stop = "" if stopped is None else next(s for s in request.sampling.stop if text.startswith(s, len(stopped)))
        data = (text if stopped is None else stopped + stop).encode()
        kept = data[: request.sampling.max_tokens]
        finish, stop = ("stop", stop) if len(kept) == len(data) else ("length", "")
        shown = kept.decode(errors="ignore").removesuffix(stop)
        prompt_tokens = _prompt_length(request.prompt) + _prefix_length(request.prefix, *request.prefix_tokens)
        found = Sample(shown, tuple(kept), _logprobs(kept), finish, prompt_tokens, policy.version, stop_text=stop)
        return found if request.top_logprobs is None else _with_distributions(found, request.top_logprobs)

    async def loglikelihood(self, policy: Policy, prompt: Prompt, text: str) -> Likelihood:
        """The log-probabilities of the bytes of `text`."""
        self._check_open()
        require_weights(policy)
        given = self._likelihood
        logprobs = tuple(given(policy, prompt, text)) if given else _logprobs(text.encode())
        return Likelihood(logprobs, _prompt_length(prompt))

    async def scores(self, policy: Policy, prompt: Prompt, text: str, ends: Sequence[int]) -> HeadValues:
        """What `scorer` returns at each place. See `Engine.scores`."""
        self._check_open()
        size = _prompt_length(prompt) + len(text.encode())
        return HeadValues(tuple(self._scorer(policy, prompt, text[:end]) for end in ends), size)

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")

    def close(self) -> None:
        """Refuse requests from now on."""
        self._closed = True


def _prompt_length(prompt: Prompt) -> int:
    """Number of tokens of a prompt."""
    return sum(len(message.content.encode()) for message in prompt)


def _prefix_length(*pieces: int | str) -> int:
    """Number of tokens that an answer continues."""
    return sum(len(piece.encode()) if isinstance(piece, str) else 1 for piece in pieces)


def _logprobs(data: bytes) -> tuple[float, ...]:
    return tuple(-(byte + 1) / 256 for byte in data)


def _with_distributions(sample: Sample, count: int) -> Sample:
    """The sample with its distributions: a byte's fixed probability, and the rest shared by the 255 others."""
    top, entropies, certainties = [], [], []
    for byte, logprob in zip(sample.token_ids, sample.logprobs, strict=True):
        probability = math.exp(logprob)
        other = math.log((1 - probability) / 255)
        others = ((token, other) for token in range(256) if token != byte)
        top.append(tuple(islice(((byte, logprob), *others), count)))
        entropies.append(-probability * logprob - (1 - probability) * other)
        certainties.append(-(logprob + 255 * other) / 256 - math.log(256))
    return replace(sample, top_logprobs=tuple(top), entropies=tuple(entropies), self_certainties=tuple(certainties))


def _head_value(policy: Policy, prompt: Prompt, text: str) -> float:
    """A number from -4 to 4, by the hash of the arguments."""
    return int(content_hash(policy.version, prompt, text), 16) / 2**61 - 4


def scripted_learner(
    base: Policy, objective: Objective, records: Sequence[Any], settings: TrainConfig, *, seed: int, folder: Path,
    progress: Callable[[int, int, float], None] = lambda *_: None, delay: float = 0.0,
) -> Policy:  # fmt: skip
    """The learner that goes with `ScriptedEngine`: a real policy folder with records and manifest, but no weights.

    Versions are those of `learn.learner.train_policy`: same base, records, objective, settings and seed, same version.

    Args:
        delay: seconds it takes, spread over the epochs.

    Raises:
        BadInput: no records.
    """
    from selftaught.learn.learner import head_entry, policy_version

    version = policy_version(base, objective, records, settings, seed)
    target, work = folder / version, folder / f"{version}.work"
    if read_manifest(target):
        return load_policy(target, version)
    if not records:
        raise BadInput("nothing to learn from", where="learn", fix="draw more samples, or use an easier task")
    for epoch in range(settings.epochs):
        time.sleep(delay / settings.epochs)
        progress(epoch + 1, settings.epochs, 1.0 / (epoch + 1))
    draft = work / "policy"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with (draft / "records.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(as_json(record), ensure_ascii=False) + "\n" for record in records)
    made: dict[str, Any] = {"version": version, "base": base_reference(base, target), "adapter": False}
    made |= {"objective": objective.name, "records": len(records)} | head_entry(objective)
    passes = settings.steps * settings.batch_size / len(records) if settings.steps else settings.epochs
    publish(draft, target, made | {"tokens": round(passes * sum(map(_size, records)))})
    shutil.rmtree(work, ignore_errors=True)
    return load_policy(target, version)


def _size(record: Any) -> int:
    """Bytes of text in a record: prompt and training target."""
    data = {name: value for name, value in as_json(record).items() if name != "attempts"}
    prompt = "".join(message["content"] for message in data.pop("prompt", ()))
    return len("".join([prompt, *(value for value in data.values() if isinstance(value, str))]).encode())
