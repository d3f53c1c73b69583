"""ReST-EM: what it keeps and learns, on scripted answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from scripted_world import two_rounds
from selftaught.errors import BadInput
from selftaught.method import find
from selftaught.testing import Learner, make_run


def test_rest_em_keeps_the_first_right_solutions_of_each_problem_up_to_its_cap(tmp_path: Path) -> None:
    learner = Learner()
    with make_run(tmp_path, learner=learner) as run:
        find("rest-em")(run, run.base, run.task, rounds=2, samples=8, per_problem=2)
        payloads = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
    answers = {p.prompt: p.reference for p in run.task.train}
    policies = ["base-model", run.history[0]["policy"]]
    for (_, demos), policy in zip(learner.given, policies, strict=True):
        counts = Counter(demo.prompt for demo in demos)
        right: Counter[str] = Counter()
        for payload in payloads.values():
            if payload["policy"] == policy and payload["sampling"]["temperature"] == 0.7:
                problem = next(p for p in run.task.train if p.id == payload["problem"])
                right[problem.prompt] += payload["text"].endswith(f"Answer: {problem.reference}")
        assert counts == {prompt: min(2, count) for prompt, count in right.items() if count}
        for demo in demos:
            (ident,) = demo.attempts
            assert demo.target == payloads[ident]["text"]
            assert payloads[ident]["policy"] == policy
            assert demo.target.endswith(f"Answer: {answers[demo.prompt]}")
            assert payloads[ident]["sampling"]["top_k"] == 40


def test_rest_em_has_nothing_to_learn_where_nothing_is_right(tmp_path: Path) -> None:
    with make_run(tmp_path, script=lambda *_: "Answer: 0") as run, pytest.raises(BadInput, match="nothing to learn"):
        find("rest-em")(run, run.base, run.task, rounds=1, samples=2)


def test_rft_trains_the_base_model_once_on_several_right_samples_of_each_problem(tmp_path: Path) -> None:
    learner = Learner()
    with make_run(tmp_path, learner=learner) as run:
        find("rft")(run, run.base, run.task, samples=8)
        drawn = [p for _, _, p, _ in run.journal.effects("sample") if p["sampling"]["temperature"]]
    answers = {p.id: p.reference for p in run.task.train}
    right = Counter(p["problem"] for p in drawn if p["text"].endswith(f"Answer: {answers[p['problem']]}"))
    ((base, demos),) = learner.given
    assert base is run.base
    assert {p["sampling"]["top_k"] for p in drawn} == {0}
    assert len(drawn) == 8 * len(answers)
    assert len(demos) == right.total() > len(right)


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "rest-em", samples=3)
    assert champion.base
    assert len(learner.given) == 2
