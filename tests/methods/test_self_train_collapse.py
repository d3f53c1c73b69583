"""The study of collapse, on scripted answers: what it learns under each option, and what it reports."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from selftaught.check.claim import SystemResult
from selftaught.errors import BadInput
from selftaught.measure import StudyReport
from selftaught.method import find
from selftaught.methods.study.self_train_collapse import held_out_nll
from selftaught.records import Verdict
from selftaught.run.run import Run
from selftaught.testing import Learner, make_run, make_task

STUDY = find("self-train-collapse")
ROUNDS, SAMPLES = 2, 3


def studied(run: Run, data: str = "all") -> StudyReport:
    return STUDY(run, run.base, run.task, rounds=ROUNDS, samples=SAMPLES, data=data, lr_scale=2.0)


@pytest.mark.parametrize("data", ["all", "right", "replay"])
def test_every_way_of_learning_takes_as_many_steps(tmp_path: Path, data: str) -> None:
    learner = Learner()
    with make_run(tmp_path, learner=learner) as run:
        studied(run, data)
        texts = {key: p for key, _, p, _ in run.journal.effects("sample")}
        answers = {p.id: f"Answer: {p.reference}" for p in run.task.train}
        rates = [
            json.loads((policy / "selftaught.json").read_text())["records"]
            for policy in sorted((run.folder / "policies").iterdir())
        ]
    assert rates == [len(run.task.train) * SAMPLES] * ROUNDS
    bases = [base for base, _ in learner.given]
    assert bases[0] == run.base
    assert bases[1].base == run.base  # from the current model, not from the start
    for number, (base, demos) in enumerate(learner.given):
        assert len(demos) == len(run.task.train) * SAMPLES
        named = [texts[demo.attempts[0]] for demo in demos]
        assert all(p["problem"] in answers for p in named)  # nothing of dev is learnt
        right = [p["text"].endswith(answers[p["problem"]]) for p in named]
        assert all(right) or data != "right"
        assert all(right) is (data == "right") or number  # once trained, the scripted model is nearly always right
        if data == "replay":
            assert all(right[len(demos) // 2 :])
            assert {p["policy"] for p in named[len(demos) // 2 :]} == {"base-model"}
        if number and data != "replay":
            assert {p["policy"] for p in named} == {base.version}


def test_the_frozen_control_learns_nothing(tmp_path: Path) -> None:
    learner = Learner()
    with make_run(tmp_path, learner=learner) as run:
        report = studied(run, "none")
    assert learner.given == []
    assert {row["policy"] for row in report.rows} == {"base-model"}


def test_its_figures_are_those_of_the_held_out_text(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        report = studied(run)
        dev = {p.id: f"Answer: {p.reference}" for p in run.task.dev}
        texts: dict[str, list[str]] = {}
        for _, number, p, _ in run.journal.effects("sample"):
            right = p["problem"] in dev and p["text"].endswith(dev[p["problem"]])
            if number == 0 and right and p["sampling"]["temperature"] == 1.0:
                texts.setdefault(p["problem"], []).append(p["text"])
        assert held_out_nll(SystemResult(run, run.base, (), 0, report)) == report.scores
    nats = {  # the scripted engine gives byte b the log-probability -(b + 1) / 256
        problem: sum((b + 1) / 256 for t in said for b in t.encode()) / sum(len(t.encode()) for t in said)
        for problem, said in texts.items()
    }
    assert report.scores == pytest.approx(nats, abs=1e-4)
    assert [row["round"] for row in report.rows] == [0, 1, 2]
    assert report.rows[-1]["perplexity"] == pytest.approx(math.exp(sum(nats.values()) / len(nats)), rel=1e-4)
    for row in report.rows:
        assert 0 < row["distinct-2"] <= 1
        assert row["entropy"] > 0


def test_reading_is_paid_once_and_only_in_prompt_tokens(tmp_path: Path) -> None:
    spent = []
    for _ in range(2):
        with make_run(tmp_path) as run:
            tried = run.attempt(run.base, run.task.train, samples=2)
            before = run.ledger.usage
            nats = run.nll(run.base, tried)
            again = run.nll(run.base, tried)
            assert nats == again
            assert run.ledger.usage.spent == before.spent
            assert run.ledger.usage.prompt - before.prompt == sum(
                len(prompt[-1].content) + len(text) for prompt, text in {(a.prompt, a.text) for a in tried}
            )
            assert run.ledger.usage == run.journal.usage()
            spent.append((nats, run.journal.digest()))
    assert spent[0] == spent[1]


def test_wrong_uses_are_one_line(tmp_path: Path) -> None:
    wrong = "got 'rigth'; did you mean 'right'"
    with make_run(tmp_path) as run, pytest.raises(BadInput, match=wrong):
        studied(run, "rigth")
    with make_run(tmp_path / "b", script=lambda *_: "no idea") as run:
        with pytest.raises(BadInput, match="solves no dev problem"):
            studied(run)
        assert {a.verdict for a in run.attempt(run.base, run.task.dev)} == {Verdict.UNKNOWN}


def test_its_task_may_be_of_any_size(tmp_path: Path) -> None:
    with make_run(tmp_path, task=make_task(train=1, dev=8)) as run:
        assert len(studied(run).rows) == ROUNDS + 1
