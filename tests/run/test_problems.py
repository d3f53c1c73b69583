"""New problems in a run: decontaminated, journaled, verified where possible, and traced to their sources."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact, ExtractedAnswer, right_or_wrong
from selftaught.learn import sft
from selftaught.lineage import trace
from selftaught.method import recipe
from selftaught.models import Demonstration, Notes, Policy
from selftaught.records import HIDDEN, Demo, Feedback, Message, Problem, Verdict, as_prompt, make_problem
from selftaught.run.run import Run
from selftaught.tasks import Kind, Task, load_task
from selftaught.tasks.environment import Turn
from selftaught.testing import assert_survives, make_run, make_task

INSTRUCTION = "End with the number alone."

THINGS = (
    "apples", "boats", "candles", "drums", "eggs", "flutes", "gloves", "hats", "inks", "jars", "kites", "lamps",
    "masks", "nets", "oars", "pens",
)  # fmt: skip
PEOPLE = (
    "Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ida", "Jon", "Kim", "Lea", "Max", "Nia", "Otto", "Pia",
)  # fmt: skip


def word_problems(start: int, count: int) -> list[Problem]:
    """Different stories, each with its own things and numbers."""
    found = []
    for i in range(start, start + count):
        a, b, thing, who = 20 + i * 3, 4 + i % 9, THINGS[i % 16], PEOPLE[i * 5 % 16]
        text = f"{who} stores {a} {thing} in the cellar near the old mill. Then a friend borrows {b} of these {thing}."
        question = f"{text} What number of {thing} does {who} still keep?"
        meta = {"question": question, "where": f"row {i}"}
        found.append(make_problem(f"{question}\n{INSTRUCTION}", str(a - b), meta))
    return found


class Subtracts:
    """A verifier that needs no reference: it reads the two numbers of the question."""

    version, needs_reference = "subtracts/1", False

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        a, b = map(int, re.findall(r"\d+", problem.question)[:2])
        return right_or_wrong(answer.canonical == str(a - b), self.version)

    def reads(self, problem: Problem) -> bool:
        return len(re.findall(r"\d+", problem.question)) == 2

    def close(self) -> None:
        """Nothing to stop."""


def stories(verifier: Any = None, held_out: int = 3) -> Task:
    splits = word_problems(0, 10), word_problems(10, held_out), word_problems(10 + held_out, held_out)
    return Task("stories", *splits, verifier=verifier or Subtracts(), kind=Kind.NUMBER, instruction=INSTRUCTION)


def in_other_words(problem: Problem) -> str:
    text = problem.meta["question"].replace("friend borrows", "neighbor borrows").replace("still keep", "keep now")
    facts, question = text.rsplit(". ", 1)
    return f"{question.upper()} It was a rainy day; {facts.lower()} -"


FRESH = ("Zoe has 31 ripe tomatoes on her balcony and cooks 12 in a soup. How many hang there after the meal?",)


def script(policy: Policy, request: Any) -> str:
    text = request.prompt[-1].content
    if text.startswith("Invent"):
        return FRESH[0]
    a, b = map(int, [*re.findall(r"\d+", text), "1", "1"][:2])
    return f"Answer: {a - b if request.seed % 3 else a + b}"


def posing(run: Run, base: Policy, task: Task) -> Policy:
    """Ask for problems, keep the new ones, and train on right answers to them."""
    (asked,) = run.attempt(base, task.train[:1], solver=invents)
    planted = [in_other_words(p) for p in (*task.dev, *stories().test)]  # its task shows no test problems
    texts = [asked.text, *planted, task.train[1].meta["question"].upper(), "How far is it?"]
    new = run.new_problems([task.pose(text, attempts=[asked.id]) for text in texts])
    tried = run.attempt(base, new, samples=6)
    demos = [Demo(a.problem.prompt, a.text, attempts=(a.id,)) for a in tried if a.right]
    policy = run.learn(base, sft(), demos)
    run.measure(policy)
    return run.champion


async def invents(ask: Any, problem: Problem) -> Any:
    return await ask("Invent a problem.", role="propose")


RECIPE = recipe(needs=("verifier",))(posing)


def opened(folder: Path, name: str = "run", **more: Any) -> Run:
    return make_run(folder / name, task=more.pop("task", None) or stories(), script=script, **more)


def test_planted_dev_and_test_problems_are_dropped_and_the_new_one_is_learned(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        RECIPE(run, run.base, run.task)
        ((_, _, found, usage),) = run.journal.effects("problems")
        assert [row["question"] for row in found["kept"]] == [*FRESH]
        reasons = [row["reason"].replace(" in other words", "") for row in found["dropped"]]
        assert reasons == ["a dev problem"] * 3 + ["a test problem"] * 3 + ["not new", "the task cannot read it"]
        assert usage.spent == 0
        assert run.history[0]["metrics"]["new problems"] == {"kept": 1, "dropped": 8}
        (learned,) = run.journal.effects("learn")
        assert 1 <= learned[2]["records"] < 6
        sampled = [
            key for key, _, one, _ in run.journal.effects("sample") if one["problem"] == found["kept"][0]["problem"]
        ]
        asked = found["kept"][0]["attempts"][0]
        lineage = trace(run.folder, sampled[-1])
    assert lineage.nodes[sampled[-1]].problem == FRESH[0]
    assert (asked, "answers a problem from") in {(one.target, one.how) for one in lineage.links}
    assert lineage.gaps == {}


def test_killed_before_each_effect_it_ends_the_same(tmp_path: Path) -> None:
    work: Callable[[Run], Any] = lambda run: RECIPE(run, run.base, run.task)  # noqa: E731
    assert assert_survives(work, partial(opened, tmp_path), every=True) > 10


def doing(folder: Path, deed: Callable[[Run, Task], Any], needs: tuple[Any, ...] = ("verifier",)) -> Any:
    """What a recipe gets by a deed."""
    found = []

    def mine(run: Run, base: Policy, task: Task) -> Policy:
        found.append(deed(run, task))
        return base

    with opened(folder) as run:
        recipe(needs=needs)(mine)(run, run.base, run.task)
    return found[0]


def by_hand(problem: Problem) -> Problem:
    return make_problem(in_other_words(problem))


def test_twenty_planted_problems_reach_neither_training_nor_notes(tmp_path: Path) -> None:
    with opened(tmp_path, task=stories(held_out=10)) as run:
        task, planted = run.task, [in_other_words(p) for p in (*run.task.dev, *run.task.test)]
        assert run.new_problems([task.pose(text) for text in planted]) == []
        for text in planted:
            demo, page = Demo(make_problem(text).prompt, "Answer: 1"), f"Mind the units. {text} Then subtract."
            for deed in (
                lambda demo=demo: run.learn(run.base, sft(), [demo]),
                lambda page=page: run.write_notes(run.base, Notes(insights=("Be brief.", page))),
                lambda demo=demo: run.write_notes(
                    run.base, Notes(demonstrations=(Demonstration(demo.prompt, demo.target),))
                ),
            ):
                with pytest.raises(BadInput, match=r"dev or test problem|repeats a (dev|test) problem"):
                    deed()
        assert run.journal.count("learn") == run.journal.count("notes") == 0
        own = Notes(insights=("Be brief.", task.train[0].question))
        assert run.write_notes(run.base, own).notes == own


CLOSED: dict[str, Callable[[Run, Task], Any]] = {
    "attempts at test": lambda run, task: run.attempt(run.base, [by_hand(stories().test[0])]),
    "online on dev": lambda run, task: run.learn_online(run.base, [by_hand(task.dev[0])], steps=1),
    "verdicts on dev": lambda run, task: task.verify(by_hand(task.dev[0]), "Answer: 1"),
    "a record of dev": lambda run, task: run.learn(run.base, sft(), [Demo(by_hand(task.dev[0]).prompt, "Answer: 1")]),
    "a record of test": lambda run, task: run.learn(
        run.base, sft(), [Demo((Message("system", "Add."), *by_hand(stories().test[1]).prompt), "Answer: 1")]
    ),
    "a turn after a train problem": lambda run, task: run.learn(
        run.base, sft(), [Demo((*task.train[0].prompt, *by_hand(task.dev[1]).prompt), "Answer: 1")]
    ),
    "a target that is a test problem": lambda run, task: run.learn(
        run.base, sft(), [Demo(task.train[0].prompt, f"Here is one: {in_other_words(stories().test[2])}")]
    ),
    "a longer task": lambda run, task: task.extended([by_hand(task.dev[0])]),
}


@pytest.mark.parametrize("deed", CLOSED.values(), ids=CLOSED)
def test_what_repeats_a_held_out_problem_is_held_out(tmp_path: Path, deed: Callable[[Run, Task], Any]) -> None:
    with pytest.raises(BadInput, match=r"dev|test") as refused:
        doing(tmp_path, deed)
    assert "\n" not in str(refused.value)


def test_attempts_at_what_repeats_a_dev_problem_get_no_verdict(tmp_path: Path) -> None:
    (attempt,) = doing(tmp_path, lambda run, task: run.attempt(run.base, [by_hand(task.dev[0])]))
    assert attempt.feedback == ()


def test_an_extended_task_verifies_the_new_problems_for_who_may(tmp_path: Path) -> None:
    def deed(run: Run, task: Task) -> Any:
        (new,) = run.new_problems([task.pose(FRESH[0])])
        longer = task.extended([new, task.train[0]])
        (attempt,) = run.attempt(run.base, longer.train[-1:], temperature=0.0)
        return task, longer, longer.verify(new, "Answer: 19").verdict, attempt

    task, longer, verdict, attempt = doing(tmp_path, deed)
    assert [p.id for p in longer.train[:-1]] == [p.id for p in task.train]
    assert longer.train[-1].question == f"{FRESH[0]}\n{INSTRUCTION}"
    assert all(p.reference is HIDDEN for p in (*longer.train[:-1], *longer.dev))
    assert verdict is Verdict.RIGHT
    assert attempt.verdict in (Verdict.RIGHT, Verdict.WRONG)
    plain = stories().extended([make_problem(FRESH[0])])
    assert (len(plain.train), plain.dev, plain.name) == (11, stories().dev, "stories")


def test_without_a_reference_a_verifier_that_needs_one_does_not_know(tmp_path: Path) -> None:
    with make_run(tmp_path, task=make_task()) as run:
        task = run.task
        unknown, known, again = task.pose("What is 61 + 14?"), task.pose("What is 62 + 15?", "77"), task.train[0]
        assert run.new_problems([unknown, known, again, unknown]) == [unknown, known]
        assert run.new_problems([known]) == []  # no longer new
        for needs_hidden in (False, True):
            subjects = [replace(p, reference=HIDDEN) if needs_hidden else p for p in (unknown, known)]
            tried = run.attempt(run.base, subjects, samples=4)
            assert {a.verdict for a in tried[:4]} == {Verdict.UNKNOWN}
            assert {a.verdict for a in tried[4:]} <= {Verdict.RIGHT, Verdict.WRONG}
        with pytest.raises(BadInput, match="new_problems: expected a new Problem, got 'What"):
            run.new_problems(["What is 1 + 1?"])  # pyright: ignore
        with pytest.raises(BadInput, match="pose: the question is empty"):
            task.pose(" ")


OTHER_ID: dict[str, Callable[[Task], Problem]] = {
    "of dev": lambda task: replace(task.pose("What is 61 + 14?", "75"), id=task.dev[0].id),
    "of test": lambda task: replace(task.pose("What is 61 + 14?", "75"), id=task.test[0].id),
    "of train": lambda task: replace(task.train[0], prompt=as_prompt("What is 61 + 14?"), reference="9"),
    "of nothing": lambda task: replace(task.pose("What is 61 + 14?", "75"), id="mine"),
}


@pytest.mark.parametrize("make", OTHER_ID.values(), ids=OTHER_ID)
def test_a_new_problem_under_another_id_is_refused_in_a_line(tmp_path: Path, make: Callable[[Task], Problem]) -> None:
    with make_run(tmp_path) as run:
        with pytest.raises(
            BadInput, match=r"new_problems: problem 'What is 61 \+ 14\?' has the id of another"
        ) as refused:
            run.new_problems([run.task.pose("What is 62 + 15?", "77"), make(run.task)])
        assert "\n" not in str(refused.value)
        assert run.journal.count("problems") == 0


def test_a_new_problem_with_the_id_of_a_named_one_is_refused(tmp_path: Path) -> None:
    plain, new = make_task(), make_problem("What is 61 + 14?", "75")
    named = replace(plain.train[0], id=new.id)  # a task may name its problems as it likes
    task = Task("sums", [named, *plain.train[1:]], plain.dev, plain.test, verifier=Exact(), kind=Kind.NUMBER)
    with make_run(tmp_path, task=task) as run, pytest.raises(BadInput, match="has the id of another"):
        run.new_problems([new])


class Echo:
    """Rewards the action that holds the problem's reference."""

    version, max_turns = "echo/1", 2

    def start(self, problem: Problem) -> dict[str, str]:
        return {"wanted": str(problem.reference)}

    def act(self, state: dict[str, str], text: str) -> Turn:
        return Turn("ok", float(state["wanted"] in text), True, state)


