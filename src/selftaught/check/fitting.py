"""Fitting a baseline to the method's compute: rounds are added and the last one cut, samples raised or lowered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftaught.check.baselines import run_system, trains_nothing
from selftaught.check.legs import Baseline
from selftaught.check.outcome import Outcome, outcome_of
from selftaught.check.setup import method_mark
from selftaught.control import Budget
from selftaught.errors import BadInput, suggest
from selftaught.method import Method
from selftaught.run.round_cut import RoundEnd

if TYPE_CHECKING:
    from selftaught.check.outcome import SeedResult
    from selftaught.check.setup import Check

CLOSE = 0.95
"""Share of the method's compute from which a baseline that does not exceed it counts as fitted."""
SHORT = 0.8
"""Share below which what a baseline spent is reported: a cut round leaves a little over."""
SHARES = (1.0, 0.75, 0.5)  # of the method's compute, tried in turn while not even one round of a recipe fits
MAX_TRIES = 5  # changes of a baseline's number of samples, or the like, until it fits


@dataclass(frozen=True)
class PublishedRun:
    """A baseline as published: what was found, and what each of its rounds left."""

    outcome: Outcome
    ends: tuple[RoundEnd, ...] = ()

    @property
    def round_compute(self) -> int:
        """What a round takes, by the last one."""
        return self.ends[-1].compute - self.ends[-1].began if self.ends else 0

    def budget(self, compute: int) -> Budget:
        """A budget under which the first round is cut, too."""
        if not self.ends:
            return Budget(compute=compute)
        first = self.ends[0]
        return Budget(compute=compute, round_compute=first.compute - first.began, round_fixed=first.fixed)


def fit_system(
    what: Check, seed: int, rival: Baseline, method: Method, options: Mapping[str, Any], published: PublishedRun,
    trial: SeedResult,
) -> Outcome | str:  # fmt: skip
    """A baseline that spends as much compute as the method, or a little less; or why it cannot be made to.

    Raises:
        BadInput: its `fit_with` is no numeric option.
    """
    spent, fit = published.outcome.compute, fit_option(method, rival)
    limit = compute_limit(what, trial.method, trains=not trains_nothing(method), answers=published.outcome)
    if isinstance(limit, str):
        return limit
    if CLOSE * limit <= spent <= limit:
        return published.outcome
    study = method.shape == "study"  # whose rounds no budget cuts
    if study and not rival.fit_with:
        return "a study cannot be cut, and no option says how much it does (fit_with)"
    if not study and (fit == "rounds" or (not fit and published.ends)):
        found = _fit_rounds(what, seed, rival, method, dict(options), published, limit, grow=fit == "rounds")
    elif fit:
        found = _fit_number(what, seed, rival, method, dict(options), fit, spent, limit)
    else:
        found = None
    if found is None and spent <= limit:
        found = published.outcome
    if found is None or found.compute > limit:
        return f"nothing that it can be cut to fits the method's compute of {limit:,}"
    if found is not published.outcome:
        trial.add_cost(found)
        trial.seconds += found.seconds
    if found.compute < SHORT * limit:
        trial.notes.append(f"{rival.name} spent {found.compute:,} of compute at most, the method {limit:,}")
    return found


def compute_limit(what: Check, mine: Outcome, *, trains: bool, answers: Outcome | None = None) -> int | str:
    """The compute that a baseline may spend, in training if it trains, else in answering; or why there is none.

    What training takes is spread over `Claim.amortized_over` questions if only one of baseline and method trains.

    Args:
        mine: the method's outcome.
        trains: whether the baseline trains.
        answers: of the baseline as published, if it trains.
    """
    if trains != what.by_problem:
        return mine.compute
    spread, who = what.claim.amortized_over, "it trains" if trains else f"{what.method.id} trains"
    if not spread:
        other = f"{what.method.id} does not" if trains else "it does not"
        return f"{who}, {other}, and the claim does not say over how many questions (amortized_over)"
    if not trains:
        return mine.answer_compute + round(mine.compute * mine.answers / spread)
    left = mine.compute - (answers.answer_compute if answers else 0)
    return max(0, round(left * spread / max(1, mine.answers)))


def fit_option(method: Method, rival: Baseline) -> str:
    """The numeric option that is changed at equal compute; empty where there is none. See `Baseline.fit_with`.

    Raises:
        BadInput: the method has no such option, or it is no number.
    """
    names = {option.name: option for option in method.options}
    if rival.fit_with:
        option, where = names.get(rival.fit_with), f"fit_with of {rival.name}"
        if option is None:
            raise BadInput(f"unknown option {rival.fit_with!r}", where=where, fix=suggest(rival.fit_with, list(names)))
        if option.kind not in (int, float):
            raise BadInput(f"{rival.fit_with} is no number", where=where, fix="name a numeric option")
        return rival.fit_with
    wanted = "samples" if trains_nothing(method) else "rounds"
    pinned = {**(method.preset.options if method.preset else {}), **rival.options}
    return wanted if wanted in names and not (wanted == "rounds" and wanted in pinned) else ""


def _fit_rounds(
    what: Check, seed: int, rival: Baseline, method: Method, options: dict[str, Any], published: PublishedRun,
    limit: int, *, grow: bool,
) -> Outcome | None:  # fmt: skip
    """Give a recipe the rounds that fit, the last one cut; None where not even the first does."""
    spent, cost = published.outcome.compute, published.round_compute
    if grow and spent < limit and cost:
        options["rounds"] = len(published.ends) + math.ceil((limit - spent) / cost)
    elif spent < limit:
        return published.outcome
    for share in SHARES:
        found = _run(what, seed, rival, method, options, published.budget(round(share * limit)))
        if found.compute:  # else its only round came out dearer than it was cut to, and the start would answer
            return found
    return None


def _fit_number(
    what: Check, seed: int, rival: Baseline, method: Method, options: dict[str, Any], fit: str, spent: int, limit: int
) -> Outcome | None:  # fmt: skip
    """Change an option until the system fits, by what it cost so far: the best of a few tries."""
    number, best = method.bind(dict(options))[fit], None
    whole, slope = not isinstance(number, float), spent / number
    for _ in range(MAX_TRIES):
        wanted = number + (limit - spent) / slope
        wanted = max(1, math.floor(wanted)) if whole else wanted
        if wanted == number or wanted <= 0:
            break
        found = _run(what, seed, rival, method, {**options, fit: wanted}, None)
        slope = max(1.0, (found.compute - spent) / (wanted - number))
        number, spent = wanted, found.compute
        if spent <= limit and (best is None or spent > best.compute):
            best = found
        if CLOSE * limit <= spent <= limit:
            break
    return best


def _run(
    what: Check, seed: int, rival: Baseline, method: Method, options: dict[str, Any], budget: Budget | None
) -> Outcome:
    """Run the baseline in a folder of its own; not shared, as the compute is that of this claim's method."""
    with what.run(seed, rival.name, mark=method_mark(method, options, budget), budget=budget) as run:
        limit = budget.compute if budget else None
        return outcome_of(what.claim, rival.name, run_system(run, method, options, limit=limit), fitted=True)
