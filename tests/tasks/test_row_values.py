"""Fields of rows: plain data from any library, words in any form of content, choices, kinds, and how splits are cut."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact, Math
from selftaught.records import Message, Problem, make_problem
from selftaught.tasks.choices import Choices, choices_of
from selftaught.tasks.extract import Kind, last_boxed
from selftaught.tasks.files import is_file_spec
from selftaught.tasks.kinds import assign_kinds, file_line
from selftaught.tasks.reading import is_choice, last_number, unmarked_answer
from selftaught.tasks.rows import Fields, field_names, final_answer, with_instruction
from selftaught.tasks.source import TaskRequest, choose_verifier
from selftaught.tasks.splits import SourceProblem, split_problems
from selftaught.tasks.values import content_text, kind_name, messages, plain_data

# --- values ---


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int64(3), 3),
        (np.float32(123.45), 123.45),  # the shortest decimal that names it
        (np.array([1, 2]), [1, 2]),
        (Decimal("1.50"), "1.50"),
        (Fraction(1, 3), "1/3"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (math.nan, None),
        (np.nan, None),
        ({1: (2, np.int8(3))}, {"1": [2, 3]}),
        (True, True),
        ("x", "x"),
    ],
)
def test_values_of_any_library_become_plain(value: Any, plain: Any) -> None:
    found = plain_data(value)
    assert found == plain
    assert type(found) is type(plain)


@pytest.mark.parametrize(
    ("value", "name"),
    [({}, "an object"), ([], "a list"), ("", "text"), (True, "true or false"), (None, "null"), (1.5, "a number")],
)
def test_what_a_value_is_has_a_name_for_messages(value: Any, name: str) -> None:
    assert kind_name(value) == name
    assert kind_name(b"") == "a bytes"


def test_content_is_text_in_any_form() -> None:
    parts = [{"type": "text", "text": "one"}, None, {"type": "text", "text": "two"}, "three"]
    assert content_text(parts, "content", "f:1") == "one\ntwo\nthree"
    assert content_text(None, "content", "f:1") == ""
    with pytest.raises(BadInput, match=r"f:1: 'content' holds .*expected text"):
        content_text([{"type": "image_url", "image_url": "x"}], "content", "f:1")


def test_chats_of_other_formats_become_messages() -> None:
    chat = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert messages(chat, "conversations", "f:1") == [Message("user", "q"), Message("assistant", "a")]
    with pytest.raises(BadInput, match="calls tools"):
        messages([{"role": "assistant", "content": "", "tool_calls": [1]}], "messages", "f:1")
    for odd in ([], ["text"], [{"role": "user"}], [{"content": "x"}]):
        with pytest.raises(BadInput, match="'messages' is not a list of messages"):
            messages(odd, "messages", "f:1")


# --- fields ---


def test_fields_are_found_whatever_their_spelling() -> None:
    fields = Fields.of({"Final Answer": "4", "Sub-Task": None}, "f:1")
    assert fields.get("final_answer") == "4"
    assert fields.get("sub_task") is None
    assert fields.named("FINAL-answer") == "final_answer"
    with pytest.raises(BadInput, match="no field 'answer': the fields are Final Answer, Sub-Task"):
        fields.named("answer")


def test_two_fields_of_one_name_must_agree() -> None:
    assert Fields.of({"Answer": "", "answer": "4"}, "f:1").get("answer") == "4"
    assert Fields.of({"Answer": "4", "answer": None}, "f:1").get("answer") == "4"
    with pytest.raises(BadInput, match="'Answer' and 'answer' differ; keep one"):
        Fields.of({"Answer": "5", "answer": "4"}, "f:1").get("answer")


@pytest.mark.parametrize(
    ("text", "worked", "answer", "is_solution"),
    [
        ("6 * 7 = 42\n#### 42", False, "42", True),
        ("so \\boxed{42}", False, "42", True),
        ("6 * 7\nAnswer: 42", False, "42", True),
        ("Well, the answer is 42.", True, "42", True),
        ("Well, the answer is 42.", False, "Well, the answer is 42.", False),
        (" 42 ", False, "42", False),
        (42, True, 42, False),
    ],
)
def test_the_final_answer_of_a_solution(text: Any, worked: bool, answer: Any, is_solution: bool) -> None:
    assert final_answer(text, worked=worked) == (answer, text if is_solution else "")


def test_an_instruction_stands_on_the_last_line_of_the_last_message() -> None:
    prompt = (Message("system", "s"), Message("user", "q"))
    assert with_instruction(prompt, "Be brief.") == (Message("system", "s"), Message("user", "q\nBe brief."))
    assert with_instruction(prompt, "") is prompt


def test_the_fields_of_a_row_are_told_without_our_own() -> None:
    assert field_names({"prompt": "q", "answer": "4", "source": "f", "where": "f:1", "question": "q"}) == [
        "prompt",
        "answer",
    ]
    assert field_names({"question": "q", "where": "f:1"}) == ["question"]


# --- choices ---


def test_an_answer_names_a_choice_by_letter_label_number_or_text() -> None:
    choices = Choices(("red", "green", "blue"))
    assert [choices.place(a) for a in ("B", "(b)", 1, "green", "GREEN.", "B) green")] == [1] * 6
    assert [choices.place(a) for a in ("D", 3, "yellow", "B) red", ["B"], None)] == [None] * 6
    numbered = Choices(("red", "green"), labels=("1", "2"))
    assert (numbered.place(1), numbered.place("2")) == (0, 1)  # by label, not from 0


def test_choices_know_whether_the_question_lists_them() -> None:
    choices = Choices(("red", "green"))
    assert choices.shown_in("Which? A) red B. green")
    assert not choices.shown_in("Is it red or green?")
    assert str(choices) == "(A) red\n(B) green"


@pytest.mark.parametrize(
    "row",
    [
        {"choices": ["red", "green"]},
        {"options": ["A) red", "B) green"]},
        {"choices": {"text": ["red", "green"], "label": ["A", "B"]}},
        {"choices": [{"text": "red", "label": "A"}, {"text": "green", "label": "B"}]},
        {"options": {"A": "red", "B": "green", "C": None}},
    ],
)
def test_choices_are_read_in_every_form(row: dict[str, Any]) -> None:
    found = choices_of(Fields.of(row, "f:1"), "q")
    assert found is not None
    assert found.texts == ("red", "green")


def test_a_right_choice_among_wrong_ones_is_dealt_by_the_question() -> None:
    row = {"Correct Answer": "4", "Incorrect Answer 1": "3", "Incorrect Answer 2": "5", "Incorrect Answer 3": "6"}
    places = set()
    for i in range(20):
        found = choices_of(Fields.of(row, "f:1"), f"question {i}")
        assert found is not None
        assert found.right is not None
        assert (sorted(found.texts), found.texts[found.right]) == (["3", "4", "5", "6"], "4")
        assert choices_of(Fields.of(row, "f:1"), f"question {i}") == found
        places.add(found.right)
    assert places == {0, 1, 2, 3}


def test_what_is_no_list_of_choices_is_refused() -> None:
    for odd in (["only one"], [["a"], ["b"]], "red or green", {"red": {}}):
        with pytest.raises(BadInput, match="not a list of 2 to 26 choices"):
            choices_of(Fields.of({"choices": odd}, "f:1"), "q")
    assert choices_of(Fields.of({"question": "q"}, "f:1"), "q") is None


# --- answers in text ---


def test_the_last_box_counts_with_its_nested_braces() -> None:
    assert last_boxed("\\boxed{1} then \\boxed{\\frac{1}{2}}") == "\\frac{1}{2}"
    assert last_boxed("no box") == ""
    assert last_boxed("\\boxed{cut off") == ""


def test_an_answer_without_a_marker_is_a_last_line_that_is_nothing_else() -> None:
    found = unmarked_answer("I think\n(B)", Kind.CHOICE)
    assert found is not None
    assert found.answer == "B"
    assert unmarked_answer("I think it may be B or C", Kind.CHOICE) is None
    number = last_number("First 3, then 12.")
    assert number is not None
    assert number.answer == "12"
    assert last_number("nothing here") is None


@pytest.mark.parametrize(("text", "choice"), [("B", True), ("yes", True), ("b", False), ("Bob", False), ("12", False)])
def test_a_choice_is_a_capital_letter_or_a_truth(text: str, choice: bool) -> None:
    assert is_choice(text) is choice


# --- kinds and verifiers ---


def problems(*references: Any) -> list[Problem]:
    return [make_problem(f"q{i}", r, {"where": f"f:{i}"}) for i, r in enumerate(references)]


@pytest.mark.parametrize(
    ("references", "kind"),
    [
        (("1", "2.5", "3/4"), Kind.NUMBER),
        (("A", "B", "C"), Kind.CHOICE),
        (("x^2", "\\frac{1}{x}", "3"), Kind.MATH),
        (("Paris", "the Nile"), Kind.TEXT),
        ((), Kind.TEXT),
    ],
)
def test_the_kind_of_a_task_is_that_of_most_references(references: tuple[str, ...], kind: Kind) -> None:
    assert assign_kinds(problems(*references)).kind is kind


def test_references_of_another_kind_are_told_with_the_first_of_them() -> None:
    found = assign_kinds(problems("1", "2", "3", "four apples"))
    assert found.kind is Kind.NUMBER
    assert list(found.own.values()) == [Kind.TEXT]
    assert "'four apples' at f:3" in found.notes[0]
    assert assign_kinds(problems("1", "2", "N/A")).unread == {problems("1", "2", "N/A")[2].id}  # a placeholder


def test_lines_of_files_sort_as_numbers() -> None:
    assert sorted(["b:2", "a:10", "a:9"], key=file_line) == ["a:9", "a:10", "b:2"]


def test_the_verifier_suits_the_kind_or_is_the_one_asked_for() -> None:
    assert isinstance(choose_verifier(None, Kind.TEXT), Exact)
    assert isinstance(choose_verifier("exact", Kind.NUMBER), Exact)
    for wanted, kind in ((None, Kind.NUMBER), (None, Kind.MATH), ("math", Kind.TEXT)):
        made = choose_verifier(wanted, kind)
        assert isinstance(made, Math)
        made.close()
    own = Exact()
    assert choose_verifier(own, Kind.NUMBER) is own


@pytest.mark.parametrize(
    ("wanted", "references", "said"),
    [
        ("exatc", (), "no verifier 'exatc'; did you mean 'exact'"),
        ("rg", (), "scores reasoning-gym tasks only"),
        (None, ([1, 2],), "f:0: the answer is a list"),
    ],
)
def test_a_verifier_that_does_not_suit_is_refused(wanted: str | None, references: tuple[Any, ...], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        choose_verifier(wanted, Kind.TEXT, problems(*references))


# --- splits ---


def pool(count: int, start: int = 0) -> list[SourceProblem]:
    made = [make_problem(f"q{i}", str(i), {"where": f"f:{i}"}) for i in range(start, start + count)]
    return [SourceProblem(p.id, p) for p in made]


def request(train: int, dev: int, test: int, seed: int = 0) -> TaskRequest:
    return TaskRequest(train, dev, test, seed, "")


def test_splits_share_nothing_and_keep_dev_and_test_when_train_grows() -> None:
    small = split_problems({"train": pool(100)}, request(20, 10, 15), what="f")
    large = split_problems({"train": pool(100)}, request(60, 10, 15), what="f")
    assert [len(s) for s in (small.train, small.dev, small.test)] == [20, 10, 15]
    assert (small.dev, small.test) == (large.dev, large.test)
    ids = [p.id for p in (*large.train, *large.dev, *large.test)]
    assert len(set(ids)) == len(ids) == 85


def test_the_order_of_a_file_does_not_matter_but_the_seed_does() -> None:
    one = split_problems({"train": pool(50)}, request(10, 10, 10), what="f")
    assert split_problems({"train": pool(50)[::-1]}, request(10, 10, 10), what="f") == one
    assert split_problems({"train": pool(50)}, request(10, 10, 10, seed=1), what="f").test != one.test


def test_duplicates_are_dropped_and_told_of() -> None:
    twice = [*pool(10), SourceProblem(pool(1)[0].key, make_problem("q0", "another", {"where": "f:99"}))]
    found = split_problems({"train": twice}, request(10, 0, 0), what="f")
    assert len(found.train) == 10
    assert found.notes == ("train: 1 duplicate problem dropped, 1 of them with another answer than the first",)


def refused(pools: dict[str, list[SourceProblem]]) -> Callable[[], Any]:
    return lambda: split_problems(pools, request(4, 4, 4), what="f")


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (refused({"train": []}), "no problems for train"),
        (refused({"train": pool(1) * 3}), "all 3 problems are the same one"),
        (refused({"train": pool(2)}), "too few to split"),
        (refused({"train": pool(9), "test": pool(5, 8)}), "f:8: 1 problem of test also in train, the first at f:8"),
    ],
)
def test_pools_that_cannot_be_cut_are_refused(act: Callable[[], Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        act()


@pytest.mark.parametrize(
    ("spec", "file"), [("a.jsonl", True), ("dir/a", True), ("a.jsonl:test=b.jsonl", True), ("chain_sum", False)]
)
def test_a_file_is_told_from_a_dataset_by_its_name(spec: str, file: bool) -> None:
    assert is_file_spec(spec) is file
