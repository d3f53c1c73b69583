"""An engine with few places, whose calls can be counted from outside the process that makes them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from selftaught.engines import Request, Sample, ScriptedEngine
from selftaught.engines.scripted import Script
from selftaught.models import Policy
from selftaught.testing.sums import solve_sum


class NarrowEngine(ScriptedEngine):
    """Answers `width` requests at a time, and leaves a byte in `log` when it starts on one, whatever becomes of it."""

    def __init__(self, script: Script = solve_sum, *, delay: float = 0.0, width: int = 4, log: Path) -> None:
        super().__init__(script, delay=delay)
        self._gate = asyncio.Semaphore(width)
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """As `ScriptedEngine`, a few at a time."""
        async with self._gate:
            os.write(self._log, b".")
            return await super().sample(policy, request)
