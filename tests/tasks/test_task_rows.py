"""Which field of a row is the question and which the answer, in the forms that published data sets have."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selftaught.errors import BadInput
from selftaught.records import Message, Verdict, make_problem
from selftaught.tasks import Kind, Task, load_task
from selftaught.tasks.rows import FieldNames, problem_of_row
from selftaught.tasks.splits import SourceProblem

ASKED = {"role": "user", "content": "Find 6+1."}
REPLY = {"role": "assistant", "content": "So ... it is $\\boxed{7}$."}
SMALL = {"train": 2, "dev": 1, "test": 1}


def read(row: Any, naming: FieldNames | None = None) -> SourceProblem:
    return problem_of_row(row, "a.jsonl:3", "a.jsonl", "", naming)


def load(tmp_path: Path, rows: list[Any], **sizes: Any) -> Task:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_task(f"{tmp_path}/a.jsonl", **(SMALL | sizes))


@pytest.mark.parametrize(
    ("row", "question", "reference"),
    [
        # NuminaMath-CoT, OpenR1-Math: a transcript beside the problem it was made of
        ({"source": "x", "problem": "Find 6+1.", "solution": "So $\\boxed{7}$.", "messages": [ASKED, REPLY]},
         "Find 6+1.", "7"),
        ({"problem": "Find 6+1.", "solution": "...", "answer": "7", "messages": [ASKED, REPLY]}, "Find 6+1.", "7"),
        # a transcript alone: its last reply is the solution
        ({"messages": [ASKED, REPLY]}, "Find 6+1.", "7"),
        ({"messages": [ASKED, REPLY], "answer": 7}, "Find 6+1.", 7),
        ({"prompt": [ASKED], "completion": [REPLY]}, "Find 6+1.", "7"),
        ({"messages": [ASKED, {"role": "assistant", "content": None}, REPLY]}, "Find 6+1.", "7"),
        # ShareGPT, WildChat
        ({"id": 1, "conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "#### 4"}]},
         "2+2?", "4"),
        ({"conversation": [{"role": "user", "content": "2+2?"}], "answer": "4"}, "2+2?", "4"),
        # TRL, Alpaca, MetaMath, verl
        ({"prompt": "6+1?", "completion": "7"}, "6+1?", "7"),
        ({"instruction": "Add.", "input": "6 and 1", "output": "7"}, "Add.\n6 and 1", "7"),
        ({"instruction": "Add 6 and 1.", "input": "", "output": "7"}, "Add 6 and 1.", "7"),
        ({"query": "6+1?", "response": "Add.\n#### 7\nThe answer is: 7", "type": "GSM_SV"}, "6+1?", "7"),
        ({"query": "1/2?", "response": "Halve it. The answer is: \\frac{1}{2}"}, "1/2?", "\\frac{1}{2}"),
        ({"prompt": [{"role": "user", "content": "6+1?"}], "reward_model": {"style": "rule", "ground_truth": "7"}},
         "6+1?", "7"),
        ({"question": "6+1?", "answer": "Count on from 6: that is 7.", "final_answer": 7}, "6+1?", 7),
        # a null field is none
        ({"prompt": None, "question": "6+1?", "answer": None, "target": "7"}, "6+1?", "7"),
        ({"Question": None, "question": "6+1?", "answer": "7"}, "6+1?", "7"),
    ],
)  # fmt: skip
def test_question_and_answer_of_published_forms(row: Any, question: str, reference: Any) -> None:
    draft = read(row)
    assert draft.problem.question == question
    assert draft.problem.reference == reference
    assert draft.remark == ("", "")


def test_a_chat_keeps_all_that_comes_before_its_last_reply() -> None:
    system = {"role": "system", "content": "Be terse."}
    draft = read({"messages": [system, ASKED, REPLY, {"role": "user", "content": "Sure?"}, REPLY]})
    assert [m.role for m in draft.problem.prompt] == ["system", "user", "assistant", "user"]
    assert draft.problem.question == "Sure?"
    assert draft.problem.meta["solution"] == REPLY["content"]
    asked = read({"messages": [system, ASKED], "problem": "not this"})
    assert asked.problem.prompt == (Message("system", "Be terse."), Message("user", "Find 6+1."))


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("Add one. 6+1=7.\n#### 7\nThe answer is: 7", "7"),
        ("6+1=7\n#### 7", "7"),
        ("6+1=7\n#### 1,234\n", "1,234"),
        ("#### Step 1\n6+1\n#### Final Answer\n\\boxed{7}", "7"),
        ("#### Step 1\n6+1\n#### Answer:\n7", "7"),
        ("So\n#### $\\boxed{7}$", "7"),
        ("6+1 is 7.\nAnswer: 7", "7"),
        ("6+1 is 7.\n**Answer: 7**", "7"),
        ("Ada", "Ada"),
        ("The answer is blowing in the wind", "The answer is blowing in the wind"),
    ],
)
def test_the_final_answer_of_a_solution(text: str, reference: str) -> None:
    draft = read({"question": "q", "answer": text})
    assert draft.problem.reference == reference
    assert draft.problem.meta.get("solution", reference) == (text if reference != text else reference)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "one"}], "one"),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "one\ntwo"),
        ([{"type": "input_text", "text": "one"}, "two"], "one\ntwo"),
        ([{"type": "text", "text": "one", "image": None}, {"type": "text", "text": None}], "one"),
        ({"type": "text", "text": {"value": "one", "annotations": []}}, "one"),
        ({"content_type": "text", "parts": ["one", "two"]}, "one\ntwo"),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "one"}], "one"),
    ],
)
def test_message_contents_in_all_forms(content: Any, words: str) -> None:
    draft = read({"messages": [{"role": "user", "content": content}], "answer": 1})
    assert draft.problem.prompt == (Message("user", words),)


FOUR = ["6", "7", "8", "0"]


@pytest.mark.parametrize(
    ("row", "shown", "letter"),
    [
        ({"choices": FOUR, "answer": 1}, FOUR, "B"),  # MMLU
        ({"choices": FOUR, "answer": 1.0}, FOUR, "B"),
        ({"choices": FOUR, "answer": "B"}, FOUR, "B"),
        ({"choices": ["x", "y"], "answer": "(b)"}, ["x", "y"], "B"),
        ({"choices": ["x", "y"], "answer": "b) y"}, ["x", "y"], "B"),
        ({"choices": ["x", "Y "], "answer": "y"}, ["x", "Y"], "B"),
        ({"choices": ["x", "y"], "answer": "so\n#### B"}, ["x", "y"], "B"),
        ({"choices": ["True", "False"], "answer": False}, ["True", "False"], "B"),
        ({"choices": [6, 7], "answer": "7"}, ["6", "7"], "B"),
        ({"choices": ["x", "y"], "label": 1}, ["x", "y"], "B"),
        ({"choices": ["x", "y"], "answer": None}, ["x", "y"], None),
        ({"options": ["x", "y"], "answer": "B", "answer_index": 1}, ["x", "y"], "B"),  # MMLU-Pro
        ({"options": {"A": "x", "B": "y", "C": None}, "answer": "y", "answer_idx": "B"}, ["x", "y"], "B"),  # MedQA
        ({"options": ["A)21", "B)22"], "rationale": "...", "correct": "B"}, ["21", "22"], "B"),  # AQuA
        ({"choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}, ["x", "y"], "B"),  # ARC
        ({"choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}, ["x", "y"], "B"),
        ({"choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}], "answerKey": "B"}, ["x", "y"], "B"),
    ],
)  # fmt: skip
def test_choices_are_put_behind_the_question_and_the_answer_is_a_letter(
    row: Any, shown: list[str], letter: Any
) -> None:
    problem = read({"question": "Which?", **row}).problem
    lines = [f"({name}) {text}" for name, text in zip("ABCD", shown, strict=False)]
    assert problem.question == "\n".join(["Which?", *lines])
    assert problem.reference == letter


def test_right_and_wrong_answers_in_fields_of_their_own_are_dealt_out() -> None:
    wrong = {f"Incorrect Answer {i}": f"wrong {i}" for i in (1, 2, 3)}
    drafts = [read({"Question": f"Which {i}?", "Correct Answer": "right", **wrong}) for i in range(12)]  # GPQA
    truthful = {"choices": ["right", "wrong 1", "wrong 2"], "labels": [1, 0, 0]}
    drafts += [read({"question": f"Which {i}?", "mc1_targets": truthful}) for i in range(12)]
    for problem in (draft.problem for draft in drafts):
        assert f"({problem.reference}) right" in problem.question
        assert problem.question.count("wrong") == len(problem.question.splitlines()) - 2
    assert len({draft.problem.reference for draft in drafts[:12]}) > 1
    assert read({"question": "Which 0?", "mc1_targets": truthful}).problem == drafts[12].problem


def test_choices_that_the_question_lists_already_are_not_put_there_again() -> None:
    question = "Which?\nA. x\nB. y (z)"
    assert read({"question": question, "choices": ["x", "y (z)"], "answer": "B"}).problem.question == question
    stem = {"stem": "Which?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]}
    assert read({"question": stem, "answerKey": "A"}).problem.question == "Which?\n(A) x\n(B) y"


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        (np.float32(123.45), 123.45),
        (np.float16(0.1), 0.1),
        (np.float64(0.7), 0.7),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(5), 5),
        (np.str_("7"), "7"),
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+3"), "1000"),
        (float("nan"), None),
        (Decimal("nan"), None),
    ],
)
def test_values_of_typed_columns(value: Any, reference: Any) -> None:
    found = read({"question": "q", "answer": value}).problem.reference
    assert found == reference
    assert type(found) in (int, float, bool, str, type(None)) or isinstance(found, str)
    if isinstance(value, (np.generic, np.ndarray)):
        assert read(make_problem("q", value)).problem.reference == reference


def test_arrays_of_messages_are_lists_of_them() -> None:
    prompt = np.array([ASKED], dtype=object)
    assert read({"prompt": prompt, "answer": 7}).problem.prompt == (Message("user", "Find 6+1."),)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"q": "a"}, "no question: the fields are q; name it one of messages, prompt, question, .*conversation, or"
         " give --question-field"),
        ({"question": "a", "Question": "b"}, "the fields 'question' and 'Question' differ; keep one"),
        ({"question": "a", "Answer": "1", "answer": "2"}, "the fields 'Answer' and 'answer' differ"),
        ({"question": ["a", "b"]}, "'question' is not a list of messages"),
        ({"messages": [{"role": "user", "content": None}]}, "the question in 'messages' is empty"),
        ({"messages": [ASKED, {"role": "tool", "content": "x"}]}, "the last of 'messages' is by 'tool'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         "'messages' holds a part of type 'image_url', expected text"),
        ({"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [{}]}]},
         "a message of .messages. calls tools"),
        ({"question": "q", "choices": ["x", "y"], "answer": 2}, "'answer' is 2, not exactly one of the 2 choices"),
        ({"question": "q", "choices": ["x", "y"], "answer": -1}, "'answer' is -1, not exactly one of the 2 choices"),
        ({"question": "q", "choices": [4, 5], "answer": 4}, "'answer' is 4, not exactly one of the 2 choices"),
        ({"question": "q", "choices": ["x", "y"], "answer": "z"}, "'answer' is 'z', not exactly one of the 2 choices"),
        ({"question": "q", "choices": ["x", "x"], "answer": "x"}, "'answer' is 'x', not exactly one of the"),
        ({"question": "q", "choices": ["1", "2", "0"], "answer": "1"}, "'answer' is '1', not exactly one of the"),
        ({"question": "q", "choices": ["B", "A"], "answer": "A"}, "'answer' is 'A', not exactly one of the"),
        ({"question": "q", "choices": ["x", "y"], "answer": ["x", "y"]}, r"'answer' is \['x', 'y'\], not exactly one"),
        ({"question": "q", "choices": "x, y", "answer": "x"}, "'choices' is not a list of 2 to 26 choices"),
        ({"question": "q", "choices": ["x"], "answer": 0}, "'choices' is not a list of 2 to 26 choices"),
        ({"question": "q", "options": [["x"], ["y"]], "answer": 0}, "'options' is not a list of 2 to 26 choices"),
    ],
)  # fmt: skip
def test_what_is_unclear_is_one_line(row: Any, says: str) -> None:
    with pytest.raises(BadInput, match=rf"a\.jsonl:3: {says}") as caught:
        read(row)
    assert "\n" not in str(caught.value)


def test_fields_of_other_names(tmp_path: Path) -> None:
    rows = [{"text": f"What is {i} + 1?", "gold answer": i + 1, "answer": "no"} for i in range(8)]
    with load(tmp_path, rows, question_field="Text", answer_field="gold answer") as task:
        assert task.kind is Kind.NUMBER
        assert task.verify(task.test[0], f"Answer: {task.test[0].reference}").verdict is Verdict.RIGHT
    with pytest.raises(BadInput, match=r"a\.jsonl:1: no field 'gold': the fields are text, gold answer, answer"):
        load(tmp_path, rows, question_field="text", answer_field="gold")
    assert read({"question": "not this", "q": "this"}, FieldNames(question="q")).problem.question == "this"


def test_answers_that_disagree_are_told(tmp_path: Path) -> None:
    rows = [{"problem": f"{i} + 1?", "answer": i + 1, "solution": f"\\boxed{{{i + 1}}}"} for i in range(8)]
    rows[4]["solution"], rows[6]["solution"] = "So $\\boxed{50}$.", "So $\\boxed{70}$."
    rows[5]["solution"] = "$\\boxed{6.0}$"
    with load(tmp_path, rows) as task:
        assert task.notes[-1] == (
            "2 rows: 'answer' and 'solution' give different answers; 'answer' is used"
            f" (first '5' and '50' at {tmp_path}/a.jsonl:5)"
        )
        assert {p.reference for s in ("train", "dev", "test") for p in task.split(s)} <= set(range(1, 9))
    both = read({"question": "q", "choices": ["x", "y"], "answer": "x", "answer_idx": "B"})
    assert both.problem.reference == "A"
    assert "'answer' and 'answer_idx' give different answers" in both.remark[0]


def test_a_missing_answer_names_the_fields_and_the_first_line(tmp_path: Path) -> None:
    rows = [{"question": f"What is {i} + 1?", "result": i + 1} for i in range(8)]
    task = load(tmp_path, rows)
    with pytest.raises(BadInput) as caught:
        task.require(reference=True)
    says = str(caught.value)
    first = min(int(p.meta["where"].rpartition(":")[2]) for s in ("train", "dev", "test") for p in task.split(s))
    assert says.startswith(f"{tmp_path}/a.jsonl:{first}: the problem has no reference, nor have 3 after it: 'What is")
    assert "its fields are question, result; add its answer as one of final_answer, answer, reference" in says
    assert "--answer-field" in says
