"""LMSI: what it elects and learns, on scripted answers."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from scripted_world import two_rounds
from selftaught.engines import Request
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.method import find
from selftaught.models import Policy
from selftaught.records import Problem
from selftaught.tasks import Kind, Task
from selftaught.testing import Inverted, Learner, make_run, make_task, sums


def test_lmsi_learns_the_majority_s_rationales_in_two_formats(tmp_path: Path) -> None:
    task = Task("one", sums(1), sums(4, 50), [], verifier=Exact(), kind=Kind.NUMBER)
    learner = Learner()
    texts = [f"path {i}\nAnswer: {a}" for i, a in enumerate("78878")] + ["no idea"]
    left = iter(texts)

    def script(policy: Policy, request: Request) -> str:
        return next(left) if request.prompt == task.train[0].prompt else "Answer: 1"

    with make_run(tmp_path, task=task, script=script, learner=learner) as run:
        find("lmsi")(run, run.base, run.task, rounds=1, samples=6)
    ((_, demos),) = learner.given
    *rationales, short = demos
    assert [demo.target for demo in rationales] == [texts[1], texts[2], texts[4]]
    assert all(demo.prompt == task.train[0].prompt for demo in rationales)
    assert short.target == "Answer: 8"
    assert short.prompt[-1].content == f"{task.train[0].question}\nGive only the answer, without steps."
    assert set(short.attempts) == {demo.attempts[0] for demo in rationales}


@pytest.mark.parametrize(("confidence", "learnt"), [(0.6, [4]), (4 / 6, [4]), (0.7, [])])
def test_lmsi_asks_for_the_confidence_it_is_told(tmp_path: Path, confidence: float, learnt: list[int]) -> None:
    task = Task("one", sums(1), sums(4, 50), [], verifier=Exact(), kind=Kind.NUMBER)
    learner, left = Learner(), iter("788878")

    def script(_: Policy, request: Request) -> str:
        return f"Answer: {next(left) if request.prompt == task.train[0].prompt else 1}"

    empty = pytest.raises(BadInput, match="nothing to learn") if not learnt else contextlib.nullcontext()
    with make_run(tmp_path, task=task, learner=learner, script=script) as run, empty:
        find("lmsi")(run, run.base, run.task, rounds=1, samples=6, min_confidence=confidence, mixed_formats=False)
    assert [len(demos) for _, demos in learner.given if demos] == learnt


def test_lmsi_learns_the_same_whatever_the_verifier_says(tmp_path: Path) -> None:
    versions = []
    for verifier in (Exact(), Inverted()):
        with make_run(tmp_path / verifier.version.replace("/", "-"), task=make_task(verifier=verifier)) as run:
            find("lmsi")(run, run.base, run.task, rounds=2, samples=4)
            versions.append([row["policy"] for row in run.history])
            accuracies = [row["accuracy"] for row in run.history]
    assert versions[0] == versions[1]
    assert len(set(versions[0])) == 2
    assert max(accuracies) < 0.5  # the inverted verifier did judge dev


def test_lmsi_needs_no_references_on_train_and_heats_up_later_rounds(tmp_path: Path) -> None:
    known = make_task()
    bare = [Problem(p.id, p.prompt) for p in known.train]
    task = Task("bare", bare, known.dev, known.test, verifier=Exact(), kind=Kind.NUMBER)
    with make_run(tmp_path, task=task) as run:
        find("lmsi")(run, run.base, run.task, rounds=2, samples=3)
        train = {p.id for p in bare}
        heat = {
            (payload["policy"] == "base-model", payload["sampling"]["temperature"])
            for _, _, payload, _ in run.journal.effects("sample")
            if payload["problem"] in train
        }
        judged = run.journal.count("verify")
    assert heat == {(True, 0.7), (False, 1.2)}
    assert 0 < judged <= 3 * len(task.dev)


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "lmsi", samples=3)
    assert champion.base
    assert len(learner.given) == 2


def test_it_declares_that_it_needs_no_labels() -> None:
    assert find("lmsi").needs == ()
