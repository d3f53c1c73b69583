"""The underfit world's language: replies read back, arithmetic with its slips, programs, equations, abilities."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product

import pytest

from selftaught.measure import Interval
from selftaught.records import Verdict
from selftaught.worlds.underfit.abilities import AbilityScore, as_rows
from selftaught.worlds.underfit.arithmetic import apply, read_line, skill, slips, turned, work
from selftaught.worlds.underfit.curriculum import CURRICULA, conversations, corrupt
from selftaught.worlds.underfit.families import FAMILIES
from selftaught.worlds.underfit.families.base import Checked, Written, exactly, split_reply, verdict
from selftaught.worlds.underfit.families.equation import Line, read_equation
from selftaught.worlds.underfit.families.program import OPS, run_program
from selftaught.worlds.underfit.language import (
    PHRASES,
    family_of,
    parse_critique,
    parse_error_step,
    parse_step_marks,
)
from selftaught.worlds.underfit.text import draw_case, is_held_out

RIGHT, WRONG = Verdict.RIGHT, Verdict.WRONG


# --- replies ---


@pytest.mark.parametrize(("text", "step"), [("step 2", 2), ("step 3: 1+1=2", 3), ("none", None), ("no mistakes", None)])
def test_the_step_pointed_at_is_read(text: str, step: int | None) -> None:
    assert parse_error_step(text) == step


@pytest.mark.parametrize(("text", "marks"), [("++-", [True, True, False]), ("", []), ("+?", None), ("right", None)])
def test_marks_of_steps_are_read(text: str, marks: list[bool] | None) -> None:
    assert parse_step_marks(text) == marks


@pytest.mark.parametrize(
    ("text", "found"), [("step 2: 3+4=7", (2, "3+4=7")), ("no mistakes", None), ("step 2", None), ("step 2: ", None)]
)
def test_a_critique_names_a_step_and_what_should_stand_there(text: str, found: tuple[int, str] | None) -> None:
    assert parse_critique(text) == found


def test_a_reply_is_its_steps_and_its_answer() -> None:
    assert split_reply("1+1=2\n2+2=4\nAnswer: 4\nand more") == (("1+1=2", "2+2=4"), "4")
    assert split_reply("1+1=2") == (("1+1=2",), None)
    written = Written(("1+1=2",), "2")
    assert split_reply(written.text) == (written.steps, written.answer)


def test_the_first_error_is_the_first_step_that_is_not_right() -> None:
    assert Checked((RIGHT, WRONG, WRONG), WRONG).first_error == 2
    assert Checked((RIGHT, Verdict.UNKNOWN), RIGHT).first_error == 2
    assert Checked((RIGHT,), WRONG).first_error is None
    assert (verdict(True), verdict(False)) == (RIGHT, WRONG)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_question_belongs_to_its_family_alone(name: str) -> None:
    rng = random.Random(name)
    for level in (1, 3, 5):
        question, _ = FAMILIES[name].question(level, rng)
        assert family_of(question) == name
    assert family_of("What is 2 + 2?") is None


# --- arithmetic ---


def test_the_commonest_slip_is_wrong() -> None:
    for a, op, b in product(range(0, 40), "+-*", range(0, 40)):
        if op != "-" or a >= b:
            right = apply(a, op, b)
            found = slips(a, op, b)
            assert len(found) == 3
            assert found[0] != str(right)
            assert all(text.isdigit() for text in found)


@pytest.mark.parametrize(
    ("a", "op", "b", "how"),
    [
        (21, "+", 34, "plain"),
        (27, "+", 38, "carry"),
        (38, "+", 27, "heavy"),
        (38, "-", 24, "plain"),
        (31, "-", 28, "heavy"),
    ],
)
def test_how_hard_a_step_is_depends_on_its_digits(a: int, op: str, b: int, how: str) -> None:
    assert skill(a, op, b) == how


def test_a_writer_without_mistakes_writes_the_truth() -> None:
    assert work(27, "+", 38, exactly) == 65
    assert work(27, "+", 38, lambda skill, right, slips: slips[0]) == 55  # the carry is dropped
    assert turned(3, "-", 2, lambda *_: "turned") == (3, 2)  # differences keep their order
    assert turned(3, "+", 2, lambda *_: "turned") == (2, 3)


@pytest.mark.parametrize(
    ("line", "found"), [("27+38=65", (27, "+", 38, 65)), ("27+38", None), ("27/3=9", None), ("a+b=c", None)]
)
def test_a_line_of_arithmetic_is_read(line: str, found: tuple[int, str, int, int] | None) -> None:
    assert read_line(line) == found


# --- families ---


@pytest.mark.parametrize(
    ("text", "line", "root"),
    [
        ("5x+3=2x+15", (5, 3, 2, 15), Fraction(4)),
        ("x-4=2", (1, -4, 0, 2), Fraction(6)),
        ("7=2x", (0, 7, 2, 0), Fraction(7, 2)),
        ("x=x", (1, 0, 1, 0), None),  # every number solves it
    ],
)
def test_an_equation_is_read_and_solved(text: str, line: tuple[int, ...], root: Fraction | None) -> None:
    found = read_equation(text)
    assert found == Line(*line)
    assert found.root == root
    assert str(found) == text


@pytest.mark.parametrize("text", ["5x+3", "5y=3", "=3", "5x+=3", "x2=3"])
def test_what_is_no_equation_is_refused(text: str) -> None:
    assert read_equation(text) is None


def test_a_program_is_run_letter_by_letter() -> None:
    assert run_program("", "abc") == "abc"
    assert run_program("D", "abc") == "abcc"
    assert run_program("S", "abc") == "bac"
    assert run_program("SS", "abc") == "abc"
    for one, other in product(OPS, repeat=2):
        assert run_program(one + other, "abcd") == run_program(other, run_program(one, "abcd"))


# --- text ---


def test_conversations_are_seeded_and_hold_no_reserved_question() -> None:
    for curriculum in CURRICULA:
        one, other = conversations(0, curriculum), conversations(0, curriculum)
        found = [next(one) for _ in range(40)]
        assert found == [next(other) for _ in range(40)]
        assert [m.role for m in found[0]][-1] == "assistant"
        assert not any(is_held_out(prompt[0].content) for prompt in found)
        asked = {prompt[-2].content for prompt in found}
        assert asked & set(PHRASES.values())


def test_a_corrupted_draft_differs_in_one_character_of_one_step() -> None:
    rng = random.Random(3)
    for _ in range(30):
        case = draw_case(rng)
        other = corrupt(case, rng)
        before, after = "\n".join(case.draft.steps), "\n".join(other.draft.steps)
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
        assert other.draft.answer == case.draft.answer


# --- abilities ---


def test_a_table_of_abilities_is_plain_data() -> None:
    score = AbilityScore("right", 1 / 3, Interval(0.123456, 0.654321), 10)
    assert as_rows([score]) == [{"what": "right", "value": 0.3333, "ci95": [0.1235, 0.6543], "n": 10}]
