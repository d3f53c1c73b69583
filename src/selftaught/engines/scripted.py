"""An engine whose answers come from a function: deterministic, instant, for tests and dry runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from selftaught.engines.base import EngineError, Request, Sample, cut_at_stop
from selftaught.models.policy import Policy
from selftaught.records import Prompt

Script = Callable[[Policy, Request], str]


class ScriptedEngine:
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
        self.busy_seconds = 0.0
        self._closed = False

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """The script's answer, cut at `max_tokens` bytes and at stop strings."""
        if self._closed:
            raise EngineError("the engine is closed")
        self.busy_seconds += self._delay
        await asyncio.sleep(self._delay)
        self.calls += 1
        text = self._script(policy, request)
        stopped = cut_at_stop(text, request.sampling.stop)
        data = (text if stopped is None else stopped).encode()
        kept = data[: request.sampling.max_tokens]
        whole = len(kept) == len(data)
        text = kept.decode(errors="ignore")
        prompt_tokens = sum(len(m.content.encode()) for m in request.prompt)
        finish = "stop" if whole else "length"
        return Sample(text, tuple(kept), _logprobs(kept), finish, prompt_tokens, policy.version)

    async def logprobs(self, policy: Policy, prompt: Prompt, text: str) -> tuple[float, ...]:
        """The fixed log-probabilities of the bytes of `text`."""
        del policy, prompt
        return _logprobs(text.encode())

    def release(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """Refuse requests from now on."""
        self._closed = True


def _logprobs(data: bytes) -> tuple[float, ...]:
    return tuple(-(byte + 1) / 256 for byte in data)
