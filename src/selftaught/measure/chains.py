"""What interventions in answers did: how many chains were cut, how often, and how answers changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from selftaught.measure.flips import flips

if TYPE_CHECKING:
    from selftaught.check.legs import SystemResult

CHAINS = "chains"
"""Kind of the effect in which a solver that intervenes in answers journals its chains."""


def chain_record(budgets: Sequence[int], cut: Sequence[bool], triggers: Sequence[int]) -> dict[str, Any]:
    """The chains of one problem as plain data, for `ask.log(CHAINS, ...)`.

    Args:
        budgets: tokens before each intervention, and after the last.
        cut: of each chain, whether the first budget ended before its answer did.
        triggers: of each chain, number of interventions.
    """
    return {"budgets": [*budgets], "cut": [*cut], "triggers": [*triggers]}


def chains_cut(result: SystemResult) -> float | None:
    """The share of chains on test problems whose first budget ended before the answer; None without chains."""
    cut = [one for record in _records(result) for one in record["cut"]]
    return fmean(cut) if cut else None


def net_mended(result: SystemResult) -> float:
    """The share of revisions of test answers that mended a wrong one less the share that broke a right one."""
    found = flips(result)
    return found["wrong to right"] - found["right to wrong"]


def chain_metrics(result: SystemResult) -> dict[str, float]:
    """The `flips` of a finished system, "chains cut" (share), "triggers" (per chain), "first budget" (tokens, mean)."""
    records = _records(result)
    triggers = [one for record in records for one in record["triggers"]]
    found = {"chains cut": chains_cut(result) or 0.0, "triggers": fmean(triggers or [0])}
    return {**flips(result), **found, "first budget": fmean([record["budgets"][0] for record in records] or [0])}


def _records(result: SystemResult) -> list[Mapping[str, Any]]:
    mine = {problem.id for problem in result.run.task.test}
    return [payload for _, _, payload, _ in result.run.journal.effects(CHAINS) if payload["problem"] in mine]
