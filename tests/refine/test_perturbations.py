"""Derailed solutions, where their mistakes are, and self-talk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scripted_world import judged
from selftaught.records import Verdict
from selftaught.refine import criticize, first_error_steps, perturb, revise, self_talk
from selftaught.tasks import load_task
from selftaught.testing import make_run, sums
from talking_world import talk

(PROBLEM,) = sums(1)


def test_a_derailed_solution_begins_as_its_source_and_is_judged_whole(tmp_path: Path) -> None:
    with make_run(tmp_path, script=talk) as run:
        sound = [a for a in run.attempt(run.base, run.task.train, samples=4) if a.right]
        derailed = run.attempt(run.base, sound, solver=perturb, temperature=1.2)
        sampled = {key: p for key, _, p, _ in run.journal.effects("sample")}
        found = first_error_steps(run.task, [a for a in derailed if not a.right], sound)
    sources = {a.id: a for a in sound}
    kept = set()
    for one in derailed:
        lines, source = one.text.splitlines(), sources[one.parent or ""].text.splitlines()
        added = sampled[one.id]["text"].splitlines()
        begun = len(lines) - len(added)
        kept.add(begun)
        assert lines[:begun] == source[:begun]
        assert lines[begun:] == added
        assert one.right == one.text.endswith(f"Answer: {one.problem.reference}")
        if not one.right:
            place = found[one.id]
            assert place > begun
            assert lines[: place - 1] == source[: place - 1]
            assert lines[place - 1] != source[place - 1]
    assert kept == {0}  # of two lines the first is always left: the answer must be new
    assert {a.right for a in derailed} == {True, False}


def test_longer_solutions_are_left_anywhere_but_at_the_answer(tmp_path: Path) -> None:
    long = "\n".join([*"abcd", "Answer: 21"])
    with make_run(tmp_path, script=lambda _, request: long[len(request.prefix) :]) as run:
        tried = run.attempt(run.base, run.task.train)
        derailed = run.attempt(run.base, tried, solver=perturb)
        samples = {key: p["text"] for key, _, p, _ in run.journal.effects("sample")}
    assert all(one.text == long for one in derailed)
    assert {samples[one.id].count("\n") for one in derailed} == {4, 3, 2, 1}


def test_exact_verdicts_on_steps_come_first() -> None:
    with load_task("underfit:family=chain,level=2", train=1, dev=1, test=1, seed=0, instruction=None) as task:
        (problem,) = task.train
        tried = replace(judged(problem, "1", Verdict.WRONG, name="x"), text="1+1=3\nAnswer: 3", parent="right")
        right = replace(judged(problem, "1", Verdict.RIGHT, name="right"), text="1+1=3\nAnswer: 4")
        assert task.step_verdicts(problem, tried.text) == (Verdict.WRONG,)
        assert task.hidden().step_verdicts(task.hidden().train[0], tried.text) == (Verdict.WRONG,)
        assert first_error_steps(task, [tried], [right]) == {"x": 1}
        assert first_error_steps(task, [replace(tried, text="Answer: 3")], [right]) == {}


def test_self_talk_thinks_up_to_the_mistake_then_says_what_is_wrong(tmp_path: Path) -> None:
    with make_run(tmp_path, script=talk) as run:
        notes = run.attempt(run.base, run.attempt(run.base, run.task.train), solver=criticize)
        pointing = [n for n in notes if n.text.startswith("step 1")]
        (revised, *_) = run.attempt(run.base, pointing, solver=revise)
        demo = self_talk(revised)
    draft = pointing[0].prompt[-2].content.splitlines()
    assert demo.target == "\n".join([draft[0], pointing[0].text, revised.text])
    assert demo.prompt == revised.problem.prompt
    assert demo.attempts == (revised.id, pointing[0].id)
    vague = replace(
        revised,
        prompt=tuple(m._replace(content="it is off") if m.content == pointing[0].text else m for m in revised.prompt),
    )
    assert self_talk(vague).target == "\n".join([*draft[:-1], "it is off", revised.text])
