"""The contents of a report as plain data, independent of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from selftaught.report.trees import TreeView


@dataclass(frozen=True)
class Round:
    """One round of the loop, measured on the dev split.

    Attributes:
        number: counts from 1; 0 is the starting model, if it was measured.
        policy: version measured at the end of the round.
        demos: training examples of the round; None without training.
        accuracy: on dev, 0..1.
        ci95: its 95 % interval.
        samples: dev problems measured.
        pass_at: k -> pass@k of the sampling on train in this round; may be empty.
        promoted: whether the policy became the champion.
        reason: reason for promotion or rejection.
        alarms: one line per alarm, beginning with its name.
        told: metrics logged by the method: name -> figures by name.
        tokens: spent from the start of the run up to here, by kind: prompt, generated, judge, trained.
        seconds: wall time from the start of the run up to here.
    """

    number: int
    policy: str
    records: int | None
    accuracy: float
    ci95: tuple[float, float]
    samples: int
    pass_at: Mapping[int, float] = field(default_factory=dict)
    promoted: bool = False
    reason: str = ""
    alarms: tuple[str, ...] = ()
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Curve:
    """Curves of one training as `(step, value)`; for online training also the share of right rollouts."""

    name: str
    loss: tuple[tuple[float, float], ...] = ()
    right: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Example:
    """One problem, answered before and after; verdicts are "right", "wrong" or "unknown"."""

    question: str
    reference: str
    before: str
    before_verdict: str
    after: str
    after_verdict: str


@dataclass(frozen=True)
class ReportData:
    """The contents of the page.

    Attributes:
        title: name of the run.
        command: command line that reproduces it.
        method: the method's id.
        model: the starting model.
        task: the task's specification.
        summary: the run's summary. Optional keys used: `n_test`; `before`, `after`,
            `majority_at_equal_tokens` (`accuracy` 0..1, `ci95`; the last also `samples`, `tokens`);
            `paired_difference` (`mean`, `ci95`, -1..1); `tokens` (kind -> count); `seconds`;
            `peak_rss_mb`; `unknown_rate` (`before`, `after`, 0..1); `overhead` (share of the wall
            time, 0..1). Without `before` and `after` the run is treated as not concluded.
        rounds: oldest first.
        pass_at_before: k -> pass@k of the starting model; empty if not measured.
        pass_at_after: the same for the champion.
        champions: the champion's history, one line each, oldest first.
        examples: problems before and after.
        config: the resolved configuration, possibly nested.
        versions: package -> version.
        notes: further remarks, one line each.
        curves: curves of each training, oldest first.
        trees: search trees, if the method made any.
        champion_notes: role and text of each message that the champion reads before every prompt; empty without notes.
    """

    title: str
    command: str
    method: str
    model: str
    task: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    rounds: tuple[Round, ...] = ()
    pass_at_before: Mapping[int, float] = field(default_factory=dict)
    pass_at_after: Mapping[int, float] = field(default_factory=dict)
    champions: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()
    trees: tuple[TreeView, ...] = ()
    champion_notes: tuple[tuple[str, str], ...] = ()
