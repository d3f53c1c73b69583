"""P(True) and P(IK): what is asked, what is chosen by it, and how the statistics are made, on a scripted judge."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from selftaught.check.claim import SystemResult
from selftaught.engines import Request, RequestRefused, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.measure import StudyReport
from selftaught.method import find
from selftaught.methods.study.p_true_p_ik import P_TRUE, accuracy_of_choices, statistics
from selftaught.models import Policy
from selftaught.records import Prompt
from selftaught.run.run import Run
from selftaught.testing import Learner, make_run, make_task, solve_sum

STUDY = find("p-true-p-ik")
SAMPLES = 3


def right(prompt: Prompt) -> bool:
    """Whether the last answer in a conversation is that of its sum."""
    a, b = map(int, re.findall(r"\d+", prompt[0].content))
    return prompt[-2].content.endswith(f"Answer: {a + b}")


class Judge(ScriptedEngine):
    """Finds right answers true with the probability `sure`, and remembers what it was asked."""

    def __init__(self, sure: float = 0.9) -> None:
        super().__init__(solve_sum, likelihood=self.believe, scorer=lambda *_: 0.0)
        self.sure, self.asked = sure, list[Prompt]()

    def believe(self, policy: Policy, prompt: Prompt, text: str) -> Sequence[float]:
        del policy
        self.asked.append(prompt)
        return [math.log(self.sure if right(prompt) is (text in ("(A)", "right")) else 1 - self.sure)]


def studied(folder: Path, engine: Any = None, **options: Any) -> tuple[StudyReport, Run]:
    with make_run(folder, engine=engine or Judge(), task=make_task(train=4, dev=12)) as run:
        return STUDY(run, run.base, run.task, samples=SAMPLES, **options), run


def test_a_good_judge_chooses_a_right_answer_wherever_there_is_one(tmp_path: Path) -> None:
    report, run = studied(tmp_path / "p_true", aggregation="p_true")
    sampled, _ = studied(tmp_path / "random", aggregation="random", epochs=0)
    assert report.scores == {problem: float(share > 0) for problem, share in sampled.scores.items()}
    assert 0 < sum(sampled.scores.values()) < sum(report.scores.values())
    assert accuracy_of_choices(SystemResult(run, run.base, (), 0, report)) == report.scores
    vote, p_true, p_ik = report.rows
    assert [vote["confidence"], p_true["confidence"], p_ik["confidence"]] == ["vote", "P(True)", "P(IK)"]
    assert (p_true["auroc"], p_true["brier"]) == (1.0, pytest.approx(0.01))  # each is 0.1 away
    assert (p_ik["auroc"], p_ik["brier"]) == (0.5, 0.25)  # a head that says one half of each
    assert p_ik["brier"] == statistics(SystemResult(run, run.base, (), 0, report))["P(IK) brier"]


def test_readings_are_prompt_tokens_alone_and_come_back_from_the_journal(tmp_path: Path) -> None:
    report, run = studied(tmp_path, epochs=0)
    judge = Judge()
    again, rerun = studied(tmp_path, judge, epochs=0)
    assert (again, rerun.ledger.usage, judge.asked) == (report, run.ledger.usage, [])
    assert run.ledger.usage.judge == 0
    assert run.ledger.usage.trained == 0


def test_the_question_is_the_papers_with_other_samples_as_earlier_turns(tmp_path: Path) -> None:
    judge = Judge()
    report, _ = studied(tmp_path, judge, comparisons=2, epochs=0)
    assert [row["confidence"] for row in report.rows] == ["vote", "P(True)", "P(True), 2 in view"]
    assert {len(prompt) for prompt in judge.asked} == {3, 7}
    for prompt in judge.asked:
        assert prompt[-1].content == P_TRUE
        assert [m.role for m in prompt] == [*("user", "assistant") * (len(prompt) // 2), "user"]
        assert len({m.content for m in prompt[:-1:2]}) == 1  # the same question again


def test_a_task_with_its_own_wording_is_asked_in_it(tmp_path: Path) -> None:
    judge, task = Judge(), make_task(train=4, dev=4)
    task.phrases = {"judge": "judge"}
    with make_run(tmp_path, engine=judge, task=task) as run:
        report = STUDY(run, run.base, task, samples=SAMPLES, epochs=0)
    assert {prompt[-1].content for prompt in judge.asked} == {"judge"}
    assert report.rows[1]["auroc"] == 1.0


def test_the_head_learns_the_share_of_right_samples_of_train_problems(tmp_path: Path) -> None:
    learner = Learner()
    with make_run(tmp_path, engine=Judge(), task=make_task(train=4, dev=4), learner=learner) as run:
        STUDY(run, run.base, run.task, samples=SAMPLES)
        assert run.champion == run.base
    ((base, records),) = learner.given
    assert base == run.base
    assert {record.samples[0].problem.id for record in records} == {p.id for p in run.task.train}
    for record in records:
        assert record.rewards == tuple(float(a.right) for a in record.samples)
        assert len(record.samples) == SAMPLES


class Divided(ScriptedEngine):
    """Gives two answers alike and another, which it finds more likely true than each of them.

    Where the sum begins with an odd number, the other is right, and more likely than both together; else both are.
    """

    def __init__(self) -> None:
        super().__init__(self.answer, likelihood=self.believe)
        self.told = Counter[Prompt]()

    def answer(self, policy: Policy, request: Request) -> str:
        self.told[request.prompt] += 1
        alone, question = self.told[request.prompt] == SAMPLES, request.prompt[0].content
        total = sum(map(int, re.findall(r"\d+", question)))
        return f"Answer: {total if alone is is_odd(question) else total + 1}"

    def believe(self, policy: Policy, prompt: Prompt, text: str) -> Sequence[float]:
        odd = is_odd(prompt[0].content)
        true = 0.9 if right(prompt) is odd else 0.2 if odd else 0.6
        return [math.log(true if text == "(A)" else 1 - true)]


def is_odd(question: str) -> bool:
    """Whether a sum begins with an odd number."""
    return int(re.findall(r"\d+", question)[0]) % 2 == 1


@pytest.mark.parametrize(
    ("aggregation", "odd", "even"),
    [("vote", 0, 1), ("weighted_vote", 1, 1), ("p_true", 1, 0), ("random", 1 / 3, 2 / 3)],
)
def test_votes_choose_too(tmp_path: Path, aggregation: str, odd: float, even: float) -> None:
    report, run = studied(tmp_path, Divided(), aggregation=aggregation, epochs=0)
    assert report.scores == {p.id: pytest.approx(odd if is_odd(p.question) else even) for p in run.task.dev}
    assert {is_odd(p.question) for p in run.task.dev} == {True, False}


def test_what_the_engine_refuses_to_read_is_left_out(tmp_path: Path) -> None:
    class Refusing(Judge):
        def believe(self, policy: Policy, prompt: Prompt, text: str) -> Sequence[float]:
            if right(prompt):
                raise RequestRefused("too long")
            return super().believe(policy, prompt, text)

    report, _ = studied(tmp_path, Refusing(), epochs=0)
    assert math.isnan(float(report.rows[1]["auroc"]))  # only wrong answers are left
    assert report.rows[1]["brier"] == pytest.approx(0.01)


def test_without_verdicts_it_says_so(tmp_path: Path) -> None:
    def silent(*_: Any) -> str:
        raise RequestRefused("no answer")

    with pytest.raises(BadInput, match="no answer to a dev problem could be verified"):
        studied(tmp_path, ScriptedEngine(silent))