@pytest.mark.parametrize("environment", [None, Echo()], ids=["verifier", "environment"])
def test_the_tasks_own_problem_is_judged_by_its_own_reference_whatever_was_posed(
    tmp_path: Path, environment: Any
) -> None:
    plain = make_task()
    verifier = None if environment else Exact()
    task = Task(
        "sums", plain.train, plain.dev, plain.test, verifier=verifier, kind=Kind.NUMBER, environment=environment
    )
    dev, keys = task.dev[0], []
    for posed in ([], [replace(task.dev[0], reference="999")]):
        with make_run(tmp_path / str(len(posed)), task=task, script=lambda *_: "Answer: 999") as run:
            run._context.posed |= {one.id: one for one in posed}
            for subject in (dev, replace(dev, reference=HIDDEN)):
                (attempt,) = run.attempt(run.base, [subject])
                assert attempt.verdict is Verdict.WRONG
            keys.append({key for kind in ("verify", "env") for key, *_ in run.journal.effects(kind)})
    assert keys[0] == keys[1] != set()


def test_the_underfit_world_judges_questions_that_a_model_poses() -> None:
    task = load_task("underfit:family=chain|target", train=4, dev=4, test=4)
    posed = task.pose("chain 11 +11 +4")
    assert task.reads(posed)
    assert not task.reads(task.pose("chain of thought"))
    verdicts = [task.verify(posed, f"11+11=22\n22+4={said}\nAnswer: {said}").verdict for said in (26, 27)]
    assert verdicts == [Verdict.RIGHT, Verdict.WRONG]
