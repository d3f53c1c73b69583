"""An engine whose answers come from a function, and its learner: deterministic, instant, for tests and dry runs."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.engines.base import EngineError, Request, Sample, truncate_at_stop, validate_request
from selftaught.engines.busy import BusyTimer
from selftaught.errors import BadInput
from selftaught.models.policy import Policy, base_reference, load_policy, publish, read_manifest
from selftaught.records import Prompt, as_json

if TYPE_CHECKING:
    from selftaught.learn import Objective, TrainConfig

Script = Callable[[Policy, Request], str]


class ScriptedEngine(BusyTimer):
    """Answers with `script(policy, request)`; a token is a byte of UTF-8.

    Log-probabilities are a fixed function of the bytes, so that everything downstream has real
    numbers to carry. `calls` counts the answers given, for tests that nothing is paid for twice.

    Args:
        script: what to answer; must depend on nothing but its arguments.
        delay: seconds each answer takes.
    """

    name = "scripted"

    def __init__(self, script: Script, *, delay: float = 0.0) -> None:
        self._script, self._delay = script, delay
        self.calls = 0
        self._closed = False

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """The script's answer, cut at `max_tokens` bytes and at stop strings. See `Engine.sample`."""
        self._check_open()
        validate_request(request)
        with self._busy():
            await asyncio.sleep(self._delay)
        self.calls += 1
        text = self._script(policy, request)
        stopped = truncate_at_stop(text, request.sampling.stop)
        cut = "" if stopped is None else next(s for s in request.sampling.stop if text.startswith(s, len(stopped)))
        data = (text if stopped is None else stopped + cut).encode()
        kept = data[: request.sampling.max_tokens]
        whole = len(kept) == len(data)
        said = kept.decode(errors="ignore")
        prompt_tokens = sum(len(m.content.encode()) for m in request.prompt) + _prefix_length(
            request.prefix, *request.prefix_tokens
        )
        finish, cut = ("stop", cut) if whole else ("length", "")
        said = said.removesuffix(cut)
        return Sample(said, tuple(kept), _logprobs(kept), finish, prompt_tokens, policy.version, stop_text=cut)

    async def logprobs(self, policy: Policy, prompt: Prompt, text: str) -> tuple[float, ...]:
        """The fixed log-probabilities of the bytes of `text`."""
        del policy, prompt
        self._check_open()
        return _logprobs(text.encode())

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")

    def release(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """Refuse requests from now on."""
        self._closed = True


def _prefix_length(*given: int | str) -> int:
    """Tokens in what an answer goes on from."""
    return sum(len(piece.encode()) if isinstance(piece, str) else 1 for piece in given)


def _logprobs(data: bytes) -> tuple[float, ...]:
    return tuple(-(byte + 1) / 256 for byte in data)


def scripted_learner(
    base: Policy, objective: Objective, records: Sequence[Any], settings: TrainConfig, *, seed: int, folder: Path,
    progress: Callable[[int, int, float], None] = lambda *_: None, delay: float = 0.0,
) -> Policy:  # fmt: skip
    """The learner that goes with `ScriptedEngine`: a real policy folder with records and manifest, but no weights.

    Versions are those of `learn.learner.learn`: same base, records, objective, settings and seed, same version.

    Args:
        delay: seconds it takes, spread over the epochs.

    Raises:
        BadInput: no records.
    """
    from selftaught.learn.learner import policy_version

    version = policy_version(base, objective, records, settings, seed)
    target, work = folder / version, folder / f"{version}.work"
    if read_manifest(target):
        return load_policy(target)
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
    made |= {"objective": objective.name, "records": len(records)}
    publish(draft, target, made | {"tokens": settings.epochs * sum(map(_size, records))})
    shutil.rmtree(work, ignore_errors=True)
    return load_policy(target)


def _size(record: Any) -> int:
    """Bytes of text in a record: what it is asked and what is learnt."""
    data = {name: value for name, value in as_json(record).items() if name != "attempts"}
    prompt = "".join(message["content"] for message in data.pop("prompt", ()))
    return len("".join([prompt, *(value for value in data.values() if isinstance(value, str))]).encode())
