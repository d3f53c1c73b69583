"""An engine that samples a world's tabular twin in place of a model: methods and checks run on it as on any other.

Policies are trained by `engines.scripted.scripted_learner`, which keeps their records; the twin of such a policy is the
twin of its base that has counted them.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from selftaught.engines.base import BaseEngine, Capabilities, Likelihood, Request, Sample, validate_request
from selftaught.engines.busy_timer import BusyTimer
from selftaught.models.policy import Policy
from selftaught.records import Message, Prompt
from selftaught.worlds.kit.language import tokenize, vocabulary
from selftaught.worlds.kit.process import END, Choice, Written, read, sampled, write
from selftaught.worlds.kit.twin import Demonstration, Twin

NEVER = math.log(1e-12)
"""Log-probability of a token that the twin never writes."""


class TwinEngine(BusyTimer, BaseEngine):
    """Samples twins: the starting model is `twin`, and a trained policy is its base's twin with its records counted.

    Of preferences the chosen answer is counted. It reads no value heads. Top-k and top-p are ignored.

    Args:
        twin: the twin of the starting model.
    """

    name, dtype = "twin", "float64"
    capabilities = Capabilities(seeds=True, prefix=True, prefix_tokens=True, logprobs=True, trained_policies=True)

    def __init__(self, twin: Twin) -> None:
        self._start = twin
        self._twins: dict[str, Twin] = {}

    def twin_of(self, policy: Policy) -> Twin:
        """The twin of a policy."""
        if policy.version not in self._twins:
            self._twins[policy.version] = (
                self._start if policy.base is None else self.twin_of(policy.base).learn(_records(policy.path))
            )
        return self._twins[policy.version]

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`; empty where the prompt is not in the language."""
        validate_request(request)
        with self._busy():
            forced = tokenize(request.prefix + "".join(map(_text, request.prefix_tokens)))
            rng = random.Random(f"{request.seed}/{request.prompt}/{forced}")
            writing = self.twin_of(policy).writer.reply(request.prompt, self.twin_of(policy).view)
            limit = len(forced) + request.sampling.max_tokens
            pick = sampled(rng, request.sampling.temperature)
            written = Written([], [END]) if writing is None else write(writing, pick, forced, limit)
        return _sample(written, len(forced), request, policy.version)

    async def loglikelihood(self, policy: Policy, prompt: Prompt, text: str) -> Likelihood:
        """See `Engine.loglikelihood`."""
        with self._busy():
            twin, tokens = self.twin_of(policy), tokenize(text)
            writing = twin.writer.reply(prompt, twin.view)
            steps = [] if writing is None else read(writing, tokens)[: len(tokens)]
            known = [_logprob(step, token) for step, token in zip(steps, tokens, strict=False)]
        return Likelihood((*known, *[NEVER] * (len(tokens) - len(known))), _length(prompt))

    def close(self) -> None:
        """Nothing to stop."""


class _Drawn(NamedTuple):
    token: str
    logprob: float


def _sample(written: Written, given: int, request: Request, policy: str) -> Sample:
    """What was written after the first `given` tokens, up to a stop string, the end or the limit."""
    drawn: list[_Drawn] = []
    finish, stop = "stop" if written.finished else "length", ""
    for one in _drawn(written, given):
        drawn.append(one)
        if stop := next((s for s in request.sampling.stop if s in one.token), ""):
            finish = "stop"
            break
    if len(drawn) > request.sampling.max_tokens:
        drawn, finish = drawn[: request.sampling.max_tokens], "length"
    tokens, ids = [one.token for one in drawn], vocabulary()
    text = "".join(token for token in tokens if token != END).removesuffix(stop)
    return Sample(
        text, tuple(ids[token] for token in tokens), tuple(one.logprob for one in drawn), finish,
        _length(request.prompt) + given, policy, stop_text=stop,
    )  # fmt: skip


def _drawn(written: Written, given: int) -> Iterator[_Drawn]:
    tokens = [*written.tokens, END] if written.finished else written.tokens
    for token, step in list(zip(tokens, written.steps, strict=False))[given:]:
        yield _Drawn(token, _logprob(step, token))


def _logprob(step: Choice | str, token: str) -> float:
    p = float(step == token) if isinstance(step, str) else step.distribution().get(token, 0.0)
    return math.log(p) if p > 0 else NEVER


def _records(folder: Path) -> list[Demonstration]:
    """The demonstrations that a policy was trained on; of preferences the chosen answers."""
    with (folder / "records.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [(_prompt(row["prompt"]), row.get("target") or row["chosen"]) for row in rows]


def _prompt(rows: list[dict[str, str]]) -> Prompt:
    return tuple(Message(row["role"], row["content"]) for row in rows)


def _text(piece: int | str) -> str:
    if isinstance(piece, str):
        return piece
    token = _tokens()[piece]
    return "" if token == END else token


@cache
def _tokens() -> dict[int, str]:
    return {number: token for token, number in vocabulary().items()}


def _length(prompt: Prompt) -> int:
    return sum(1 + len(tokenize(message.content)) for message in prompt)
