"""Interpret the return value of a user's verifier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from selftaught.records import Feedback, Verdict

VERIFIER_FAILURES = (
    "verifier raised", "verifier died", "verifier could not start", "verifier returned a ", "verifier returned NaN",
    "timeout", "environment raised",
)  # fmt: skip
"""How the text of a failed verification begins; any other UNKNOWN is a verdict on the answer."""

NOT_APPLICABLE = "not applicable"
"""The text of UNKNOWN where a reward function in TRL's form returns None: it does not judge such problems."""

MAX_TEXT = 10_000
"""Characters of a verifier's explanation that are kept."""


def parse_verifier_result(result: Any) -> tuple[str, float | None, str]:
    """A verifier's result as (verdict, score, text).

    True / False are RIGHT / WRONG; a number is a score, and only a full score (>= 1) is RIGHT; None is UNKNOWN; of a
    mapping, `score` counts, and its other numbers and words become the text, as in verl;
    a `Feedback` is used as is, but for text over `MAX_TEXT`. NaN and anything else are UNKNOWN, and the text gives the
    reason.
    """
    if isinstance(result, Mapping):
        if "score" not in result:
            return str(Verdict.UNKNOWN), None, "verifier returned a mapping without 'score'"
        rest = {name: one for name, one in result.items() if name != "score" and isinstance(one, (str, int, float))}
        verdict, score, why = parse_verifier_result(result["score"])
        return verdict, score, why or ", ".join(f"{name}: {value}" for name, value in rest.items())[:MAX_TEXT]
    if isinstance(result, Feedback):
        text = result.text if len(result.text) <= MAX_TEXT else f"{result.text[:MAX_TEXT]}…"
        return str(result.verdict), result.score, text
    if result is None:
        return str(Verdict.UNKNOWN), None, "verifier returned None"
    if not isinstance(result, (bool, int, float)) and getattr(result, "shape", None) == ():
        result = result.item()  # a NumPy or torch scalar
    if isinstance(result, bool):
        return (str(Verdict.RIGHT), 1.0, "") if result else (str(Verdict.WRONG), 0.0, "")
    if isinstance(result, (int, float)) and not math.isnan(result):
        verdict = Verdict.RIGHT if result >= 1 else Verdict.WRONG
        return str(verdict), min(max(float(result), 0.0), 1.0), ""
    what = "NaN" if isinstance(result, float) else f"a {type(result).__name__}"
    return str(Verdict.UNKNOWN), None, f"verifier returned {what}, expected a bool, a number, a Feedback or None"
