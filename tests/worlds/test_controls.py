"""Negative controls on the underfit world: what must not work does not, and the alarms say why.

The rewards are broken on the training problems only, as a broken reward is broken in practice: dev is judged rightly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftaught.console import Console
from selftaught.control import Gate
from selftaught.curate import Vote
from selftaught.feedback.verifiers import ExtractedAnswer
from selftaught.learn import TrainConfig
from selftaught.measure import Comparison, compare
from selftaught.method import find
from selftaught.methods.improve.self_training import lmsi
from selftaught.records import Attempt, Feedback, Problem, Verdict, content_hash
from selftaught.run.run import Run
from selftaught.tasks import load_task
from selftaught.worlds.underfit.task import UnderfitVerifier
from selftaught.worlds.underfit.world import WORLD as UNDERFIT

LEVEL = 2
SETTINGS = replace(
    UNDERFIT.settings, training=TrainConfig(epochs=2, learning_rate=1e-3, batch_size=16, max_tokens_per_pass=2048)
)


class Broken(UnderfitVerifier):
    """Judges the problems of `only` in its own way, and all others rightly."""

    version = "broken"

    def __init__(self, how: str, only: set[str]) -> None:
        self.how, self.only = how, only

    def decide(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """The opposite of the truth, or the verdict of a coin that never looks at the answer."""
        found = super().decide(problem, answer, reference)
        if problem.id not in self.only or found.verdict is Verdict.UNKNOWN:
            return found
        heads = found.verdict is Verdict.WRONG if self.how == "inverted" else int(content_hash(answer.text), 16) % 2
        return replace(found, verdict=Verdict.RIGHT if heads else Verdict.WRONG)


def begun(folder: Path, broken: str = "", level: int = LEVEL, settings: Any = SETTINGS, **sizes: int) -> Run:
    """A run of the underfit world, dev being large enough to tell harm from chance."""
    sizes = {"train": 96, "dev": 192, "test": 1} | sizes
    task = load_task(f"underfit:level={level}", **sizes, seed=0)
    if broken:
        task.verifier = Broken(broken, {p.id for p in task.train})
    return Run(folder, model="underfit", task=task, settings=settings, console=Console(quiet=True))


def names(run: Run) -> set[str]:
    return {alarm.partition(":")[0] for row in run.history for alarm in row["alarms"]}


def effect(run: Run) -> Comparison:
    """The starting model against the last policy, on dev."""
    start = run.measurements[run.base.version]
    solved = run.solve(last(run), run.task.dev, "dev", temperature=0.0)
    return compare(start, run.measurement_of(last(run), "dev", "policy", solved))


def last(run: Run) -> Any:
    from selftaught.models.policy import load_policy

    return load_policy(run.folder / "policies" / run.history[-1]["policy"])


def assert_no_better(run: Run) -> None:
    assert not any(gate["promoted"] for gate in run.gate_decisions)
    assert run.champion == run.base
    assert effect(run).ci95.low <= 0


def test_a_sound_method_is_promoted_and_raises_no_alarm(tmp_path: Path) -> None:
    gently = replace(
        SETTINGS, gate=Gate(), training=replace(SETTINGS.training, epochs=1, learning_rate=2e-4, batch_size=8)
    )
    with begun(tmp_path, level=3, settings=gently, train=400, dev=700) as run:
        find("rest-em")(run, run.base, run.task, rounds=1, samples=8, per_problem=4)
        assert run.champion != run.base
        assert effect(run).ci95.low > 0
        assert names(run) == set()


def test_rest_em_with_inverted_verdicts_is_harmful_and_diverges(tmp_path: Path) -> None:
    with begun(tmp_path, "inverted") as run:
        find("rest-em")(run, run.base, run.task, rounds=2, samples=8, per_problem=4)
        assert_no_better(run)
        assert effect(run).ci95.high < 0
        assert "overoptimization" in names(run)
        assert any("the training reward does not measure dev accuracy" in a for a in run.history[-1]["alarms"])


def test_rest_em_with_verdicts_of_a_coin_gains_nothing_and_the_verdicts_are_named(tmp_path: Path) -> None:
    with begun(tmp_path, "coin") as run:
        find("rest-em")(run, run.base, run.task, rounds=1, samples=8, per_problem=4)
        assert_no_better(run)
        assert "verdicts" in names(run)


def drawn(attempts: Sequence[Attempt]) -> Vote | None:
    """A vote whose verdicts are shuffled: any of the answers given is elected, as likely as any other."""
    answers = sorted({a.answer for a in attempts if a.answer is not None})
    if not answers:
        return None
    elected = random.Random(attempts[0].id).choice(answers)
    voters = tuple(a for a in attempts if a.answer == elected)
    return Vote(elected, len(voters) / len(attempts), voters)


def test_lmsi_with_shuffled_verdicts_gains_nothing_and_disagrees_with_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmsi, "vote", drawn)
    with begun(tmp_path) as run:
        find("lmsi")(run, run.base, run.task, rounds=1, samples=8)
        assert_no_better(run)
        assert "agreement" in names(run)


def test_lmsi_agrees_with_its_samples(tmp_path: Path) -> None:
    with begun(tmp_path) as run:
        find("lmsi")(run, run.base, run.task, rounds=1, samples=8)
        assert names(run) <= {"regression"}


def test_unfiltered_self_training_collapses_and_is_found_out(tmp_path: Path) -> None:
    with begun(tmp_path, train=64, dev=96) as run:
        report = find("self-train-collapse")(run, run.base, run.task, rounds=4, samples=4)
        assert_no_better(run)
        first, final = report.rows[0], report.rows[-1]
        assert final["perplexity"] > first["perplexity"]
        assert final["distinct-2"] < first["distinct-2"]
        assert final["entropy"] < first["entropy"]
        assert "entropy" in names(run)
