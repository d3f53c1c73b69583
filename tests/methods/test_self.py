"""SELF on scripted answers: its corpus, its own filter, replay, restart, and what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripted_world import two_rounds
from selftaught.engines.scripted import scripted_learner
from selftaught.learn import TrainConfig, sft
from selftaught.method import find
from selftaught.records import Demo, as_prompt
from selftaught.run.run import Run
from selftaught.testing import Learner, make_run, make_task
from selftaught.testing.sums import base_policy
from talking_world import talk

SELF = find("self")


def played(folder: Path, learner: Learner, *, dev: int = 8, **options: Any) -> Run:
    run = make_run(folder, script=talk, learner=learner, task=make_task(train=24, dev=dev))
    SELF(run, run.base, run.task, **{"rounds": 2, "samples": 2, "drafts": 2, **options})
    return run


def test_meta_skills_first_and_replayed_in_every_round(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner) as run:
        right = {p.prompt: f"Answer: {p.reference}" for p in run.task.train}
    corpus, *rounds = [demos for _, demos in learner.given]
    assert {base.version for base, _ in learner.given} == {"base-model"}  # each time from the start
    roles = {len(demo.prompt) for demo in corpus}
    assert roles == {1, 3, 5}  # an answer, a critique of it, a revision after that
    assert all(demo.target.endswith(right[demo.prompt[:1]]) for demo in corpus if len(demo.prompt) != 3)
    assert rounds[0][: len(corpus)] == corpus
    told = run.history[0]["metrics"]["corpus"]
    assert (told["examples"], told["fixing"]) == tuple(sum(len(d.prompt) == n for d in corpus) for n in (3, 5))
    assert rounds[1][: len(rounds[0])] == rounds[0]  # the data of all rounds
    assert len(rounds[1]) > len(rounds[0]) > len(corpus)
    assert all(demo.prompt in right for demo in rounds[1][len(corpus) :])


def test_refining_and_filtering_raise_the_share_of_right_items(tmp_path: Path) -> None:
    with played(tmp_path, Learner()) as run:
        told = run.history[0]["metrics"]["share right"]
    assert told["answers"] < told["refined"] < told["kept"]


def test_its_filter_is_its_own_verdict_not_the_verifier(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, rounds=1, samples=8) as run:
        right = {p.prompt: f"Answer: {p.reference}" for p in run.task.train}
        told = run.history[0]["metrics"]["share right"]
    (_, corpus), (_, demos) = learner.given
    own = demos[len(corpus) :]
    assert len(own) == told["of"] < 192
    assert sum(d.target.endswith(right[d.prompt]) for d in own) / len(own) == pytest.approx(told["kept"])
    assert told["kept"] < 1  # a judge that errs lets wrong ones through


def test_continuing_goes_on_from_the_last_policy_with_this_rounds_data_alone(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, restart=False):
        bases = [base for base, _ in learner.given]
    assert bases[2].base == bases[1]
    (_, corpus), (_, first), (_, second) = learner.given
    assert second[: len(corpus)] == corpus
    assert not set(first[len(corpus) :]) & set(second)


def test_each_half_can_be_left_out(tmp_path: Path) -> None:
    for options, roles in (
        ({"self_refine": False}, {"solve", "judge"}),
        ({"self_filter": False}, {"solve", "critique", "revise"}),
    ):
        learner = Learner()
        with played(tmp_path / "".join(options), learner, rounds=1, **options) as run:
            later = [p for _, number, p, _ in run.journal.effects("sample") if number == 1]
        assert {p["role"] for p in later} == roles
        (_, corpus), (_, demos) = learner.given
        assert (len(demos) - len(corpus) == 48) is (options == {"self_filter": False})


def test_refinement_at_test_time_is_measured_beside(tmp_path: Path) -> None:
    with played(tmp_path, Learner(), dev=80, rounds=1, refine_at_test=True) as run:
        row = run.history[0]
    assert row["metrics"]["refined at test"]["dev accuracy"] >= row["accuracy"]


def test_with_a_teacher_its_feedback_is_what_is_learnt(tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    teacher = scripted_learner(
        base_policy(folder), sft(), [Demo(as_prompt("hello"), "hello")], TrainConfig(), seed=0, folder=folder
    )
    learner = Learner()
    with played(tmp_path, learner, rounds=1, teacher=str(teacher.path)) as run:
        writers = {(p["role"], p["policy"]) for _, n, p, _ in run.journal.effects("sample") if n == 0}
    assert writers == {("solve", "base-model"), ("critique", teacher.version), ("revise", teacher.version)}
    assert learner.given[0][0].version == "base-model"


def test_where_nothing_is_borne_out_it_evolves_from_the_start(tmp_path: Path) -> None:
    learner = Learner()
    with make_run(tmp_path, learner=learner) as run:  # a model that answers whatever it is asked
        SELF(run, run.base, run.task, rounds=1, samples=2, self_filter=False, drafts=1)
    assert learner.given


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "self", samples=3)
    assert champion.base
    assert len(learner.given) == 1  # the scripted model finds none of its own answers right, as this method asks it
