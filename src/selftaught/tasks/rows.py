"""Convert rows of a file or data set to problems: find the fields of question and answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase
from typing import Any

from selftaught.errors import BadInput, suggest
from selftaught.feedback.code import program
from selftaught.records import Message, Problem, Prompt, make_problem
from selftaught.tasks import code
from selftaught.tasks.choices import KEY_KEYS, Choices, choices_of
from selftaught.tasks.extract import Kind, canonical_answer, last_boxed, reference_text
from selftaught.tasks.source import INSTRUCTION
from selftaught.tasks.splits import SourceProblem
from selftaught.tasks.values import content_text, kind_name, messages, plain_data

CHAT_KEYS = ("messages", "conversations", "conversation")
QUESTION_KEYS = ("prompt", "question", "input", "problem", "query", "instruction")
SHORT_KEYS = (
    "final_answer", "answer", "reference", "target", "expected_answer", "correct_answer", "ground_truth",
)  # fmt: skip
WORKED_KEYS = ("solution", "completion", "response", "output")
"""Fields of worked solutions, read if there is no short answer; then a chat's last reply is tried."""
ANSWER_KEYS = (*SHORT_KEYS, *WORKED_KEYS)
CONTEXT_KEYS = ("body", "context", "passage", "instruction")

_LAST_LINE = re.compile(r"\W*(?:the |final |my )*answer(?: is)?\**\s*:\s*(.+?)\**\.?\s*", re.IGNORECASE)
_PROSE = re.compile(r"(?:^|[.!?:,;]\s)[^.!?]{0,40}\banswer is:?\s+(.+?)\.?\s*$", re.IGNORECASE)
_HEADING = re.compile(r"[\W_]*(?:the |final )*answer[\W_]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Fields of question and answer, "" for the usual names; whether a row's tests, if it has some, are its answer."""

    question: str = ""
    answer: str = ""
    tests: bool = True


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a row, by names that ignore letter case, spaces and hyphens.

    Attributes:
        row: the row as given.
        where: `file:line`, for messages.
        names: normalized name -> original name.
        twice: names shared by two fields with different content.
    """

    row: Mapping[str, Any]
    where: str
    names: dict[str, str]
    twice: dict[str, str]

    @classmethod
    def of(cls, row: Mapping[str, Any], where: str) -> Fields:
        """Index the fields of a row."""
        found = cls(row, where, {}, {})
        for name in row:
            key = _key(name)
            first = found.names.setdefault(key, name)
            if first != name and plain_data(row[first]) != plain_data(row[name]):
                if plain_data(row[first]) in (None, ""):
                    found.names[key] = name
                elif plain_data(row[name]) not in (None, ""):
                    found.twice[key] = name
        return found

    def get(self, name: str) -> Any:
        """A field as plain data; None if it is missing or empty.

        Raises:
            BadInput: two fields have that name, and differ.
        """
        if name in self.twice:
            raise BadInput(
                f"the fields {self.names[name]!r} and {self.twice[name]!r} differ", where=self.where, fix="keep one"
            )
        return plain_data(self.row[self.names[name]]) if name in self.names else None

    def shown(self) -> str:
        """The fields' original names, for messages."""
        return ", ".join(map(str, self.row)) or "none"

    def named(self, wanted: str) -> str:
        """The key of the field that a user named.

        Raises:
            BadInput: there is no such field.
        """
        if (key := _key(wanted)) not in self.names:
            raise BadInput(
                f"no field {wanted!r}: the fields are {self.shown()}", where=self.where, fix=suggest(wanted, self.row)
            )
        return key


def problem_of_row(
    row: Any, where: str, source: str, instruction: str, naming: FieldNames | None = None
) -> SourceProblem:
    """A row as a problem.

    The question is a chat (one of `CHAT_KEYS`) or the first of `QUESTION_KEYS`; a text under one of `CONTEXT_KEYS` is
    prepended. A final reply of a chat is removed from the prompt; if there is also a question field, that is the
    question. Choices (see `tasks.choices`) are appended to the question, each with a letter.

    The answer is the first of `ANSWER_KEYS`, or the chat's last reply; with choices it is a letter. For a worked
    solution ending in `#### 42`, `\\boxed{42}` or a line `Answer: 42` the final answer becomes the reference and the
    whole is kept as `meta["solution"]`. Letter case of field names is ignored; other fields go to `meta`.

    Args:
        row: a mapping, or a `Problem`, which is used as is.
        where: `file:line`, for messages.
        source: name of the file or data set.
        instruction: appended to the last user message, on a line of its own.
        naming: fields of question and answer with unusual names.

    Raises:
        BadInput: the row has no question, it is not text, or its answer is not one of its choices.
    """
    remark = ("", "")
    if isinstance(row, Problem):
        prompt, reference, meta = row.prompt, row.reference, dict(row.meta)
        reference = plain_data(reference) if hasattr(reference, "item") else reference  # a NumPy number
    else:
        if not isinstance(row, Mapping):
            raise BadInput(
                f"expected an object, got {kind_name(row)}", where=where, fix='write {"question": ..., "answer": ...}'
            )
        row = _named(row)
        prompt, reference, solution, remark = _read(Fields.of(_flat(row), where), naming or FieldNames())
        meta = dict(row)
        if (tests := _tests(row, where, make_problem(prompt).question, naming)) is not None:
            reference, solution, remark = tests, _solution(row, tests), ("", "")
            if visible := code.visible_tests_of(Fields.of(row, where).get, tests, where):
                meta[code.VISIBLE] = visible
            if calls := tests.get("calls"):
                prompt = with_instruction(prompt, f"The tests call {calls}.")
            instruction = code.INSTRUCTION if instruction == INSTRUCTION else instruction
        if solution:
            meta["solution"] = solution
    bare = make_problem(prompt)
    meta |= {"source": source, "where": where, "question": bare.question}
    return SourceProblem(bare.id, make_problem(with_instruction(prompt, instruction), reference, meta), remark)


def _named(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of MBPP, whose question is its `text`, with a question."""
    asked = any(_key(name) in (*CHAT_KEYS, *QUESTION_KEYS) for name in row)
    return row if asked or not {"text", "test_list"} <= row.keys() else {**row, "question": row["text"]}


def _tests(row: Mapping[str, Any], where: str, question: str, naming: FieldNames | None) -> dict[str, Any] | None:
    """A row's tests, unless its answer is in a field that the user names, or a verifier of the user's judges it."""
    if naming and (naming.answer or not naming.tests):
        return None
    return code.tests_of(Fields.of(row, where).get, question, where)


def _solution(row: Mapping[str, Any], tests: Mapping[str, Any]) -> str:
    """A written solution in code, whole."""
    found = next((str(row[name]) for name in ("canonical_solution", "code", "solution") if row.get(name)), "")
    return program(found, tests) if found else ""


def with_instruction(prompt: Prompt, instruction: str) -> Prompt:
    """`prompt` with an instruction on a line of its own at the end of its last message."""
    if not instruction:
        return prompt
    return (*prompt[:-1], Message(prompt[-1].role, f"{prompt[-1].content}\n{instruction}"))


def field_names(meta: Mapping[str, Any]) -> list[str]:
    """The fields of a problem's row, as far as `meta` records them."""
    names = [name for name in meta if name not in ("source", "where")]
    asked = [name for name in names if _key(name) in (*CHAT_KEYS, *QUESTION_KEYS)]
    return [name for name in names if name != "question" or asked == ["question"]]


@lru_cache(maxsize=4096)
def _key(name: Any) -> str:
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())


def _flat(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with the fields of its question (`{"stem", "choices"}`) or its `reward_model` moved to the top level."""
    question, model = row.get("question"), row.get("reward_model")
    if isinstance(question, Mapping) and "stem" in question:
        row = {**row, **question, "question": question["stem"]}
    if isinstance(model, Mapping) and "ground_truth" in model and "ground_truth" not in row:
        row = {**row, "ground_truth": model["ground_truth"]}
    return row


def _read(fields: Fields, naming: FieldNames) -> tuple[Prompt, Any, str, tuple[str, str]]:
    """Prompt, reference, the solution that the reference was taken from, and a remark with its details."""
    prompt, reply = _question(fields, naming)
    choices = choices_of(fields, prompt[-1].content)
    answers = _answers(fields, naming, reply, KEY_KEYS if choices else ())
    if choices is None:
        reference, solution = next(((value, text) for _, value, text in answers), (None, ""))
        return prompt, reference, solution, _disagreement(answers, fields)
    if not choices.shown_in(prompt[-1].content):
        prompt = with_instruction(prompt, str(choices))
    return prompt, *_chosen(choices, answers, fields)


# --- the question ---


def _question(fields: Fields, naming: FieldNames) -> tuple[Prompt, str]:
    """The prompt, and the final reply of a chat."""
    if naming.question:
        return _prompt(fields, fields.named(naming.question))
    there = [key for key in (*CHAT_KEYS, *QUESTION_KEYS) if fields.get(key) is not None]
    name = next((key for key in there if fields.get(key) != []), there[0] if there else None)
    if name is None:
        raise BadInput(
            f"no question: the fields are {fields.shown()}",
            where=fields.where,
            fix=f"name it one of {', '.join((CHAT_KEYS[0], *QUESTION_KEYS, *CHAT_KEYS[1:]))}, or give --question-field",
        )
    other = next((key for key in there if key in QUESTION_KEYS and _is_text(fields.get(key))), None)
    if name in CHAT_KEYS and other:
        chat = messages(_listed(fields.get(name)), fields.names[name], fields.where)
        if chat[-1].role == "assistant":  # a transcript of the question's prompt
            return _prompt(fields, other)[0], chat[-1].content
    return _prompt(fields, name)


def _prompt(fields: Fields, key: str) -> tuple[Prompt, str]:
    value, name = fields.get(key), fields.names[key]
    if isinstance(value, (list, Mapping)):
        value = _listed(value)
        parts = all(isinstance(v, Mapping) and not ("role" in v or "from" in v) for v in value)
        if key in CHAT_KEYS or not value or not parts:
            return _chat(value, name, fields.where)
        value = content_text(value, name, fields.where)  # parts of one message
    if not isinstance(value, str):
        raise BadInput(f"{name!r} is {kind_name(value)}, expected text", where=fields.where)
    before = [fields.get(k) for k in CONTEXT_KEYS if k != key and key != "prompt"]
    question = "\n".join(p.strip() for p in [*before, value] if isinstance(p, str) and p.strip())
    if not question:
        raise BadInput(f"{name!r} is empty", where=fields.where)
    return (Message("user", question),), ""


def _chat(value: list[Any], name: str, where: str) -> tuple[Prompt, str]:
    chat, reply = messages(value, name, where), ""
    last = chat[-1].role
    while chat and chat[-1].role == "assistant":
        reply = chat.pop().content or reply
    if not chat or chat[-1].role != "user":
        raise BadInput(
            f"the last of {name!r} is by {last!r}, expected a question by 'user'",
            where=where,
            fix="put the question last, or before its answer",
        )
    if not chat[-1].content.strip():
        raise BadInput(f"the question in {name!r} is empty", where=where)
    return tuple(chat), reply


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


# --- the answer ---

Answers = list[tuple[str, Any, str]]
"""Each field with an answer: its name, the answer, and the solution that the answer was taken from."""


def _answers(fields: Fields, naming: FieldNames, reply: str, more: tuple[str, ...]) -> Answers:
    keys = (fields.named(naming.answer),) if naming.answer else tuple(dict.fromkeys((*more, *ANSWER_KEYS)))
    found: Answers = []
    for key in keys:
        if (value := fields.get(key)) in (None, ""):
            continue
        worked = key in WORKED_KEYS
        if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            value = messages(value, fields.names[key], fields.where)[-1].content
            worked = True
        found.append((fields.names[key], *final_answer(value, worked=worked)))
    if reply and not naming.answer:
        found.append(("reply", *final_answer(reply, worked=True)))
    return found


def final_answer(value: Any, *, worked: bool) -> tuple[Any, str]:
    """The answer in a field and, if the field is a worked solution, that solution.

    Args:
        value: plain data; anything but text is the answer itself.
        worked: whether a final sentence "the answer is 42" also counts.
    """
    if not isinstance(value, str):
        return value, ""
    behind = value.rpartition("####")[2] if "####" in value else ""
    lines = [line.strip() for line in behind.splitlines() if line.strip()]
    if len(lines) > 1 and _HEADING.fullmatch(lines[0]):
        del lines[0]
    if lines and not last_boxed(behind):
        return lines[0], value
    if inside := last_boxed(value):
        return inside, value
    last = value.strip().rpartition("\n")[2]
    m = _LAST_LINE.fullmatch(last) or (_PROSE.search(last) if worked else None)
    return (m[1].strip(), value) if m else (value.strip(), "")


def _disagreement(answers: Answers, fields: Fields) -> tuple[str, str]:
    """A remark if a row's fields give different answers, and those answers."""
    for name, value, solution in answers[1:]:
        short = _key(name) in SHORT_KEYS[2:]  # next to a final answer, `answer` is its derivation
        if (solution or short) and not _alike(answers[0][1], value):
            return _taken(answers[0][0], name, answers[0][1], value, fields)
    return "", ""


def _taken(name: str, other: str, value: Any, otherwise: Any, fields: Fields) -> tuple[str, str]:
    return (
        f"{name!r} and {other!r} give different answers; {name!r} is used",
        f"{str(value)[:40]!r} and {str(otherwise)[:40]!r} at {fields.where}",
    )


def _alike(one: Any, other: Any) -> bool:
    plain_ = [
        canonical_answer(reference_text(v).strip().strip("$").rstrip("."), Kind.MATH).casefold() for v in (one, other)
    ]
    return plain_[0] == plain_[1]


def _chosen(choices: Choices, answers: Answers, fields: Fields) -> tuple[Any, str, tuple[str, str]]:
    """The letter of the right choice, the solution that gives it, and a remark."""
    if choices.right is not None:
        return ascii_uppercase[choices.right], "", ("", "")
    if not answers:
        return None, "", ("", "")
    name, value, solution = answers[0]
    place = choices.place(value)
    if place is None:
        raise BadInput(
            f"{name!r} is {value!r:.60}, not exactly one of the {len(choices.texts)} choices",
            where=fields.where,
            fix="write the letter, the number (from 0) or the text of one choice",
        )
    remark = ("", "")
    for other, otherwise, _ in answers[1:]:
        if choices.place(otherwise) not in (None, place):
            remark = _taken(name, other, value, otherwise, fields)
    return ascii_uppercase[place], solution, remark
