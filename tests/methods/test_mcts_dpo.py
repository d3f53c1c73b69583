"""MCTS-DPO: on-policy batches, the fixed reference, as many pairs for its rivals, and what the pairs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripted_world import Learner, judged, make_run, make_task, two_rounds
from search_world import by_steps
from selftaught.engines import ScriptedEngine
from selftaught.errors import BadInput
from selftaught.learn import Training
from selftaught.learn.objectives import Dpo, StepDpo
from selftaught.method import find
from selftaught.methods.improve.search.mcts_dpo import answer_pairs, turn
from selftaught.models import Policy
from selftaught.records import Attempt, Verdict
from selftaught.run.run import Run
from selftaught.run.settings import Settings

METHOD = find("mcts-dpo")
SMALL: dict[str, Any] = {"rounds": 3, "trees": 5, "iterations": 6, "depth": 4}


class Objectives(Learner):
    """Remembers what was to be learnt, too."""

    def __init__(self) -> None:
        super().__init__()
        self.objectives: list[Any] = []
        self.settings: list[Training] = []

    def __call__(self, base: Policy, objective: Any, records: Any, settings: Any, **more: Any) -> Policy:
        """See `Learner`."""
        self.objectives.append(objective)
        self.settings.append(settings)
        return super().__call__(base, objective, records, settings, **more)


def learnt(folder: Path, **options: Any) -> tuple[Objectives, Run, list[str]]:
    """What a small run learnt, and who sampled the steps of each round."""
    learner = Objectives()
    with make_run(
        folder, engine=ScriptedEngine(by_steps()), task=make_task(train=10, dev=4, test=2), learner=learner,
        settings=Settings(),
    ) as run:  # fmt: skip
        METHOD(run, run.base, run.task, **{**SMALL, **options})
        dev = {problem.id for problem in run.task.dev}
        train = [p for _, _, p, _ in run.journal.effects("sample") if p["problem"] not in dev]
    return learner, run, list(dict.fromkeys(payload["policy"] for payload in train))


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
    prompts = [{pair.prompt[0].content for pair in pairs} for _, pairs in learner.given]
    assert not prompts[0] & prompts[1]  # other problems in every round, until all had their turn


def test_offline_the_start_searches_in_every_round(tmp_path: Path) -> None:
    learner, run, actors = learnt(tmp_path, online=False)
    assert actors == [run.base.version]
    assert len({base.version for base, _ in learner.given}) == 3  # and learning goes on all the same


def test_whole_answers_make_pairs_of_right_over_wrong(tmp_path: Path) -> None:
    learner, _, actors = learnt(tmp_path, level="answer", samples=8)
    assert len(actors) == 3
    assert all(type(objective) is Dpo for objective in learner.objectives)
    for _, pairs in learner.given:
        assert pairs
        assert all("wrong" in pair.rejected and "wrong" not in pair.chosen for pair in pairs)
        assert all(pair.softness == 0 for pair in pairs)


def test_no_more_pairs_than_asked_for_are_learnt_at_either_level(tmp_path: Path) -> None:
    for level in ("step", "answer"):
        learner, _, _ = learnt(tmp_path / level, level=level, most=3, trees=10)
        assert [len(pairs) for _, pairs in learner.given] == [3, 3, 3]


def test_smoothing_goes_by_visits_and_can_be_left_out(tmp_path: Path) -> None:
    soft, _, _ = learnt(tmp_path / "soft", rounds=1)
    hard, _, _ = learnt(tmp_path / "hard", rounds=1, smoothing=False)
    assert any(0 < pair.softness < 0.5 for pair in soft.given[0][1])
    assert all(pair.softness == 0 for pair in hard.given[0][1])
    assert [p.chosen for p in soft.given[0][1]] == [p.chosen for p in hard.given[0][1]]


def test_without_self_evaluation_nothing_is_judged(tmp_path: Path) -> None:
    _, run, _ = learnt(tmp_path, self_evaluation=False)
    assert run.ledger.usage.judge == 0


def test_problems_take_turns() -> None:
    problems = make_task(train=5).train
    rounds = [turn(problems, 2, number) for number in (1, 2, 3)]
    assert [p for batch in rounds for p in batch] == [*problems, problems[0]]
    assert turn(problems, 64, 7) == list(problems)


def test_pairs_of_answers_take_turns_among_problems_and_use_no_answer_twice() -> None:
    one, two = make_task(train=2).train

    def tried(problem: Any, verdicts: str) -> list[Attempt]:
        kinds = {"r": Verdict.RIGHT, "w": Verdict.WRONG, "u": Verdict.UNKNOWN}
        return [judged(problem, f"{v}{i}", kinds[v], name=f"{problem.id}{v}{i}") for i, v in enumerate(verdicts)]

    pairs = answer_pairs([*tried(one, "rrwwwu"), *tried(two, "wr"), judged(one, "r0", Verdict.RIGHT)])
    assert [pair.prompt for pair in pairs] == [one.prompt, two.prompt, one.prompt]
    names = [name for pair in pairs for name in pair.attempts]
    assert len(set(names)) == 6


def test_an_unknown_level_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="answer"):
        learnt(tmp_path, level="answers")


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "mcts-dpo")
    assert champion.base
    assert len(learner.given) == 2
