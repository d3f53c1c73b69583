"""Rows of a file or data set as problems: which field is the question, which the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selftaught.errors import BadInput
from selftaught.records import Message, Problem, Prompt, make_problem
from selftaught.tasks.extract import boxed
from selftaught.tasks.splits import Draft

QUESTION_KEYS = ("prompt", "question", "input", "problem")
ANSWER_KEYS = ("answer", "reference", "target", "solution")
CONTEXT_KEYS = ("body", "context", "passage", "instruction")


def draft_of(row: Any, where: str, source: str, instruction: str) -> Draft:
    """A row as a problem.

    The question is `messages` (a list of `{"role", "content"}`) or the first of `QUESTION_KEYS`; a text under one
    of `CONTEXT_KEYS` is put before it. The answer is the first of `ANSWER_KEYS`; of a worked solution ending in
    `#### 42` or `\\boxed{42}` the final answer becomes the reference and the whole is kept as
    `meta["solution"]`. Letter case of field names is ignored; the other fields go to `meta`.

    Args:
        row: a mapping, or a `Problem`, which is taken as it is.
        where: `file:line`, for messages.
        source: name of the file or data set.
        instruction: appended to the last user message, on a line of its own.

    Raises:
        BadInput: the row has no question, or it is not text.
    """
    if isinstance(row, Problem):
        prompt, reference, meta = row.prompt, row.reference, dict(row.meta)
    else:
        if not isinstance(row, Mapping):
            raise BadInput(
                f"expected an object, got {_kind(row)}", where=where, fix='write {"question": ..., "answer": ...}'
            )
        keys = {str(k).lower(): k for k in row}
        prompt = _prompt(row, keys, where)
        reference, solution = _reference(row, keys)
        meta = dict(row)
        if solution:
            meta["solution"] = solution
    bare = make_problem(prompt)
    meta |= {"source": source, "where": where, "question": bare.question}
    return Draft(bare.id, make_problem(with_instruction(prompt, instruction), reference, meta))


def with_instruction(prompt: Prompt, instruction: str) -> Prompt:
    """`prompt` with an instruction on a line of its own at the end of its last message."""
    if not instruction:
        return prompt
    return (*prompt[:-1], Message(prompt[-1].role, f"{prompt[-1].content}\n{instruction}"))


def _prompt(row: Mapping[str, Any], keys: dict[str, str], where: str) -> Prompt:
    name = next((k for k in ("messages", *QUESTION_KEYS) if k in keys), None)
    if name is None:
        raise BadInput(
            f"no question: the fields are {', '.join(map(str, row)) or 'none'}",
            where=where,
            fix=f"name it one of messages, {', '.join(QUESTION_KEYS)}",
        )
    value = row[keys[name]]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _messages(value, name, where)
    if not isinstance(value, str):
        raise BadInput(f"{keys[name]!r} is {_kind(value)}, expected text", where=where)
    parts = [row[keys[k]] for k in CONTEXT_KEYS if k in keys and name not in ("messages", "prompt")]
    question = "\n".join(p.strip() for p in [*parts, value] if isinstance(p, str) and p.strip())
    if not question:
        raise BadInput(f"{keys[name]!r} is empty", where=where)
    return (Message("user", question),)


def _messages(value: Sequence[Any], name: str, where: str) -> Prompt:
    good = all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value
    )
    if not value or not good:
        raise BadInput(
            f"{name!r} is not a list of messages", where=where, fix='write [{"role": "user", "content": ...}]'
        )
    if value[-1]["role"] != "user":
        raise BadInput(
            f"the last of {name!r} is by {value[-1]['role']!r}, expected a question by 'user'",
            where=where,
            fix="move the answer to the field 'answer'",
        )
    return tuple(Message(m["role"], m["content"]) for m in value)


def _reference(row: Mapping[str, Any], keys: dict[str, str]) -> tuple[Any, str]:
    """The reference of a row and, where it stood at the end of a worked solution, that solution."""
    name = next((k for k in ANSWER_KEYS if k in keys and row[keys[k]] not in (None, "")), None)
    value = row[keys[name]] if name else None
    if not isinstance(value, str):
        return value, ""
    if "####" in value:
        return value.rsplit("####", 1)[1].strip(), value
    inside = boxed(value)
    if inside:
        return inside, value
    return value.strip(), ""


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}")
