"""Finding answers in realistic, odd and hostile replies."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.tasks.extract import MAX_TEXT, Kind, find_answer, kind_of

REPLIES = {
    Kind.NUMBER: [
        ("60 + 93 = 153.\n\nSo, the answer is 153.", "153"),
        ("**Answer:** 1,234 dollars.", "1234"),
        ("Answer: \\(\\frac{1}{2}\\)", "0.5"),
        ("Answer: 840840", "840840"),
        ("Answer: **42**", "42"),
        ("**Answer: 42**", "42"),
        ("Answer: 42**", "42"),
        ("**Answer**: 42", "42"),
        ("Answer: \u22127", "-7"),
        ("Answer: - 7", "-7"),
        ("The final answer is $\\boxed{12}$. I hope it is correct.", "12"),
        ("She pays <<48+24=72>>72.\n#### 1,072", "1072"),
        ("Answer: 60 + 93 = 153", "153"),
        ("Answer: x = -3.50", "-3.5"),
        ("Answer: 153 (60 + 93)", "153"),
        ("Answer:\n\n42", "42"),
        ("The answer to the question is 12 apples.", "12"),
        ("Answer: 12 apples and 5 oranges", "12applesand5oranges"),
        ("<answer>42</answer> done", "42"),
        ("Answer: $5.50 per hour", "5.5"),
        ("Answer: 50%", "50"),
        ("Answer: 42 \U0001f389", "42"),
        ("Answer: 4 \ufffd", "4"),
        ("Answer: 3 1/2 cups", "3.5"),
        ("Answer: 90^\\circ", "90"),
        ("Answer: 5km", "5"),
        ("Answer: \\text{12 apples}", "12"),
        ("I got 5, then 7.", "7"),
        ("The sum is 1/2.", "0.5"),
        ("10-5", "5"),
        ("The answer is 5.\nIs the answer right? The answer is plausible.", "5"),
        ("Answer: 5\nAnswer: 6", "6"),
        ("First the answer is 5, but \\boxed{6}", "6"),
        ("#### 3\nSo the answer is 4", "4"),
        ("no idea", None),
        ("", None),
        ("Answer:", None),
        ("Answer: ****", None),
        ("Answer: five", None),
        # not numbers: an unfinished sum, a list of guesses, LaTeX that needs mathematics
        ("Answer: 60 + 93", "60+93"),
        ("Answer: 3 or 4", "3or4"),
        ("Answer: 3, 4, 5", "3,4,5"),
        ("Answer: \\sqrt{16}", "\\sqrt{16}"),
        ("Answer: 2^{10}", "1024"),
        ("Answer: 12:30", "12:30"),
        ("Answer: 2x + 3", "2x+3"),
        ("Answer: 3 x 4", "3x4"),
        ("Answer: 2x", "2x"),
    ],
    Kind.CHOICE: [
        ("So the answer is (B).", "B"),
        ("Answer: B", "B"),
        ("Answer: (B) 12/14/2020", "B"),
        ("Answer: B. The dog", "B"),
        ("Answer: Option C", "C"),
        ("Answer: \\boxed{D}", "D"),
        ("**Answer:** Yes, because it is.", "yes"),
        ("The answer is unclear at first. Answer: no.", "no"),
        ("Answer: \\text{True}", "true"),
        ("(B)", "B"),
        ("Yes.", "yes"),
        ("Answer: A dog", None),
        ("I think (A) is likely", None),
    ],
    Kind.MATH: [
        ("so $x=2$. The answer is $\\frac{\\sqrt{3}}{2}$.", "\\frac{\\sqrt{3}}{2}"),
        ("\\boxed{\\frac{1}{2}}", "0.5"),
        ("\\boxed{\\frac{\\sqrt{1}}{2}} is it", "\\frac{\\sqrt{1}}{2}"),
        ("Answer: \\(x^2 + 1\\) because", "x^2+1"),
        ("Answer: 2x + 3.", "2x+3"),
        ("Answer: $5$", "5"),
        ("\\boxed{5", None),
    ],
    Kind.TEXT: [
        ("Answer: barn damp Dot", "barn damp dot"),
        ("The answer is Paris. It is nice.", "paris"),
        ("Answer:\nParis", "paris"),
        ("hello", None),
    ],
    Kind.STRING: [("Answer: B# A#", "B# A#"), ("Answer: one of Mr.", "one of Mr")],
    Kind.BLOCK: [
        ("Answer:\n```\n1 2\n3 4\n```\nDone", "1 2\n3 4"),
        ("**Answer:**\n1 2\n3 4\n", "1 2\n3 4"),
        ("Answer: 1 2\n3 4", "1 2\n3 4"),
    ],
}


@pytest.mark.parametrize(("kind", "text", "expected"), [(k, *row) for k, rows in REPLIES.items() for row in rows])
def test_realistic_replies(kind: Kind, text: str, expected: str | None) -> None:
    found = find_answer(text, kind)
    assert (found.answer if found else None) == expected


def test_what_is_written_is_kept_beside_the_canonical_form() -> None:
    found = find_answer("Answer: $1,234.50", Kind.NUMBER)
    assert found is not None
    assert (found.raw, found.answer) == ("1234.50", "1234.5")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300), st.sampled_from(list(Kind)))
def test_any_text_is_survived(text: str, kind: Kind) -> None:
    find_answer(text, kind)
    find_answer(f"Answer: {text}", kind)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.integers(-(10**9), 10**9))
def test_the_last_marker_wins_whatever_comes_before(before: str, n: int) -> None:
    for marker in (f"\nAnswer: {n}", f"\nThe answer is {n}.", f"\n#### {n}", f"\n\\boxed{{{n}}}"):
        found = find_answer(before + marker, Kind.NUMBER)
        assert found is not None
        assert found.answer == str(n)


HOSTILE = [
    "(",
    "1",
    "1,234,",
    "1/",
    "1 ",
    "1.",
    "1e",
    "-",
    "$",
    "\\(",
    "####",
    "answer",
    "answer is ",
    "answer: \\boxed{",
    "answer:\\frac ",
    "answer: 1, 1 or 1 ",
    "answer\n",
    "answer: =",
    "```",
    "\\boxed{",
    " ",
    "\n",
    "{}",
    "<answer>",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_megabyte_of_anything_takes_a_moment(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    for hostile in (text, f"answer:{text}", f"{text}\nanswer:"):
        for kind in Kind:
            spent = []
            for _ in range(2):  # the better of two: a garbage collection may fall into one
                start = time.process_time()
                find_answer(hostile, kind)
                spent.append(time.process_time() - start)
            assert min(spent) < 0.5


def test_only_the_end_of_a_long_text_is_examined() -> None:
    assert find_answer("Answer: 5" + " " * MAX_TEXT, Kind.NUMBER) is None
    found = find_answer("x" * 10 * MAX_TEXT + "\nAnswer: 5", Kind.NUMBER)
    assert found is not None
    assert found.answer == "5"


@pytest.mark.parametrize(
    ("references", "kind"),
    [
        (["1", "2.5", "-3", None], Kind.NUMBER),
        ([1, 2.0, True], Kind.TEXT),
        ([1.0, 22.0], Kind.NUMBER),
        (["1"] * 99 + ["about 2"], Kind.NUMBER),
        (["(A)", "(B)"], Kind.CHOICE),
        (["True", "False"], Kind.CHOICE),
        ([True, False], Kind.CHOICE),
        (["\\sqrt{2}", "3"] * 3, Kind.MATH),
        (["x^2"], Kind.MATH),
        (["Paris", "Rome"], Kind.TEXT),
        (["1 2\n3 4"], Kind.BLOCK),
        ([], Kind.TEXT),
    ],
)
def test_the_kind_is_told_from_the_references(references: list[object], kind: Kind) -> None:
    assert kind_of(references) is kind


def test_for_strict_tasks_every_reference_counts() -> None:
    assert kind_of(["1"] * 99 + ["ff"], fold=False) is Kind.STRING
    assert kind_of([None], fold=False) is Kind.BLOCK


def test_long_replies_of_any_alphabet_take_a_moment() -> None:
    for text in (
        "Answer: counterrevolutionaries" * 3 + " × 5",
        "答案：" + "小明一共有苹果的数量" * 9 + "＋５",
        "½" + "\n" * 30_000,
        "0" * 30_000 + ".1.1",
        ("answer: a" + " " * 1_900 + "b\n") * 16,
        ("answer: " + "\\(" * 300) * 50,
        ("answer: \\frac{" + " " * 600 + "x\n") * 50,
    ):
        for kind in Kind:
            start = time.process_time()
            find_answer(text, kind)
            assert time.process_time() - start < 0.5, (kind, text[:40])
