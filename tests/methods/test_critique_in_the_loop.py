"""Critique-in-the-loop on scripted answers: its critic, its repairs, what it learns; and the critic at test time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scripted_world import two_rounds
from selftaught.engines import Request
from selftaught.engines.scripted import scripted_learner
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig, sft
from selftaught.method import find
from selftaught.models import Policy
from selftaught.records import Demo, as_prompt
from selftaught.refine.turns import CRITIQUE
from selftaught.run.run import Run
from selftaught.tasks.annotator import Annotator
from selftaught.testing import Learner, SumAnnotator, make_run, make_task
from selftaught.testing.sums import base_policy, depth
from talking_world import heard, talk

ROLES = ("solve", "critique", "revise")
SUMS = SumAnnotator()

LOOP, TEST_TIME = find("critique-in-the-loop"), find("critic-supervision")
SMALL: dict[str, Any] = {"rounds": 2, "samples": 4, "repairs": 4, "drafts": 3, "probe": 6}


def played(folder: Path, learner: Learner, *, annotator: Annotator | None = SUMS, **options: Any) -> Run:
    task = make_task(train=24, annotator=annotator)
    run = make_run(folder, script=talk, learner=learner, task=task)
    LOOP(run, run.base, run.task, **{**SMALL, **options})
    return run


def sampled(run: Run, number: int) -> list[dict[str, Any]]:
    return [p for _, n, p, _ in run.journal.effects("sample") if n == number]


def test_the_critic_learns_the_annotators_critiques_and_the_actor_its_solutions_and_revisions(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner) as run:
        answers = {p.prompt: p.reference for p in run.task.train}
        known = [p.prompt for p in run.task.train[:18]]
        told = [row["metrics"]["critic"] for row in run.history]
    (_, corpus), (_, lessons), *rounds = learner.given
    assert {base.version for base, _ in learner.given} == {"base-model"}
    solutions = [d for d in corpus if len(d.prompt) == 1]
    assert [d.prompt for d in solutions] == known
    assert all(d.target == f"The sum is {answers[d.prompt]}.\nAnswer: {answers[d.prompt]}" for d in solutions)
    pointing = [d for d in lessons if d.target != "no mistakes"]
    assert 0 < len(pointing) < len(lessons) <= 2 * len(pointing)
    for demo in lessons:
        right = f"Answer: {answers[demo.prompt[:1]]}" in demo.prompt[1].content
        assert demo.target == ("no mistakes" if right else f"step 1: {answers[demo.prompt[:1]]}")
        assert demo.prompt[:1] in known
    revisions = [d for d in corpus if len(d.prompt) == 5]
    assert [d.prompt[:3] for d in revisions] == [d.prompt for d in pointing]
    assert all(d.target.endswith(f"Answer: {answers[d.prompt[:1]]}") for d in revisions)
    assert len(solutions) + len(revisions) == len(corpus)
    assert all(demos[: len(corpus)] == corpus for _, demos in rounds)
    assert {(one["lessons"], one["pointing"]) for one in told} == {(len(lessons), len(pointing))}


def test_critic_and_actor_play_their_parts_greedily_and_not(tmp_path: Path) -> None:
    with played(tmp_path, Learner()) as run:
        (critic,) = {row["metrics"]["critic"]["policy"] for row in run.history}
        second = sampled(run, 2)
    writers = {
        role: {(p["policy"], p["sampling"]["temperature"]) for p in second if p["role"] == role} for role in ROLES
    }
    assert writers["critique"] == {(critic, 0.0)}
    ((actor, temperature),) = writers["revise"]
    assert (actor, temperature) in writers["solve"]
    assert temperature == 0.7
    assert actor not in (critic, "base-model")


def test_all_right_answers_and_right_repairs_are_learnt(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, rounds=1) as run:
        answers = {p.prompt: f"Answer: {p.reference}" for p in run.task.train}
        train = {p.id: f"Answer: {p.reference}" for p in run.task.train}
        right = Counter(
            p["role"]
            for p in sampled(run, 1)
            if p["problem"] in train and p["sampling"]["temperature"] and p["text"].endswith(train[p["problem"]])
        )
    corpus, demos = learner.given[0][1], learner.given[2][1]
    new = demos[len(corpus) :]
    assert all(d.target.endswith(answers[d.prompt[:1]]) for d in new)
    sizes = Counter(len(d.prompt) for d in new)
    assert sizes == {1: right["solve"] + right["revise"], 5: right["revise"]}
    assert right["revise"] > 0


def test_a_cap_per_problem_is_kept_where_asked_for(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, rounds=1, per_problem=2):
        corpus, demos = learner.given[0][1], learner.given[2][1]
    for size in (1, 5):
        counts = Counter(d.prompt[:1] for d in demos[len(corpus) :] if len(d.prompt) == size)
        assert max(counts.values()) == 2


@pytest.mark.parametrize(
    ("option", "left"), [("learn_solutions", {5}), ("learn_refinements", {1})], ids=["solutions", "refinements"]
)
def test_the_annotators_data_can_be_left_out(tmp_path: Path, option: str, left: set[int]) -> None:
    learner = Learner()
    with played(tmp_path, learner, rounds=1, **{option: False}):
        assert {len(d.prompt) for d in learner.given[0][1]} == left


def test_repairs_go_where_failures_are_and_cover_more_hard_problems(tmp_path: Path) -> None:
    options = {"learn_solutions": False, "learn_refinements": False}
    with played(tmp_path, Learner(), rounds=1, **options) as run:  # the first actor is the starting model
        train = {p.id: f"Answer: {p.reference}" for p in run.task.train}
        first = [p for p in sampled(run, 1) if p["problem"] in train]
        told = run.history[0]["metrics"]["hard problems"]
    tried = [p for p in first if p["role"] == "solve"]
    failed = {(p["problem"], p["text"]) for p in tried if not p["text"].endswith(train[p["problem"]])}
    assert len([p for p in first if p["role"] == "critique"]) == len(failed)  # each distinct failure once
    misses = Counter(p["problem"] for p in tried if not p["text"].endswith(train[p["problem"]]))
    revised = Counter(p["problem"] for p in first if p["role"] == "revise")
    assert all(0 <= misses[name] - count <= misses[name] for name, count in revised.items())
    assert told["of"] == sum(count == 4 for count in misses.values()) > 0
    assert told["covered"] > told["covered directly"]
    assert told["gained"] == pytest.approx(told["covered"] - told["covered directly"])
    assert told["distinct"] > told["distinct directly"]


def test_a_quarter_of_the_failures_gets_a_quarter_of_the_repairs(tmp_path: Path) -> None:
    with played(tmp_path, Learner(), rounds=1, repairs=1) as run:
        train = {p.id for p in run.task.train}
        revised = Counter(p["problem"] for p in sampled(run, 1) if p["role"] == "revise" and p["problem"] in train)
    assert set(revised.values()) == {1}


def test_the_critic_is_measured_before_and_after_on_problems_that_it_has_no_lessons_of(tmp_path: Path) -> None:
    learner = Learner()

    def script(policy: Policy, request: Request) -> str:
        if request.prompt[-1].content == CRITIQUE and not depth(policy):
            return "step 2: 0"  # points at the wrong place, always
        if request.prompt[-1].content == CRITIQUE:
            _, a, b, answer, _ = heard(request)
            return "no mistakes" if answer == a + b else f"step 1: {a + b}"
        return talk(policy, request)

    task = make_task(train=40, annotator=SumAnnotator())
    with make_run(tmp_path, script=script, learner=learner, task=task) as run:
        LOOP(run, run.base, run.task, **{**SMALL, "rounds": 1, "probe": 10})
        told = run.history[0]["metrics"]["critic"]
        held_out = {p.prompt for p in run.task.train[30:]}
    assert (told["untrained_f1"], told["f1"], told["f1_gain"]) == (0.0, 1.0, 1.0)
    assert 0 < told["probes"] <= 20
    assert 0.5 < told["mended"] <= 1  # by a reviser that mends eight in ten, whatever it is told
    assert told["mended_gain"] == pytest.approx(told["mended"] - told["untrained_mended"])
    assert not {d.prompt[:1] for d in learner.given[1][1]} & held_out


def test_without_repairs_it_is_rejection_sampling_on_the_same_corpus(tmp_path: Path) -> None:
    learner, other = Learner(), Learner()
    with played(tmp_path / "a", learner, repairs=0) as run:
        assert {p["role"] for n in (1, 2) for p in sampled(run, n)} == {"solve"}
        assert run.history[0]["metrics"]["critic"] == {"repairs": 0}
    with played(tmp_path / "b", other):
        assert learner.given[0][1] == other.given[0][1]
    assert len(learner.given) == 3
    assert {len(d.prompt) for d in learner.given[1][1][len(learner.given[0][1]) :]} == {1}


def test_without_an_annotator_the_starting_model_annotates_and_is_checked(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, annotator=None, rollouts_per_critique=2, rounds=1) as run:
        answers = {p.prompt: p.reference for p in run.task.train}
        start = sampled(run, 0)
        learned = learner.given[1][1]
    writers = {p["policy"] for p in start if p["role"] == "critique"}
    assert writers == {"base-model", run.history[0]["metrics"]["critic"]["policy"]}  # lessons and measuring
    for demo in learned:
        right = f"Answer: {answers[demo.prompt[:1]]}" in demo.prompt[1].content
        assert right == (demo.target == "no mistakes")


def test_with_a_teacher_its_critiques_and_revisions_are_learnt(tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    teacher = scripted_learner(
        base_policy(folder), sft(), [Demo(as_prompt("hello"), "hello")], TrainConfig(), seed=0, folder=folder
    )
    learner = Learner()
    with played(tmp_path, learner, rounds=1, teacher=str(teacher.path), probe=0) as run:
        start = sampled(run, 0)
        written = {key: p for key, _, p, _ in run.journal.effects("sample")}
    assert {p["policy"] for p in start if p["role"] == "critique"} == {teacher.version}
    assert {p["policy"] for p in start if p["role"] == "revise"} == {
        teacher.version,
        "base-model",
    }  # the check's rollouts
    solutions = [d for d in learner.given[0][1] if len(d.prompt) == 1]
    assert {written[d.attempts[0]]["policy"] for d in solutions} == {teacher.version}


def test_self_talk_is_learnt_where_asked_for(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, rounds=1, self_talk=True, learn_revisions=False):
        demos = learner.given[2][1]
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
    assert len(learner.given) == 4  # the first actor and the critic are trained besides
