"""The underfit world's problems: every verdict agrees with an independent reckoning, for answers and for steps."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from selftaught.errors import BadInput
from selftaught.records import Verdict
from selftaught.tasks import load_task
from selftaught.worlds.underfit.families import FAMILIES, LEVELS, MARK, exactly
from selftaught.worlds.underfit.families.target import reaches
from selftaught.worlds.underfit.task import check_reply, split_reply
from selftaught.worlds.underfit.text import draw_case, imperfect_writer, is_held_out

CASES = [(name, level) for name in FAMILIES for level in LEVELS]
RIGHT, WRONG = Verdict.RIGHT, Verdict.WRONG


def made(name: str, level: int, count: int = 40) -> list[tuple[str, Any, Any]]:
    """Questions of a family with the problem they pose and the reference."""
    rng, family = random.Random(f"{name}{level}"), FAMILIES[name]
    asked = [family.question(level, rng) for _ in range(count)]
    return [(question, family.read(question), reference) for question, reference in asked]


@pytest.mark.parametrize(("name", "level"), CASES)
def test_a_careful_writer_is_right_in_every_step(name: str, level: int) -> None:
    family, rng = FAMILIES[name], random.Random(0)
    for question, problem, reference in made(name, level):
        written = family.write(problem, reference, exactly, rng)
        found = family.check(problem, reference, written.steps, written.answer)
        assert found.answer is RIGHT, question
        assert found.first_error is None, (question, written)


@pytest.mark.parametrize(("name", "level"), [c for c in CASES if c[0] != "target"])
def test_right_steps_one_after_the_other_are_a_careful_solution(name: str, level: int) -> None:
    family = FAMILIES[name]
    for question, problem, reference in made(name, level):
        steps: list[str] = []
        while (step := family.proceed(problem, reference, steps)) is not None:
            steps.append(step)
            assert len(steps) < 10, question
        assert family.check(problem, reference, steps, None).first_error is None, (question, steps)


@pytest.mark.parametrize("name", ["chain", "add", "choice"])
def test_the_first_error_is_where_the_writer_first_slipped(name: str) -> None:
    """The truth here comes from the writer's own decisions, not from reading the lines."""
    family, rng, slipped = FAMILIES[name], random.Random(7), 0
    for question, problem, reference in made(name, 4, 200):
        usual, decisions = imperfect_writer(rng), []

        def say(skill: str, right: str, slips: Sequence[str]) -> str:
            said = usual(skill, right, slips)  # noqa: B023
            if skill != "way":  # both ways round are right
                decisions.append(said == right)  # noqa: B023
            return said

        written = family.write(problem, reference, say, rng)
        steps = decisions[: len(written.steps)]
        first = steps.index(False) + 1 if False in steps else None
        assert family.check(problem, reference, written.steps, written.answer).first_error == first, (question, written)
        slipped += first is not None
    assert 50 < slipped < 200


@pytest.mark.parametrize(
    ("name", "question", "steps"),
    [
        ("chain", "chain 12 +9 -3", ("9+12=21", "21-3=18")),
        ("add", "add 47 36", ("6+7+0=13", "3+4+1=8")),
        ("target", "target 24 from 3 5 9", ("5*3=15", "9+15=24")),
    ],
)
def test_a_sum_or_product_is_right_either_way_round(name: str, question: str, steps: tuple[str, ...]) -> None:
    family = FAMILIES[name]
    assert family.check(family.read(question), None, steps, None).first_error is None


def test_a_difference_is_not() -> None:
    family = FAMILIES["chain"]
    assert family.check(family.read("chain 12 -9"), None, ("9-12=-3",), None).first_error == 1
    assert family.check(family.read("chain 12 -9"), None, ("9-12=3",), None).first_error == 1


def by_python(question: str) -> str:
    """The answer to a question, worked out from its text alone."""
    kind, _, rest = question.partition(" ")
    if kind == "chain":
        return str(left_to_right(rest))
    if kind == "add":
        return str(sum(map(int, rest.split())))
    if kind == "solve":
        left, right = ((side.replace("x", "*x").replace("=*", "=1*")) for side in rest.split("="))
        values = [[Fraction(eval(re.sub(r"^\*x", "x", s), {"x": x})) for s in (left, right)] for x in (0, 1)]
        (a0, b0), (a1, b1) = values
        return str((b0 - a0) / ((a1 - a0) - (b1 - b0)))
    if kind == "choose":
        terms, options = rest.split(": ")
        return next(o for o in re.findall(r"[ABC] \d+", options) if int(o[2:]) == left_to_right(terms))[0]
    terms, bound = rest.split(" > ")
    return "unknown" if "k" in terms else "yes" if left_to_right(terms) > int(bound) else "no"


def left_to_right(terms: str) -> int:
    """The value of `27 +38 *2`."""
    first, *rest = terms.split()
    text = first
    for term in rest:
        text = f"({text}){term}"
    return eval(text)


@pytest.mark.parametrize(("name", "level"), [c for c in CASES if c[0] not in ("target", "program")])
def test_answers_agree_with_a_reckoning_from_the_text_alone(name: str, level: int) -> None:
    family = FAMILIES[name]
    for question, problem, reference in made(name, level):
        answer = by_python(question)
        assert reference == answer, question
        assert family.check(problem, reference, (), answer).answer is RIGHT
        for other in {"0", "999", "D", "perhaps", "", None} - {answer}:
            assert family.check(problem, reference, (), other).answer is WRONG


