"""SELF on scripted answers: its corpus, its own filter, replay, restart, and what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripted_world import two_rounds
from selftaught.engines.scripted import scripted_learner
from selftaught.feedback.verifiers import Exact, ExtractedAnswer
from selftaught.learn import TrainConfig, sft
from selftaught.method import find
from selftaught.records import Demo, Feedback, Problem, as_prompt
from selftaught.run.run import Run
from selftaught.testing import Inverted, Learner, SumAnnotator, make_run, make_task
from selftaught.testing.sums import base_policy
from talking_world import talk

SELF, CONTROL = find("self"), find("corpus-sft")


def played(folder: Path, learner: Learner, *, dev: int = 8, annotator: Any = None, **options: Any) -> Run:
    task = make_task(train=24, dev=dev, annotator=annotator or SumAnnotator())
    run = make_run(folder, script=talk, learner=learner, task=task)
    SELF(run, run.base, run.task, **{"rounds": 2, "annotated": 8, "drafts": 3, **options})
    return run


def evolved(run: Run, number: int) -> list[dict[str, Any]]:
    """What was sampled in a round on train problems."""
    train = {p.id for p in run.task.train}
    return [p for _, n, p, _ in run.journal.effects("sample") if n == number and p["problem"] in train]


def test_meta_skills_of_the_annotator_first_and_replayed_in_every_round(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner) as run:
        right = {p.prompt: p.reference for p in run.task.train}
        known = {p.prompt for p in run.task.train[:8]}
    corpus, *rounds = [demos for _, demos in learner.given]
    assert {base.version for base, _ in learner.given} == {"base-model"}  # each time from the start
    by_size = {size: [d for d in corpus if len(d.prompt) == size] for size in (1, 3, 5)}
    assert sum(map(len, by_size.values())) == len(corpus)
    assert {demo.prompt[:1] for demo in corpus} <= known
    for demo in by_size[3]:
        wrong = f"Answer: {right[demo.prompt[:1]]}" not in demo.prompt[1].content
        assert demo.target == (f"step 1: {right[demo.prompt[:1]]}" if wrong else "no mistakes")
    flawed = [d for d in by_size[3] if d.target != "no mistakes"]
    assert [d.prompt[:3] for d in by_size[5]] == [d.prompt for d in flawed]
    assert all(d.target == f"The sum is {right[d.prompt[:1]]}.\nAnswer: {right[d.prompt[:1]]}" for d in by_size[5])
    assert all(d.target.endswith(f"Answer: {right[d.prompt]}") for d in by_size[1])
    told = run.history[0]["metrics"]["corpus"]
    assert (told["examples"], told["fixing"]) == (len(by_size[3]), len(by_size[5]))
    assert rounds[0][: len(corpus)] == corpus
    assert rounds[1][: len(rounds[0])] == rounds[0]  # the data of all rounds
    assert len(rounds[1]) > len(rounds[0]) > len(corpus)


def test_each_round_evolves_on_problems_that_nothing_was_told_of(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, problems=6) as run:
        parts = [{p["problem"] for p in evolved(run, number)} for number in (0, 1, 2)]
        order = [p.id for p in run.task.train]
        prompts = {p.id: p.prompt for p in run.task.train}
    assert parts == [set(order[:8]), set(order[8:14]), set(order[14:20])]
    corpus, first, second = [demos for _, demos in learner.given]
    for demos, before, part in ((first, corpus, parts[1]), (second, first, parts[2])):
        assert {d.prompt for d in demos[len(before) :]} <= {prompts[i] for i in part}


class InvertedBeyond(Inverted):
    """Right verdicts on the problems of the corpus and of dev, inverted ones on those of the evolution."""

    def __init__(self, inverted: set[str]) -> None:
        super().__init__()
        self.inverted = inverted

    def decide(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """See `Inverted`."""
        where = super() if problem.id in self.inverted else Exact()
        return where.decide(problem, answer, reference)  # pyright: ignore[reportReturnType]


def test_verdicts_choose_nothing_in_the_evolution(tmp_path: Path) -> None:
    train, trained, told = make_task(train=24).train, [], []
    for name, inverted in (("sound", set[str]()), ("inverted", {p.id for p in train[8:]})):
        task = make_task(train=24, verifier=InvertedBeyond(inverted), annotator=SumAnnotator())
        with make_run(tmp_path / name, script=talk, learner=Learner(), task=task) as run:
            SELF(run, run.base, run.task, rounds=2, annotated=8, drafts=3)
            trained.append([row["policy"] for row in run.history])
            told.append(run.history[0]["metrics"]["share right"]["kept"])
    assert trained[0] == trained[1]
    assert told[0] == pytest.approx(1 - told[1])  # they are reported


def test_refining_and_filtering_raise_the_share_of_right_items(tmp_path: Path) -> None:
    with played(tmp_path, Learner(), samples=4, rounds=1) as run:
        told = run.history[0]["metrics"]["share right"]
    assert told["answers"] < told["refined"] < told["kept"]
    assert told["gained by filter"] == pytest.approx(told["kept"] - told["refined"])
    assert told["above greedy"] == pytest.approx(told["kept"] - told["greedy"])


def test_its_filter_is_its_own_critique_asked_once_of_each_text(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, rounds=1, samples=8, problems=16) as run:
        right = {p.prompt: f"Answer: {p.reference}" for p in run.task.train}
        told = run.history[0]["metrics"]["share right"]
        second = evolved(run, 1)
    (_, corpus), (_, demos) = learner.given
    own = demos[len(corpus) :]
    assert len(own) == told["of"] < 128
    assert sum(d.target.endswith(right[d.prompt]) for d in own) / len(own) == pytest.approx(told["kept"])
    assert told["kept"] < 1  # a critic that errs lets wrong ones through
    roles = {role: [p for p in second if p["role"] == role] for role in ("solve", "critique", "revise", "judge")}
    assert not roles["judge"]
    assert len(roles["critique"]) == len(roles["solve"]) + len(roles["revise"])
    assert {p["sampling"]["temperature"] for p in roles["critique"]} == {0.0}
    accepted = sum(p["text"] == "no mistakes" for p in roles["critique"])
    assert len(own) == accepted


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
        ({"self_refine": False}, {"solve", "critique"}),
        ({"self_filter": False}, {"solve", "critique", "revise"}),
    ):
        learner = Learner()
        with played(tmp_path / "".join(options), learner, rounds=1, problems=12, **options) as run:
            assert {p["role"] for p in evolved(run, 1)} == roles
        (_, corpus), (_, demos) = learner.given
        assert (len(demos) - len(corpus) == 12) is (options == {"self_filter": False})


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
    expected = {("solve", "base-model"), ("critique", teacher.version), ("revise", teacher.version)}
    assert writers - {("solve", learner_policy(learner))} == expected
    assert learner.given[0][0].version == "base-model"


def learner_policy(learner: Learner) -> str:
    """Version of the first policy that was trained, which is measured before the first round."""
    return learner.made[0].version


def test_where_nothing_is_borne_out_it_evolves_from_the_start(tmp_path: Path) -> None:
    learner = Learner()
    with make_run(tmp_path, learner=learner) as run:  # a model that answers whatever it is asked
        SELF(run, run.base, run.task, rounds=1, samples=2, self_filter=False, drafts=1)
    assert learner.given


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "self", samples=3)
    assert champion.base
    assert learner.given


# --- its control ---


def test_the_control_learns_the_answers_of_the_same_corpus_alone(tmp_path: Path) -> None:
    whole, control = Learner(), Learner()
    with played(tmp_path / "self", whole, rounds=1):
        pass
    task = make_task(train=24, annotator=SumAnnotator())
    with make_run(tmp_path / "control", script=talk, learner=control, task=task) as run:
        CONTROL(run, run.base, run.task, annotated=8, drafts=3)
    answers = [d for d in whole.given[0][1] if len(d.prompt) == 1]
    ((base, demos),) = control.given
    assert base.version == "base-model"
    assert [(d.prompt, d.target) for d in demos] == [(d.prompt, d.target) for d in answers]


def test_further_rounds_of_the_control_draw_further_drafts(tmp_path: Path) -> None:
    learner, task = Learner(), make_task(train=24, annotator=SumAnnotator())
    with make_run(tmp_path, script=talk, learner=learner, task=task) as run:
        CONTROL(run, run.base, run.task, annotated=8, drafts=3, rounds=2)
    (_, first), (base, second) = learner.given
    assert base.version == "base-model"
    assert all(demo in second for demo in first)
    assert len(second) > len(first)
