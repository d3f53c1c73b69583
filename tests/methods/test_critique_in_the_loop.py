"""Critique-in-the-loop on scripted answers: its critic, its repairs, what it learns; and the critic at test time."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scripted_world import two_rounds
from selftaught.errors import BadInput
from selftaught.method import find
from selftaught.run.run import Run
from selftaught.testing import Learner, make_run, make_task
from talking_world import talk

LOOP, TEST_TIME = find("critique-in-the-loop"), find("critic-supervision")
SMALL: dict[str, Any] = {
    "rounds": 2,
    "samples": 4,
    "repairs": 4,
    "drafts": 3,
    "rollouts_per_critique": 2,
    "per_problem": 3,
}


def played(folder: Path, learner: Learner, **options: Any) -> Run:
    run = make_run(folder, script=talk, learner=learner, task=make_task(train=24))
    LOOP(run, run.base, run.task, **{**SMALL, **options})
    return run


def test_the_critic_learns_what_was_borne_out_and_the_actor_from_the_start(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner) as run:
        answers = {p.prompt: p.reference for p in run.task.train}
        critics = {row["metrics"]["critic"]["policy"] for row in run.history}
        roles = Counter((p["role"], p["policy"]) for _, n, p, _ in run.journal.effects("sample") if n == 2)
    (start, lessons), *rounds = learner.given
    assert start.version == "base-model"
    pointing = 0
    for demo in lessons:
        assert len(demo.prompt) == 3
        right = f"Answer: {answers[demo.prompt[:1]]}" in demo.prompt[1].content
        assert right == (demo.target == "no mistakes")
        pointing += not right
    assert 0 < pointing <= len(lessons) <= 2 * pointing
    (critic,) = critics
    assert {base.version for base, _ in rounds} == {"base-model"}
    writers = {role: policy for role, policy in roles if role != "solve"}
    assert writers["critique"] == critic
    assert writers["revise"] not in (critic, "base-model")  # the actor of the round


def test_right_answers_alone_are_learnt_as_many_of_each_problem(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner) as run:
        answers = {p.prompt: f"Answer: {p.reference}" for p in run.task.train}
    for _, demos in learner.given[1:]:
        assert all(d.target.endswith(answers[d.prompt[:1]]) for d in demos)
        for size in (1, 5):  # plain answers; revisions under the prompt with draft and critique
            counts = Counter(d.prompt[:1] for d in demos if len(d.prompt) == size)
            assert 0 < max(counts.values()) <= 3
        assert {len(d.prompt) for d in demos} == {1, 5}


def test_repairs_go_where_failures_are_and_cover_more_hard_problems(tmp_path: Path) -> None:
    with played(tmp_path, Learner(), rounds=1) as run:
        samples = {key: p for key, n, p, _ in run.journal.effects("sample") if n == 1}
        train = {p.id: p.reference for p in run.task.train}
        tried = [
            p
            for p in samples.values()
            if p["role"] == "solve" and p["sampling"]["temperature"] and p["problem"] in train
        ]
        notes = Counter(p["problem"] for p in samples.values() if p["role"] == "critique")
        told = run.history[0]["metrics"]["hard problems"]
    failed = Counter(p["problem"] for p in tried if not p["text"].endswith(f"Answer: {train[p['problem']]}"))
    assert notes == {name: math.ceil(4 * count / 4) for name, count in failed.items()}
    assert 0 < told["of"] == sum(count >= 3 for count in failed.values())
    assert told["covered"] > told["covered directly"]
    assert told["distinct"] > told["distinct directly"]


def test_without_repairs_it_is_plain_rejection_sampling(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, repairs=0) as run:
        assert {p["role"] for _, _, p, _ in run.journal.effects("sample")} == {"solve"}
        assert run.history[0]["metrics"]["critic"] == {"policy": "none", "examples": 0, "repairs": 0}
    assert len(learner.given) == 2
    assert {len(d.prompt) for _, demos in learner.given for d in demos} == {1}


def test_self_talk_is_learnt_where_asked_for(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, rounds=1, self_talk=True, learn_revisions=False):
        demos = learner.given[1][1]
    talks = [d for d in demos if "step 1:" in d.target]
    assert talks
    assert all(len(d.prompt) == 1 and d.target.count("Answer:") == 1 for d in talks)


# --- at test time ---


def share(run: Run, **options: Any) -> float:
    solver = TEST_TIME.with_options(**options)
    tried = run.attempt(run.base, run.task.train, solver=solver)
    return sum(a.right for a in tried) / len(tried)


def test_both_forms_mend_more_than_they_break(tmp_path: Path) -> None:
    with make_run(tmp_path, script=talk, task=make_task(train=60)) as run:
        plain = sum(a.right for a in run.attempt(run.base, run.task.train, samples=4)) / 240
        parallel, sequential = share(run, samples=4), share(run, samples=4, mode="sequential")
    assert plain + 0.15 < sequential < parallel + 0.15


def test_a_critic_of_its_own_is_asked(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, rounds=1) as run:
        critic = run.history[0]["metrics"]["critic"]["policy"]
        before = {key for key, _, _, _ in run.journal.effects("sample")}
        share(run, samples=2, critic=str(run.folder / "policies" / critic))
        new = [p for key, _, p, _ in run.journal.effects("sample") if key not in before]
    assert {p["policy"] for p in new if p["role"] == "critique"} == {critic}
    assert {p["policy"] for p in new if p["role"] != "critique"} == {"base-model"}


def test_an_unknown_form_is_one_line(tmp_path: Path) -> None:
    with make_run(tmp_path, script=talk) as run, pytest.raises(BadInput, match="did you mean 'parallel'"):
        share(run, mode="paralel")


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "critique-in-the-loop", samples=3)
    assert champion.base
    assert len(learner.given) == 3  # the critic is trained besides
