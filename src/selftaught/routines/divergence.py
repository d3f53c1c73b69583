"""How far a policy has moved from the one it started from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from selftaught.models import Policy
from selftaught.records import Problem

if TYPE_CHECKING:
    from selftaught.run.run import Run


def kl_from(run: Run, policy: Policy, start: Policy, problems: Sequence[Problem]) -> dict[str, float]:
    """Estimate KL(policy || start) per response, in nats, from one answer of `policy` to each problem.

    The mean over answers y, sampled at temperature 1, of log policy(y|x) - log start(y|x), the end of sequence not
    counted; an unbiased estimate, which may come out below 0 where the policies are close. Costs an answer a problem,
    read under both policies.

    Args:
        problems: of the train split.

    Returns:
        "kl", its standard error "kl_se" (0 for fewer than two answers), and the number of "responses"; "kl" is NaN
        without any.
    """
    tried = run.attempt(policy, problems, temperature=1.0, top_p=1.0, top_k=0)
    own, before = run.nll(policy, tried), run.nll(start, tried)
    gaps = [b - a for a, b in zip(own, before, strict=True) if not math.isnan(b - a)]
    error = stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
    return {"kl": fmean(gaps) if gaps else math.nan, "kl_se": error, "responses": len(gaps)}
