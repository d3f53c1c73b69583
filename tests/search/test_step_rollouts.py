"""Monte Carlo labels of steps, on scripted answers of three steps whose first decides the rest."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from scripted_world import Objectives
from selftaught.engines import Request
from selftaught.learn.objectives import prm
from selftaught.models import Policy
from selftaught.records import Problem, ScoredSteps, Solution
from selftaught.routines import train_process_reward
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.search import StepRollouts, scored_steps
from selftaught.testing import assert_survives, make_run, make_task
from selftaught.testing.sums import draw

KNOWS = {"plan good\n": 0.75, "plan poor\n": 0.25, "plan lost\n": 0.0}
GIVEN = re.compile("".join(f"({plan})|" for plan in KNOWS)[:-1])


def planned(policy: Policy, request: Request) -> str:
    """A plan, a step, and the sum, which is right as often as the plan allows; some are cut off, some say no sum."""
    del policy
    question = request.prompt[0].content
    a, b = map(int, re.findall(r"(\d+) \+ (\d+)", question)[0])
    given = "".join(piece for piece in request.prefix_tokens if isinstance(piece, str))
    luck = draw(question, given, request.seed)
    plan = given[: given.index("\n") + 1] if given else list(KNOWS)[int(3 * luck)]
    right = draw("sum", luck) < KNOWS[plan]
    if not given and 0.6 < draw("silent", luck) < 0.7:
        return f"{plan}add them\nI do not know."
    whole = f"{plan}add them\nAnswer: {a + b + (0 if right else 1 + int(8 * luck))}"
    return whole[len(given) :]


def labeled(run: Run, samples: int = 6, rollouts: int = 4) -> list[Solution]:
    return run.search(run.base, run.task.train, solver=StepRollouts(samples, rollouts, 0.9))


def opened(folder: Path, name: str = "run", **how: Any) -> Run:
    return make_run(folder / name, script=planned, task=make_task(train=5, dev=1, test=1), **how)


def test_each_step_has_the_share_of_its_rollouts_that_are_right(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        found = labeled(run)
        samples = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
        answers = {p.id: p.reference for p in run.task.train}
    begun: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for payload in samples.values():
        if chars := payload.get("prefix_chars"):
            beginning = samples[payload["parent"]]["text"][:chars]
            right = payload["text"].endswith(f"Answer: {answers[payload['problem']]}")
            begun[payload["problem"], beginning].append(right)
    assert {len(each) for each in begun.values()} == {4}  # equal beginnings are sampled from once
    assert {payload["sampling"]["temperature"] for payload in samples.values()} == {0.9}
    seen = 0
    for solution in found:
        problem = solution.attempt.problem
        assert len({tuple(steps) for steps, *_ in solution.data}) == len(solution.data) > 0
        for steps, shares, name in solution.data:
            assert "".join(steps) == samples[name]["text"]
            assert [step.endswith("\n") for step in steps] == [True, True, False]
            wanted = [begun[problem.id, steps[0]], begun[problem.id, "".join(steps[:2])]]
            last = float(steps[-1] == f"Answer: {answers[problem.id]}")
            assert shares == [*(sum(each) / 4 for each in wanted), last]
            seen += 1
    drawn = [p for p in samples.values() if "prefix_chars" not in p]
    kept = {(p["problem"], p["text"]) for p in drawn if "Answer" in p["text"]}
    assert len(drawn) == 5 * 6
    assert seen == len(kept) < len({(p["problem"], p["text"]) for p in drawn})  # those that say no sum are left out


def test_hard_labels_ask_for_one_right_rollout_and_soft_ones_for_the_share(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        found = labeled(run)
    for solution in found:
        hard, soft = scored_steps(solution), scored_steps(solution, soft=True)
        for (steps, shares, name), one, other in zip(solution.data, hard, soft, strict=True):
            assert one == ScoredSteps(solution.attempt.problem.prompt, tuple(steps), one.scores, (name,))
            assert one.scores == tuple(1.0 if share > 0 else 0.0 for share in shares)
            assert other.scores == tuple(shares)
    lost = [one for solution in found for one in scored_steps(solution) if one.steps[0] == "plan lost\n"]
    assert lost
    assert {score for one in lost for score in one.scores} == {0.0}


def test_cut_off_solutions_are_left_out_and_a_single_step_needs_no_rollout(tmp_path: Path) -> None:
    def brief(policy: Policy, request: Request) -> str:
        del policy
        a, b = map(int, re.findall(r"(\d+) \+ (\d+)", request.prompt[0].content)[0])
        return f"Answer: {a + b}" if request.seed % 2 else "so\n" * 200

    with make_run(tmp_path, script=brief, task=make_task(train=3, dev=1, test=1)) as run:
        found = labeled(run, samples=8)
        texts = [p["text"] for _, _, p, _ in run.journal.effects("sample")]
    assert len(texts) == 3 * 8
    assert sum(text.startswith("so") for text in texts) > 0
    assert [[(steps, shares) for steps, shares, _ in one.data] for one in found] == [
        [([f"Answer: {one.attempt.problem.reference}"], [1.0])] for one in found
    ]


async def label(ask: Ask, problem: Problem) -> Solution:
    """A named solver, as methods have them."""
    return await StepRollouts(3, 2)(ask, problem)


def test_killed_before_any_effect_and_run_again_it_ends_the_same(tmp_path: Path) -> None:
    def play(run: Run) -> Any:
        return [one.data for one in run.search(run.base, run.task.train[:2], solver=label)]

    assert_survives(play, partial(opened, tmp_path), every=True)


def test_a_process_reward_model_learns_the_labels_of_all_train_problems(tmp_path: Path) -> None:
    learner = Objectives()
    with opened(tmp_path, learner=learner) as run:
        model = train_process_reward(run, run.base, run.task, 6, 4)
        train_process_reward(run, run.base, run.task, 6, 4, soft=True, min_steps=1)
        tried = run.attempt(run.base, run.task.train, temperature=1.0)
        scores = run.score(model, tried, at="steps")
        found = run.search(run.base, run.task.train, solver=StepRollouts(6, 4))
    assert [len(each) for each in scores] == [3] * 5
    assert learner.objectives == [prm(), prm()]
    (base, records), (_, soft) = learner.given
    assert [one.steps for one in learner.settings] == [300, 2 * -(-len(soft) // 16)]  # at least, or two passes
    assert base.version == "base-model"
    assert {score for record in records for score in record.scores} == {0.0, 1.0}
    assert {score for record in soft for score in record.scores} - {0.0, 1.0}
    assert {record.prompt for record in records} == {p.prompt for p in run.task.train}
    assert len(found) == 5
    assert all(0 < p < 1 for each in scores for p in each)
