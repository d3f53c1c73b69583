"""Weights that live for one answer: trained in a solver call, paid once, deleted, and never kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selftaught import orm
from selftaught.engines.local.engine import LocalEngine
from selftaught.engines.scripted import scripted_learner
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.learn import TrainConfig, sft
from selftaught.learn.objectives import dpo
from selftaught.lineage import trace
from selftaught.method import recipe, solver
from selftaught.models import Policy
from selftaught.models.policy import ONE_ANSWER
from selftaught.records import Attempt, Demo, Label, Problem, Solution, as_prompt, make_problem
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Kind, Task
from selftaught.tasks.task import SPLITS
from selftaught.testing import assert_survives, make_run, make_task
from selftaught.testing.sums import depth, solve_sum
from selftaught.testing.survival import Killed


def script(policy: Policy, request: Any) -> str:
    return f"{solve_sum(policy, request)} after {depth(policy)} trainings"


@solver()
async def adapt(ask: Ask, problem: Problem, *, steps: int = 3, samples: int = 2) -> Attempt:
    """Draw samples, train on them for this answer, and answer with the tuned weights."""
    drafts = await ask.sample(problem.prompt, samples, temperature=1.0)
    demos = [Demo(problem.prompt, one.text, attempts=(one.id,)) for one in drafts]
    tuned = await ask.tuned(demos, sft(), steps)
    return await ask(problem.prompt, policy=tuned)


class CountingLearner:
    """The scripted trainer, counting trainings and those that overlap."""

    def __init__(self, delay: float = 0.0) -> None:
        self.trained, self.at_once, self.most, self.delay = 0, 0, 0, delay
        self.threads: set[str] = set()
        self.records: list[int] = []

    def __call__(self, base: Policy, objective: Any, records: Any, settings: Any, **more: Any) -> Policy:
        self.trained, self.at_once = self.trained + 1, self.at_once + 1
        self.most = max(self.most, self.at_once)
        self.threads.add(threading.current_thread().name)
        self.records.append(len(records) * settings.epochs // settings.batch_size)
        try:
            return scripted_learner(base, objective, records, settings, delay=self.delay, **more)
        finally:
            self.at_once -= 1


def opened(folder: Path, name: str = "run", learner: Any = None, **more: Any) -> Run:
    return make_run(folder / name, task=make_task(4, 6, 3), script=script, learner=learner, **more)


def test_each_answer_is_given_by_weights_of_its_own(tmp_path: Path) -> None:
    learner = CountingLearner(0.01)
    with opened(tmp_path, learner=learner) as run:
        tried = run.attempt(run.base, run.task.train, solver=adapt)
        assert all("after 1 trainings" in one.text for one in tried)
        assert len({one.policy for one in tried}) == 4
        assert run.base.version not in {one.policy for one in tried}
        tunes = list(run.journal.effects("tune"))
        assert [facts["steps"] for _, _, facts, _ in tunes] == [3] * 4
        assert learner.records == [3] * 4  # optimizer steps
        assert (learner.trained, learner.most) == (4, 1)
        assert "selftaught-run" not in learner.threads
        assert run.ledger.usage.trained == sum(usage.trained for *_, usage in tunes) > 0
        assert not (run.folder / ONE_ANSWER).exists() or not list((run.folder / ONE_ANSWER).iterdir())
        assert run.journal.count("learn") == 0
        lineage = trace(run.folder, tried[0].id)
    node = lineage.nodes[tried[0].policy]
    assert (node.role, node.problem) == ("tuned", tried[0].problem.question)
    assert {link.how for link in lineage.sources(node.id)} == {"trained from", "learned"}
    assert lineage.gaps == {}
    assert not (tmp_path / "run" / "run" / ONE_ANSWER).exists()


def test_it_works_on_dev_and_test_problems_and_counts_as_the_solvers_tokens(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        found = run.measure(run.base, solver=adapt)
        sampled = sum(usage.generated for *_, usage in run.journal.effects("sample"))
        assert found.tokens == sampled + run.ledger.usage.trained
        assert run.journal.count("tune") == 6
        (result,) = run.solve(run.base, run.task.test[:1], "test", solver=adapt)
        assert "after 1 trainings" in result.attempt.text
        assert run.champion == run.base


def test_killed_before_each_effect_it_ends_the_same(tmp_path: Path) -> None:
    def work(run: Run) -> Any:
        tried = run.attempt(run.base, run.task.train[:2], solver=adapt)
        return [one.text for one in tried]

    assert assert_survives(work, partial(opened, tmp_path), every=True) >= 8


def test_what_is_journaled_is_not_trained_again(tmp_path: Path) -> None:
    for trainings in (4, 0):
        learner = CountingLearner()
        with opened(tmp_path, learner=learner) as run:
            run.attempt(run.base, run.task.train, solver=adapt)
            assert learner.trained == trainings
            assert run.ledger.usage == run.journal.usage()


def test_weights_lost_by_a_kill_are_made_again_without_being_paid_again(tmp_path: Path) -> None:
    first, again = CountingLearner(), CountingLearner()
    with opened(tmp_path, learner=first) as run:
        put = run.journal.put

        def failing(key: str, kind: str, payload: Any, usage: Any = None, **more: Any) -> None:
            if kind == "sample" and run.journal.count("tune"):
                raise Killed
            put(key, kind, payload, usage, **more)

        run.journal.put = failing
        with pytest.raises(Killed):
            run.attempt(run.base, run.task.train[:1], solver=adapt)
        assert run.journal.count("tune") == first.trained == 1
    with opened(tmp_path, learner=again) as run:
        (attempt,) = run.attempt(run.base, run.task.train[:1], solver=adapt)
        assert "after 1 trainings" in attempt.text
        assert (again.trained, run.journal.count("tune")) == (1, 1)


@solver()
async def reading(ask: Ask, problem: Problem) -> Solution:
    """Train twice, on top of each other, and read the weights in every way but by samples."""
    demos = [Demo(problem.prompt, "Answer: 1")]
    once = await ask.tuned(demos, sft(), 1)
    twice = await ask.tuned(demos, sft(), 2, policy=once)
    rated = await ask.tuned([Label(problem.prompt, "Answer: 1", True)], orm(), 1)
    draft = await ask(problem.prompt)
    likely = await ask.loglikelihood(problem.prompt, "7", policy=once)
    chosen = await ask.choose(problem.prompt, ["1", "2"], policy=twice)
    score = await ask.score(draft, rated)
    steps = await ask.score(draft, rated, at="steps")
    return Solution(draft, [likely.total, chosen.probabilities, score, steps])


def test_what_reads_tuned_weights_trains_nothing_where_it_is_journaled(tmp_path: Path) -> None:
    found: list[Any] = []
    for trainings in (3, 0):
        learner = CountingLearner()
        with opened(tmp_path, learner=learner) as run:
            found.append([one.data for one in run.search(run.base, run.task.train[:1], solver=reading)])
            assert learner.trained == trainings
            assert run.ledger.usage == run.journal.usage()
            assert run.journal.count("score") == 2
    assert found[0] == found[1]


def test_readers_of_tuned_weights_survive_a_kill_before_each_effect(tmp_path: Path) -> None:
    def work(run: Run) -> Any:
        return [one.data for one in run.search(run.base, run.task.train[:1], solver=reading)]

    assert assert_survives(work, partial(opened, tmp_path), every=True) >= 9


def test_only_the_weights_that_a_missing_answer_reads_are_made_again(tmp_path: Path) -> None:
    """And those that they were trained from."""
    with opened(tmp_path) as run:
        put = run.journal.put

        def failing(key: str, kind: str, payload: Any, usage: Any = None, **more: Any) -> None:
            if kind == "loglikelihood" and run.journal.count(kind) == 1:
                raise Killed
            put(key, kind, payload, usage, **more)

        run.journal.put = failing
        with pytest.raises(Killed):
            run.attempt(run.base, run.task.train[:1], solver=reading)
    again = CountingLearner()
    with opened(tmp_path, learner=again) as run:
        run.attempt(run.base, run.task.train[:1], solver=reading)
        assert again.records == [1, 2, 1]  # the two that `choose` reads, then the one of `score`
        assert run.journal.count("tune") == 3


def escaped(folder: Path) -> tuple[Run, Policy]:
    """A run, and a policy that a solver of it let out."""
    out: list[Policy] = []

    async def leaking(ask: Ask, problem: Problem) -> Attempt:
        out.append(await ask.tuned([Demo(problem.prompt, "Answer: 1")], sft(), 1))
        return await ask(problem.prompt, policy=out[0])

    run = opened(folder)
    run.attempt(run.base, run.task.train[:1], solver=leaking)
    return run, out[0]


def returning(run: Run, base: Policy, task: Task, *, tuned: str, folder: str) -> Policy:
    return Policy(tuned, Path(folder), base)


KEPT: dict[str, Callable[[Run, Policy], Any]] = {
    "base": lambda run, p: run.learn(p, sft(), [Demo(run.task.train[0].prompt, "Answer: 1")]),
    "reference": lambda run, p: run.learn(run.base, dpo(reference=p), [Demo(run.task.train[0].prompt, "x")]),
    "online": lambda run, p: run.learn_online(p, run.task.train, steps=1),
    "measured": lambda run, p: run.measure(p),
    "of an ensemble": lambda run, p: run.measure_ensemble([run.base, p]),
    "champion": lambda run, p: setattr(run, "champion", p),
    "result": lambda run, p: recipe()(returning)(run, run.base, run.task, tuned=p.version, folder=str(p.path)),
    "sampled": lambda run, p: run.attempt(p, run.task.train[:1]),
    "of another answer": lambda run, p: run.attempt(run.base, run.task.train[1:2], solver=partial(borrowing, p)),
}


async def borrowing(policy: Policy, ask: Ask, problem: Problem) -> Attempt:
    return await ask(problem.prompt, policy=policy)


@pytest.mark.parametrize("deed", KEPT.values(), ids=KEPT)
def test_it_is_never_kept(tmp_path: Path, deed: Callable[[Run, Policy], Any]) -> None:
    run, tuned = escaped(tmp_path)
    with run, pytest.raises(BadInput) as refused:
        deed(run, tuned)
    assert str(refused.value).endswith("use it in the solver call that tuned it; run.learn trains policies that last")
    assert "\n" not in str(refused.value)
    assert tuned.temporary
    assert not tuned.path.exists()


def instructed(instruction: str) -> Task:
    """The task of `opened`, with an instruction that every question ends with."""
    plain = make_task(4, 6, 3)
    splits = [[make_problem(f"{p.question}\n{instruction}", p.reference) for p in s] for s in map(plain.split, SPLITS)]
    return Task("sums", *splits, verifier=Exact(), kind=Kind.NUMBER, instruction=instruction)


def tuning(
    folder: Path, records: Callable[[Problem, Task], Any], steps: int = 1, task: Task | None = None, **training: Any
) -> None:
    with make_run(folder, task=task or make_task(4, 6, 3), script=script) as run:
        task = run.task

        async def mine(ask: Ask, problem: Problem) -> Attempt:
            tuned = await ask.tuned(records(problem, task), sft(), steps, **training)
            return await ask(problem.prompt, policy=tuned)

        run.attempt(run.base, task.dev[:1], solver=mine)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "none": (lambda problem, task: [], {}, "nothing to learn from"),
    "no steps": (lambda problem, task: [Demo(problem.prompt, "x")], {"steps": 0}, "steps must be at least 1, got 0"),
    "epochs": (lambda problem, task: [Demo(problem.prompt, "x")], {"epochs": 2}, "its length is given in steps"),
    "a misspelling": (lambda problem, task: [Demo(problem.prompt, "x")], {"learning_rat": 1}, "has no field"),
    "another dev problem": (lambda problem, task: [Demo(task.dev[1].prompt, "x")], {}, "another dev or test problem"),
    "a test problem": (lambda problem, task: [Demo(task.test[1].prompt, "x")], {}, "another dev or test problem"),
    "a target": (lambda problem, task: [Demo(problem.prompt, task.test[1].question)], {}, "another dev or test"),
}


@pytest.mark.parametrize(("records", "how", "message"), WRONG.values(), ids=WRONG)
def test_bad_input_is_one_line(tmp_path: Path, records: Any, how: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        tuning(tmp_path, records, **how)
    assert "\n" not in str(refused.value)


HELD_OUT: dict[str, Callable[[Problem, Task], Demo]] = {
    "dev": lambda problem, task: Demo(task.dev[1].prompt, "Answer: 1"),
    "test": lambda problem, task: Demo(task.test[0].prompt, "Answer: 1"),
    "in capitals": lambda problem, task: Demo(as_prompt(bare(task.dev[1]).upper()), "Answer: 1"),
    "in capitals, instructed": lambda problem, task: Demo(
        as_prompt(f"{bare(task.dev[1]).upper()}\n{task.instruction}"), "Answer: 1"
    ),
    "as a target": lambda problem, task: Demo(problem.prompt, task.dev[1].question),
}


def bare(problem: Problem) -> str:
    return problem.question.partition("\n")[0]


@pytest.mark.parametrize("record", HELD_OUT.values(), ids=HELD_OUT)
def test_other_held_out_problems_are_refused_whatever_instruction_they_end_with(tmp_path: Path, record: Any) -> None:
    task = instructed("End with Answer: and the number.")
    with pytest.raises(BadInput, match="a record is of another dev or test problem"):
        tuning(tmp_path, lambda problem, task: [record(problem, task)], task=task)


def test_with_an_instruction_the_problem_itself_and_train_problems_are_learned_from(tmp_path: Path) -> None:
    task = instructed("End with Answer: and the number.")
    tuning(tmp_path, lambda problem, task: [Demo(p.prompt, "Answer: 1") for p in (problem, *task.train)], task=task)


def test_the_problem_itself_and_train_problems_are_learned_from(tmp_path: Path) -> None:
    tuning(tmp_path / "own", lambda problem, task: [Demo(problem.prompt, "Answer: 1"), Demo(problem.prompt, "x")])
    tuning(tmp_path / "train", lambda problem, task: [Demo(one.prompt, "Answer: 1") for one in task.train])


def test_a_model_behind_an_endpoint_is_not_tuned(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        remote = replace(run.base, remote="some-model")

        async def mine(ask: Ask, problem: Problem) -> Attempt:
            await ask.tuned([Demo(problem.prompt, "x")], sft(), 1, policy=remote)
            raise AssertionError

        with pytest.raises(BadInput, match="endpoint"):
            run.attempt(run.base, run.task.train[:1], solver=mine)


async def uncertain(ask: Ask, problem: Problem) -> Solution:
    before = await ask(problem.prompt, temperature=0.0)
    demos = [Demo(problem.prompt, "7", attempts=(before.id,))]
    made = await asyncio.gather(*(ask.tuned(demos, sft(), n, learning_rate=0.01, batch_size=1) for n in (6, 1)))
    after = [await ask(problem.prompt, policy=one, temperature=0.0) for one in made]
    return Solution(after[0], {"before": before.text, "after": [one.text for one in after]})


@pytest.mark.parametrize("rank", [0, 4])
def test_a_tiny_model_learns_for_one_answer(tmp_path: Path, tiny: Any, rank: int) -> None:
    settings = Settings(training=TrainConfig(learning_rate=0.01, lora_rank=rank))
    task, base = make_task(1, 2, 1), tiny("llama")
    texts = []
    for calls in range(2):
        with Run(
            tmp_path / "run", model=base, task=task, engine=LocalEngine(dtype="float32"), settings=settings,
        ) as run:  # fmt: skip
            found = run.search(run.base, task.train, solver=uncertain, max_tokens=3)
            texts.append([one.data for one in found])
            assert run.journal.count("tune") == 2
            assert run.ledger.usage.trained == run.journal.usage().trained
        assert not (tmp_path / "run" / ONE_ANSWER).exists(), calls
    assert texts[0] == texts[1]
    if rank == 0:
        assert all(one["after"][0].startswith("7") and not one["before"].startswith("7") for one in texts[0])
    assert {one.attempt.policy for one in found} != {base.version}
