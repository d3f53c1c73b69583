"""MCTS-DPO: on-policy batches, the fixed reference, and what the pairs are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripted_world import Objectives, two_rounds
from search_world import by_steps
from selftaught.engines import Request, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.learn.objectives.step_dpo import StepDpo
from selftaught.method import find
from selftaught.models import Policy
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task
from selftaught.testing import make_run, make_task

METHOD = find("mcts-dpo")
SMALL: dict[str, Any] = {"rounds": 3, "problems": 10, "iterations": 6, "depth": 4}


def learnt(folder: Path, **options: Any) -> tuple[Objectives, Run, list[str]]:
    """What a small run learnt, and whose trees were searched in each round."""
    learner = Objectives()
    with make_run(
        folder, engine=ScriptedEngine(by_steps()), task=make_task(train=20, dev=4, test=2), learner=learner,
        settings=Settings(),
    ) as run:  # fmt: skip
        METHOD(run, run.base, run.task, **{**SMALL, **options})
        trees = [payload for _, _, payload, _ in run.journal.effects("tree")]
    return learner, run, list(dict.fromkeys(payload["policy"] for payload in trees))


def test_each_round_searches_with_the_policy_of_the_last_and_stays_near_the_start(tmp_path: Path) -> None:
    learner, run, actors = learnt(tmp_path)
    assert len(learner.given) == 3
    assert [base.version for base, _ in learner.given] == actors
    assert actors[0] == run.base.version
    assert len(set(actors)) == 3
    for objective, settings in zip(learner.objectives, learner.settings, strict=True):
        assert isinstance(objective, StepDpo)
        assert objective.reference == run.base
        assert objective.beta == 0.1
        assert (settings.learning_rate, settings.epochs) == (pytest.approx(1e-6), 1)  # the paper's rate
        assert objective.group_by_prompt
        assert settings.keep_optimizer_state
    spans = [(settings.schedule_start, settings.schedule_end) for settings in learner.settings]
    assert spans == [(0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1)]  # one schedule
    prompts = [{pair.prompt[0].content for pair in pairs} for _, pairs in learner.given]
    assert not prompts[0] & prompts[1]  # other problems in every round, until all had their turn


def test_offline_the_start_searches_in_every_round(tmp_path: Path) -> None:
    learner, run, actors = learnt(tmp_path, online=False)
    assert actors == [run.base.version]
    assert len({base.version for base, _ in learner.given}) == 3  # and learning goes on all the same


def test_no_more_pairs_than_asked_for_are_learnt(tmp_path: Path) -> None:
    learner, _, _ = learnt(tmp_path, max_pairs=3)
    assert [len(pairs) for _, pairs in learner.given] == [3, 3, 3]


def test_smoothing_goes_by_visits_and_can_be_left_out(tmp_path: Path) -> None:
    soft, _, _ = learnt(tmp_path / "soft", rounds=1)
    hard, _, _ = learnt(tmp_path / "hard", rounds=1, visit_smoothing=False)
    assert any(0 < pair.label_smoothing < 0.5 for pair in soft.given[0][1])
    assert all(pair.label_smoothing == 0 for pair in hard.given[0][1])
    assert [p.chosen for p in soft.given[0][1]] == [p.chosen for p in hard.given[0][1]]


def test_without_self_evaluation_nothing_is_judged(tmp_path: Path) -> None:
    _, run, _ = learnt(tmp_path, self_eval=False)
    assert run.ledger.usage.judge == 0


def trees(run: Run) -> list[dict[str, Any]]:
    from selftaught.journal import Journal

    journal = Journal(run.folder)
    try:
        return [payload for _, _, payload, _ in journal.effects("tree")]
    finally:
        journal.close()


def final_verdict(tree: dict[str, Any]) -> str:
    return tree["nodes"][tree["line"][-1]]["verdict"]


def test_a_tree_is_learned_only_if_its_final_answer_is_right(tmp_path: Path) -> None:
    some, run, _ = learnt(tmp_path / "right", rounds=1, problems=20)
    every, _, _ = learnt(tmp_path / "all", rounds=1, problems=20, correct_trees=False)
    found = trees(run)
    right = [tree for tree in found if final_verdict(tree) == "right"]
    assert 0 < len(right) < len(found) == 20
    assert len(some.given[0][1]) == sum(len(tree["pairs"]) for tree in right)
    assert len(every.given[0][1]) == sum(len(tree["pairs"]) for tree in found)
    learned = {id for pair in some.given[0][1] for id in pair.attempts}
    assert not learned & {row["id"] for tree in found if tree not in right for row in tree["nodes"]}
    assert run.history[0]["metrics"]["trees"] == {
        "searched": 20, "learned": len(right), "pairs": len(some.given[0][1])
    }  # fmt: skip


def test_each_round_reports_how_far_it_is_from_the_start(tmp_path: Path) -> None:
    _, run, _ = learnt(tmp_path, rounds=2)
    found = [round["metrics"]["divergence"] for round in run.history]
    assert [one["responses"] for one in found] == [10, 10]
    assert all(one["kl"] == 0 for one in found)  # the scripted engine gives every policy the same probabilities


def test_from_four_times_as_many_iterations_a_later_root_has_the_given_number(tmp_path: Path) -> None:
    _, run, _ = learnt(tmp_path, rounds=1)
    for tree in trees(run):
        first = [row for row in tree["nodes"] if row["parent"] == 0]
        assert tree["nodes"][0]["visits"] == 2 * 4 * SMALL["iterations"]  # an iteration counts its root twice
        ended = tree["nodes"][tree["line"][0]]["ended"]
        assert sum(row["visits"] for row in first) == (4 if ended else 6) * SMALL["iterations"]


def test_with_the_hinted_preset_the_written_solution_is_a_branch_and_is_shown(tmp_path: Path) -> None:
    seen: list[str] = []

    def script(policy: Policy, request: Request) -> str:
        if "right, or: wrong" in request.prompt[-1].content:
            seen.append(request.prompt[-1].content)
        return by_steps()(policy, request)

    task = make_task(train=6, dev=4, test=2)
    solved = [replace(p, meta={**p.meta, "solution": f"write it\nAnswer: {p.reference}"}) for p in task.train]
    task = Task("sums", solved, task.dev, task.test, verifier=task.verifier, kind=task.kind)
    with make_run(tmp_path, engine=ScriptedEngine(script), task=task, settings=Settings()) as run:
        options = {**SMALL, "rounds": 1, "problems": 6}
        find("mcts-dpo-hinted")(run, run.base, run.task, **options)
        found = [payload for _, _, payload, _ in run.journal.effects("tree")]
        written = {key: payload for key, _, payload, _ in run.journal.effects("reference_step")}
    assert all("A right solution is:\nwrite it\nAnswer: " in one for one in seen)
    for tree in found:
        rows = tree["nodes"]
        first, *others = [row for row in rows if row["parent"] == 0]
        assert (first["text"], written[first["id"]]["text"]) == ("write it\n", "write it\n")
        assert 0 < len(others) <= 2
        (last,) = [row for row in rows if row["id"] in written and row["id"] != first["id"]]
        assert rows[last["parent"]] is first
        assert last["text"].startswith("Answer: ")
        sure = math.exp(-(ord("r") + 1) / 256)
        assert last["value"] == pytest.approx(sure + 1)  # right, and the written way
        own = [row for row in rows if row["verdict"] == "right" and row["id"] not in written]
        for row in own:
            deep = depth_of(rows, row) - 4
            assert row["value"] == pytest.approx(sure / max(1, deep) + 1.25)  # right, and another way
    assert any(row["verdict"] == "right" for tree in found for row in tree["nodes"] if row["id"] not in written)


def depth_of(rows: list[dict[str, Any]], row: dict[str, Any]) -> int:
    return 0 if row["parent"] is None else 1 + depth_of(rows, rows[row["parent"]])


def test_without_written_solutions_the_hinted_preset_says_so(tmp_path: Path) -> None:
    task = make_task(train=6, dev=4, test=2)
    bare = [replace(p, meta={k: v for k, v in p.meta.items() if k != "solution"}) for p in task.train]
    task = Task("sums", bare, task.dev, task.test, verifier=task.verifier, kind=task.kind)
    with make_run(tmp_path, engine=ScriptedEngine(by_steps()), task=task, settings=Settings()) as run:
        with pytest.raises(BadInput, match="no written solution"):
            find("mcts-dpo-hinted")(run, run.base, run.task, **SMALL)


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "mcts-dpo")
    assert champion.base
    assert len(learner.given) == 2
