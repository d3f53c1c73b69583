"""Sums written step by step by a script: every step is right or wrong as its seed has it, and carried on."""

from __future__ import annotations

import re
from collections.abc import Callable

from selftaught.engines import Request
from selftaught.models import Policy

CHARS = 0.6  # share of right steps


def given_of(request: Request) -> str:
    """The text an answer goes on from."""
    return b"".join(p.encode() if isinstance(p, str) else bytes([p]) for p in request.prefix_tokens).decode()


def by_steps(
    judge: Callable[[str], str] = lambda said: "right" if "wrong" not in said else "wrong",
) -> Callable[..., str]:
    """A script that goes on from what it is given: `add 1`, `add 2` (or `wrong 1`, ...), and then the answer."""

    def script(policy: Policy, request: Request) -> str:
        del policy
        if "right, or: wrong" in request.prompt[-1].content:
            return judge(request.prompt[-2].content)
        said = given_of(request)
        done = sum(bool(line.strip()) for line in said.split("\n")[:-1])
        first, second = map(int, re.findall(r"\d+", request.prompt[0].content)[:2])
        lines: list[str] = []
        for i in range(done, 3):
            good = (request.seed >> (4 * i)) % 10 < 10 * CHARS
            lines.append(f"{'add' if good else 'wrong'} {i}")
        errors = said.count("wrong") + sum("wrong" in line for line in lines)
        lines.append(f"Answer: {first + second + errors}")
        return "\n".join(lines) if done < 4 else ""

    return script
