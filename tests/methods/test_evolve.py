"""Evolve: what its phases hand to each other, on scripted answers and on the underfit world."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from selftaught import routines
from selftaught.control import Gate
from selftaught.control.tuning import BalanceTuner
from selftaught.curate import AnswerPool, keep_right
from selftaught.learn import sft
from selftaught.method import Method, find, recipe
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Feedback, Message, Pair, Problem, Verdict
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.samples import Sample
from selftaught.search import MCTSConfig, MCTSSolver
from selftaught.tasks import Task
from selftaught.testing import Learner, make_run, make_task

EVOLVE, EVOLVE_SFT = find("evolve"), find("evolve-sft")
SMALL: dict[str, Any] = {"rounds": 2, "samples": 4, "probe": 4, "num_temperatures": 2, "target": 2, "repairs": 0}


def attempt(name: str, text: str, verdict: Verdict) -> Attempt:
    prompt = (Message("user", name),)
    judged = (Feedback(verdict, None, source="test"),)
    return Attempt(f"{name}/{text}", Problem(name, prompt), prompt, text, text, Sample(text), feedback=judged)


def played(
    folder: Path, /, *, method: Method = EVOLVE_SFT, gate: Gate | None = None, train: int = 12, **options: Any
) -> tuple[tuple[Run, Policy], list[Any]]:
    learner, settings = Learner(), Settings(gate=gate) if gate else None
    with make_run(folder, learner=learner, task=make_task(train=train, dev=40), settings=settings) as run:
        champion = method(run, run.base, run.task, **{**SMALL, **options})
        return (run, champion), learner.given


# --- what is gathered ---


def test_the_newest_answers_are_learnt_and_one_said_again_is_new() -> None:
    gathered = AnswerPool()
    gathered.add([attempt("q", text, Verdict.RIGHT) for text in "abc"])
    assert [a.text for a in gathered.newest(2)] == ["b", "c"]
    gathered.add([attempt("q", "a", Verdict.RIGHT), attempt("r", "x", Verdict.RIGHT)])
    assert [(a.problem.id, a.text) for a in gathered.newest(2)] == [("q", "c"), ("q", "a"), ("r", "x")]


def test_pairs_are_of_one_problem_right_over_wrong() -> None:
    gathered = AnswerPool()
    gathered.add([attempt("q", text, Verdict.RIGHT) for text in "ab"])
    gathered.add([attempt("q", text, Verdict.WRONG) for text in "xyz"])
    gathered.add([attempt("r", "only wrong", Verdict.WRONG), attempt("s", "only right", Verdict.RIGHT)])
    gathered.add([attempt("q", "who knows", Verdict.UNKNOWN), attempt("q", "", Verdict.WRONG)])
    pairs = gathered.pairs(5)
    assert [(p.chosen, p.rejected, p.attempts) for p in pairs] == [
        ("b", "z", ("q/b", "q/z")),
        ("a", "y", ("q/a", "q/y")),
    ]
    assert len(gathered.pairs(1)) == 1


# --- the cycle ---


def test_each_round_learns_the_right_answers_of_all_rounds_on_the_starting_model(tmp_path: Path) -> None:
    (run, champion), given = played(tmp_path)
    assert [base.version for base, _ in given] == ["base-model", "base-model"]
    first, second = ([d for d in demos if isinstance(d, Demo)] for _, demos in given)
    per_problem = {d.prompt: sum(e.prompt == d.prompt for e in second) for d in second}
    assert max(per_problem.values()) <= SMALL["target"]
    assert {d.prompt for d in first} <= {d.prompt for d in second}  # what was solved once is never forgotten
    assert champion.version == run.champion.version != "base-model"


@pytest.mark.parametrize(("level", "others"), [(0.0, 0), (1.0, 1)])
def test_the_champion_samples_and_not_whatever_came_last(tmp_path: Path, level: float, others: int) -> None:
    (run, _), _ = played(tmp_path, gate=Gate(max_p_value=level))  # at 0 nothing is ever better beyond doubt
    train = {problem.id for problem in run.task.train}
    asked = {facts["policy"] for _, _, facts, _ in run_effects(tmp_path) if facts["problem"] in train}
    assert len(asked - {"base-model"}) == others


def run_effects(folder: Path) -> list[Any]:
    from selftaught.journal import JournalReader

    with JournalReader(folder / "run") as journal:
        return list(journal.effects("sample"))


def test_a_critic_is_trained_once_and_its_repairs_are_gathered(tmp_path: Path) -> None:
    _, given = played(tmp_path, repairs=2, drafts=2)
    assert len(given) == 3  # the critic, and two rounds
    roles = {facts["role"] for _, _, facts, _ in run_effects(tmp_path)}
    assert {"critique", "revise"} <= roles


def test_preferences_are_learnt_on_top_of_what_was_imitated(tmp_path: Path) -> None:
    _, given = played(tmp_path, rounds=1, then_dpo=True)
    (base, demos), (imitated, pairs) = given
    assert base.version == "base-model"
    assert imitated.base is not None
    assert isinstance(demos[0], Demo)
    assert all(isinstance(pair, Pair) for pair in pairs)


def test_without_imitation_the_champion_goes_on_with_pairs_of_the_round_alone(tmp_path: Path) -> None:
    _, given = played(tmp_path, method=EVOLVE, gate=Gate(max_p_value=1.0), train=80, target=4)
    (base, first), (then, second) = given
    assert base.version == "base-model"
    assert then.base is not None  # the first round's policy was better on dev
    sampled = {key: facts["policy"] for key, _, facts, _ in run_effects(tmp_path)}
    assert {sampled[key] for pair in first for key in pair.attempts} == {"base-model"}
    assert {sampled[key] for pair in second for key in pair.attempts} == {then.version}
    assert all(pair.chosen != pair.rejected for pair in (*first, *second))


# --- a loop of one's own from the same phases ---


def doubted(run: Run, policy: Policy, problems: Sequence[Problem], temperature: float, n: int) -> list[Attempt]:
    solver = find("iterative-deepening").with_options(samples=1, temperature=temperature)
    return run.attempt(policy, problems, solver=solver, samples=n, temperature=temperature)


def searched(run: Run, policy: Policy, problems: Sequence[Problem], temperature: float, n: int) -> list[Attempt]:
    grower = MCTSSolver(MCTSConfig(iterations=16, temperature=temperature))
    return [one.attempt for one in run.search(policy, problems, solver=grower, temperature=temperature)]


@recipe(paper="2404.14387", needs=("verifier",))
def one_round(run: Run, base: Policy, task: Task, *, sampler: Literal["doubted", "searched"] = "doubted") -> Policy:
    """Acquire by another sampler, repair, and imitate."""
    tuner = BalanceTuner((0.5, 1.1), (2, 4), (0.5,), 2)
    sample = partial({"doubted": doubted, "searched": searched}[sampler], run)
    critic = routines.train_critic(run, base, task, drafts=1)
    for _ in run.rounds(1):
        found = routines.acquire(run, base, task, tuner, probe=4, critic=critic, repairs=1, sample=sample)
        run.measure(run.learn(base, sft(), keep_right(found.attempts)))
    return run.champion


@pytest.mark.parametrize("sampler", ["doubted", "searched"])
def test_other_samplers_fit_in(tmp_path: Path, sampler: str) -> None:
    learner = Learner()
    with make_run(tmp_path, learner=learner) as run:
        one_round(run, run.base, run.task, sampler=sampler)
        roles = {p["role"] for _, n, p, _ in run.journal.effects("sample") if n == 1}
        right = {p.prompt: f"Answer: {p.reference}" for p in run.task.train}
    assert ("revise" if sampler == "doubted" else "judge") in roles
    demos = learner.given[-1][1]
    assert {d.prompt for d in demos} <= set(right)
    assert demos