def test_target_answers_agree_with_trying_every_expression() -> None:
    for question, goal, _ in made("target", 2, 30):
        shapes = ("({0}{3}{1}){4}{2}", "{0}{3}({1}{4}{2})")
        for numbers in set(itertools.permutations(goal.numbers)):
            for (one, two), shape in itertools.product(itertools.product("+-*", repeat=2), shapes):
                text = shape.format(*numbers, one, two)
                assert reaches(text, goal) == (eval(text) == goal.target), (question, text)


@pytest.mark.parametrize(
    "text", ["9*4+0", "9*4*1", "36", "9*", "9**4", "__import__('os')", "9*4" + "+0" * 40, "(" * 50 + "9*4", "4/9*81"]
)
def test_an_expression_that_cheats_does_not_reach_the_target(text: str) -> None:
    family = FAMILIES["target"]
    problem = family.read("target 36 from 4 9")
    assert family.check(problem, "9*4", (), text).answer is WRONG
    assert family.check(problem, "9*4", (), "4*9").answer is RIGHT


def run_independently(program: str, text: str) -> str:
    """The operations of a program, written another way."""
    letters = list(text)
    for op in program:
        if op == "R":
            letters.reverse()
        elif op == "F":
            del letters[:1]
        elif op == "L":
            del letters[-1:]
        elif op == "S" and len(letters) > 1:
            letters[0], letters[1] = letters[1], letters[0]
        elif op == "D" and letters:
            letters.append(letters[-1])
    return "".join(letters)


def test_a_program_is_right_if_it_does_the_same_to_every_text() -> None:
    family, rng = FAMILIES["program"], random.Random(3)
    texts = ["".join(rng.choices("abcdef", k=rng.randint(3, 7))) for _ in range(40)]
    agreed = 0
    for question, problem, reference in made("program", 3, 30):
        for other in map("".join, itertools.product("RFLSD", repeat=2)):
            same = all(run_independently(other, t) == run_independently(reference, t) for t in texts)
            assert (family.check(problem, reference, (), other).answer is RIGHT) == same, (question, other)
            agreed += same and other != reference
    assert agreed > 0  # an equivalent program counts


def test_fitting_the_shown_examples_alone_is_not_enough() -> None:
    family = FAMILIES["program"]
    problem = family.read("program aba>aba, cc>cc")  # reversing fits what is shown
    assert family.check(problem, "RR", (), "R").answer is WRONG
    assert family.check(problem, None, (), "R").answer is RIGHT  # of a proposed problem the examples are all there is


@pytest.mark.parametrize(
    "question",
    ["", "chain", "chain 5", "chain 5 +", "chain 3 -9", "add 1", "solve 2x=5", "solve x=x", "solve 2x+1=2x+3",
     "target 24 from 3", "choose 2 +3: A 5 B 5 C 6", "choose 2 +3: A 6 B 7 C 8", "claim 3 +4",
     "program abc>xyz, cba>zyx", "chain 5 +3\nAnswer: 8", "chain 900 +900"],
)  # fmt: skip
def test_what_is_not_a_well_formed_question_poses_no_problem(question: str) -> None:
    assert all(family.read(question) is None for family in FAMILIES.values())


def test_every_question_belongs_to_one_family() -> None:
    for name, level in CASES:
        for question, _, _ in made(name, level, 20):
            assert [n for n, family in FAMILIES.items() if family.read(question) is not None] == [name]


# --- as a task ---


def test_the_task_shares_nothing_between_splits_nor_with_the_text() -> None:
    task = load_task("underfit:level=1|3", train=150, dev=70, test=70)
    ids = [p.id for split in (task.train, task.dev, task.test) for p in split]
    assert len(set(ids)) == len(ids) == 290
    asked = {p.question for split in (task.train, task.dev, task.test) for p in split}
    assert all(map(is_held_out, asked))
    rng = random.Random(0)
    assert not asked & {draw_case(rng).question for _ in range(3000)}


def test_test_and_dev_stay_when_train_grows() -> None:
    small, large = (load_task("underfit", train=n, dev=21, test=21, seed=4) for n in (7, 140))
    assert (small.test, small.dev) == (large.test, large.dev)
    assert load_task("underfit", train=7, dev=21, test=21, seed=5).test != small.test


def test_verdicts_of_the_task_are_those_of_the_family() -> None:
    task = load_task("underfit", train=35, dev=7, test=7)
    rng, seen = random.Random(1), set()
    for problem in task.train:
        family = FAMILIES[problem.meta["family"]]
        written = family.write(family.read(problem.question), problem.reference, imperfect_writer(rng), rng)
        feedback = task.verify(problem, written.text)
        assert feedback.verdict is check_reply(problem, written.text).answer
        assert task.decide(problem, written.text) == feedback
        assert task.extract(problem, written.text) is not None
        assert split_reply(written.text) == (written.steps, written.answer)
        seen.add(feedback.verdict)
    assert seen == {RIGHT, WRONG}
    assert task.verify(task.train[0], "who knows").verdict is Verdict.UNKNOWN
    assert task.verify(task.train[0], f"{MARK}").verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("underfit:levle=3", "level"),
        ("underfit:level=9", "level"),
        ("underfit:family=chian", "chain"),
        ("underfit:family=", "family"),
    ],
)
def test_a_wrong_specification_is_told_in_one_line(spec: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        load_task(spec, train=7, dev=7, test=7)


def test_a_level_with_too_few_problems_says_so() -> None:
    with pytest.raises(BadInput, match=r"problems, .* were requested"):
        load_task("underfit:family=equation,level=2", train=5000, dev=7, test=7)
