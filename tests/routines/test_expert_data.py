"""An annotator's data: which problems, whose revisions, how a critic is measured, and what is hard."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripted_world import judged
from selftaught import routines
from selftaught.check.claim import SystemResult
from selftaught.engines import Request
from selftaught.models import Policy
from selftaught.records import Verdict
from selftaught.refine import keeps_steps
from selftaught.refine.turns import CRITIQUE, REVISE, first_step_number
from selftaught.routines.difficulty import SAMPLES
from selftaught.run.solver import SolverResult
from selftaught.testing import SumAnnotator, make_run, make_task, sums
from talking_world import heard, talk

R, W = Verdict.RIGHT, Verdict.WRONG
PROBLEMS = sums(40)


@pytest.mark.parametrize(
    ("annotated", "probe", "known", "held_out"), [(0, 8, 32, 8), (10, 8, 10, 8), (0, 0, 40, 0), (39, 64, 30, 10)]
)
def test_probes_are_the_last_problems_and_are_not_annotated(
    annotated: int, probe: int, known: int, held_out: int
) -> None:
    first, last = routines.hold_out(PROBLEMS, annotated, probe)
    assert first == PROBLEMS[:known]
    assert last == PROBLEMS[40 - held_out :]


def test_rounds_get_problems_of_their_own() -> None:
    known, parts = routines.split_train(PROBLEMS, 10, 3, 8)
    assert known == PROBLEMS[:10]
    assert parts == [PROBLEMS[10:18], PROBLEMS[18:26], PROBLEMS[26:34]]


def test_where_problems_are_few_half_are_annotated_and_the_rest_is_shared_out() -> None:
    known, parts = routines.split_train(PROBLEMS, 256, 3, 512)
    assert (len(known), [len(part) for part in parts]) == (20, [6, 6, 6])
    assert routines.split_train(PROBLEMS[:2], 256, 3, 512) == (PROBLEMS[:1], [PROBLEMS[1:2]] * 3)
    assert routines.split_train(PROBLEMS[:1], 256, 2, 512) == (PROBLEMS[:1], [PROBLEMS[:1]] * 2)


def test_a_critique_of_all_steps_points_at_the_first_that_is_not_right() -> None:
    assert first_step_number("step 1: right\nstep 2: wrong, it is 4\nstep 3: wrong") == 2
    assert first_step_number("Step 1: correct\nStep 12: 5") == 12
    assert first_step_number("++-step 3: 27") == 3


@pytest.mark.parametrize(
    ("draft", "revised", "kept"),
    [
        ("2+3=5\n5*2=10\nAnswer: 10", "2+3=6\n6*2=12\nAnswer: 12", True),
        ("2+3=5\n5*2=10\nAnswer: 10", "5*2=10\nAnswer: 10", False),
        ("2+3=5\n5*2=10\nAnswer: 10", "Answer: 10", False),
        ("Answer: 10", "Answer: 12", True),
    ],
)
def test_a_revision_that_loses_its_steps_is_a_shortcut(draft: str, revised: str, kept: bool) -> None:
    assert keeps_steps(draft, revised) is kept


def test_shortcuts_are_no_repairs(tmp_path: Path) -> None:
    def script(policy: Policy, request: Request) -> str:
        role, a, b, *_ = heard(request)
        return {"critique": f"step 1: {a + b}", "revise": f"Answer: {a + b}"}.get(role, talk(policy, request))

    draft = judged(PROBLEMS[0], "1\n3\n4\n5", W)
    with make_run(tmp_path, script=script) as run:
        assert routines.repair_failures(run, run.base, run.base, [draft], 1, 0.7) == []


def test_a_repeated_failure_is_criticized_once_and_revised_as_often_as_it_occurs(tmp_path: Path) -> None:
    asked: list[str] = []

    def script(policy: Policy, request: Request) -> str:
        last = request.prompt[-1].content
        asked.append({CRITIQUE: "critique", REVISE: "revise"}.get(last, "solve"))
        return "step 1: 21" if last == CRITIQUE else f"21 ({request.seed})\nAnswer: 21"

    same = [judged(PROBLEMS[0], "1", W, name=name) for name in ("1", "2", "3")]
    with make_run(tmp_path, script=script) as run:
        repaired = routines.repair_failures(run, run.base, run.base, same, 3, 0.7)
    assert asked.count("critique") == 1
    assert len({one.text for one in repaired}) == 3


def test_the_score_of_a_critic_is_that_of_processbench(tmp_path: Path) -> None:
    said = {"a": "step 1: x", "b": "step 2: x", "c": "no mistakes", "d": "no mistakes", "e": "step 1: x"}

    def script(policy: Policy, request: Request) -> str:
        if request.prompt[-1].content == CRITIQUE:
            return said[request.prompt[1].content[-1]]
        return f"Answer: {PROBLEMS[0].reference if request.prompt[1].content[-1] == 'a' else 0}"

    drafts = [judged(PROBLEMS[0], name, R if name in "de" else W, name=name) for name in "abcde"]
    with make_run(tmp_path, script=script) as run:
        revised = routines.measure_critic(run, run.base, run.base, drafts, {"a": 1, "b": 1})
    located, cleared = 1 / 3, 1 / 2  # of three wrong drafts, of two right ones
    assert revised.f1 == pytest.approx(2 * located * cleared / (located + cleared))
    assert revised.mended == pytest.approx(1 / 3)  # "a"; "b" is pointed at in vain, and "c" passes
    assert revised.wrong == 3


def test_purity_is_the_share_of_right_answers_at_each_stage() -> None:
    right, wrong = judged(PROBLEMS[0], "21", R), judged(PROBLEMS[0], "1", W)
    found = routines.purity(
        [right, wrong, wrong, wrong], [right, right, wrong, wrong], [right, right, right, wrong], 0.6
    )
    assert (found["answers"], found["refined"], found["kept"], found["of"]) == (0.25, 0.5, 0.75, 4)
    assert found["gained by filter"] == pytest.approx(0.25)
    assert found["above greedy"] == pytest.approx(0.15)
    assert routines.purity([right], [right], [], 0.5)["above greedy"] == -0.5


def test_hard_is_what_the_start_hardly_ever_solves(tmp_path: Path) -> None:
    """Of 8 train problems the start solves 3 never, 1 once in 16 samples, and the others always."""
    counts: dict[str, int] = {}
    task = make_task(train=8, test=8)
    rates = dict(zip([p.question for p in task.train], [0, 0, 0, 1, 16, 16, 16, 16], strict=True))
    rates |= dict(zip([p.question for p in task.test], [0, 0, 0, 1, 16, 16, 16, 16], strict=True))

    def script(policy: Policy, request: Request) -> str:
        question = request.prompt[0].content
        counts[question] = counts.get(question, 0) + 1
        a, b = (int(word.strip("?")) for word in question.split()[2::2])
        return f"Answer: {a + b if counts[question] <= rates[question] else 0}"

    with make_run(tmp_path, script=script, task=task) as run:
        answers = [
            SolverResult(judged(p, "1", R if i in (0, 4) else W), 1) for i, p in enumerate(run.task.test)
        ]  # fmt: skip
        system = SystemResult(run, run.base, answers, 0)
        assert routines.hard_share(system) == 0.5
        assert set(counts.values()) == {SAMPLES}
        unsolved = routines.accuracy_on_unsolved(system)
        assert unsolved == {p.id: float(i == 0) for i, p in enumerate(run.task.test[:3])}


def test_answers_of_a_corpus_are_right_drafts_and_revisions_of_wrong_ones(tmp_path: Path) -> None:
    with make_run(tmp_path, script=talk, task=make_task(train=12, annotator=SumAnnotator())) as run:
        drafts = run.attempt(run.base, run.task.train, temperature=0.7)
        examples = routines.annotate_drafts(run, drafts, None)
        demos = routines.answer_demos(examples)
    assert len(examples) == len(demos) == 12
    for draft, demo in zip(drafts, demos, strict=True):
        assert (demo.target == draft.text) is draft.right
