"""Multiple-choice questions: read the formats of common data sets, and resolve which choice the answer names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.records import content_hash
from selftaught.tasks.extract import reference_text

if TYPE_CHECKING:
    from selftaught.tasks.rows import Fields

CHOICE_KEYS = ("choices", "options", "mc1_targets")
KEY_KEYS = (
    "answer", "answerkey", "answer_key", "answer_idx", "answer_index", "label", "gold", "correct", "correct_answer",
    "correct_option", "reference", "target", "final_answer", "expected_answer", "ground_truth", "solution",
)  # fmt: skip
"""Fields that name the right choice; the first one present is used."""

_WRONG = re.compile(r"(?:incorrect_answer|distractor)_?\d")
_LETTER = re.compile(r"\W*([A-Za-z0-9])\W*")
_LETTERED = re.compile(r"\W*([A-Za-z0-9])\s?[).:]\s*(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of a question.

    Attributes:
        texts: text of each choice.
        labels: the data set's labels; empty if it has none.
        right: index of the right one, if the choices mark it.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    right: int | None = None

    def shown_in(self, question: str) -> bool:
        """Whether the question already lists them with their letters."""
        pairs = zip(ascii_uppercase, self.texts, strict=False)
        return all(re.search(rf"\b{letter}\s?[).:]\s*{re.escape(text)}", question) for letter, text in pairs)

    def __str__(self) -> str:
        return "\n".join(f"({letter}) {text}" for letter, text in zip(ascii_uppercase, self.texts, strict=False))

    def place(self, answer: Any) -> int | None:
        """The index that an answer names by number from 0, label, letter or text; None if unclear."""
        if isinstance(answer, (list, Mapping)):
            return None
        if isinstance(answer, (int, float)) and not isinstance(answer, bool) and not self._numbered:
            return int(answer) if answer in range(len(self.texts)) else None
        said = reference_text(answer).strip()
        found = {*self._by_label(said), *self._by_text(said)}
        if said.isdecimal() and not self._numbered and int(said) < len(self.texts):
            found.add(int(said))
        return found.pop() if len(found) == 1 else None

    @property
    def _numbered(self) -> bool:
        return bool(self.labels) and all(label.isdecimal() for label in self.labels)

    def _by_label(self, said: str) -> list[int]:
        labels = [label.upper() for label in self.labels or ascii_uppercase[: len(self.texts)]]
        if (m := _LETTER.fullmatch(said)) and m[1].upper() in labels:
            return [labels.index(m[1].upper())]
        if (m := _LETTERED.fullmatch(said)) and m[1].upper() in labels:
            place = labels.index(m[1].upper())
            return [place] if _same(self.texts[place], m[2]) else []
        return []

    def _by_text(self, said: str) -> list[int]:
        return [i for i, text in enumerate(self.texts) if _same(text, said)]


def _same(one: str, other: str) -> bool:
    return " ".join(one.split()).casefold().rstrip(".") == " ".join(other.split()).casefold().rstrip(".")


def choices_of(fields: Fields, question: str) -> Choices | None:
    """The choices of a row; None if it has none.

    Accepts a list of texts or of `{"label", "text"}`, `{"text": [...], "label": [...]}` (ARC), `{"A": ...}`, and
    `{"choices": [...], "labels": [0, 1, ...]}` (TruthfulQA). A right answer with wrong ones (`Correct Answer`,
    `Incorrect Answer 1` of GPQA; `distractor1`) is placed among them by the hash of the question.

    Raises:
        BadInput: another format, or fewer than 2 or more than 26 choices.
    """
    name = next((key for key in CHOICE_KEYS if fields.get(key) not in (None, [], {})), None)
    wrong = [fields.get(key) for key in fields.names if _WRONG.fullmatch(key)] or fields.get("incorrect_answers")
    if name is None and wrong and fields.get("correct_answer") is not None:
        texts = [_text(text) for text in [fields.get("correct_answer"), *wrong] if text is not None]
        return _dealt(texts, 0, question)
    if name is None:
        return None
    found = _read(fields.get(name), question)
    if found is None or not 2 <= len(found.texts) <= len(ascii_uppercase):
        raise BadInput(
            f"{fields.names[name]!r} is not a list of 2 to 26 choices",
            where=fields.where,
            fix='write ["...", "..."], or rename it',
        )
    return found


def _read(value: Any, question: str) -> Choices | None:
    if isinstance(value, list) and all(isinstance(v, Mapping) and "text" in v for v in value):
        value = {"text": [v["text"] for v in value], "label": [v.get("label", "") for v in value]}
    if isinstance(value, list):
        return _bare([_text(v) for v in value]) if all(_scalar(v) for v in value) else None
    if not isinstance(value, Mapping):
        return None
    texts, labels = value.get("text", value.get("choices")), value.get("label", value.get("labels"))
    if not isinstance(texts, list):
        good = all(len(key) == 1 and _scalar(text) for key, text in value.items())
        held = {key: text for key, text in value.items() if text is not None}  # tables pad with nulls
        return Choices(tuple(map(_text, held.values())), tuple(held)) if good else None
    if not all(map(_scalar, texts)) or not isinstance(labels, list) or len(labels) != len(texts):
        return None
    texts = [_text(text) for text in texts]
    if "choices" in value:  # of TruthfulQA, with the right one first
        return _dealt(texts, labels.index(1), question) if labels.count(1) == 1 else None
    return Choices(tuple(texts), tuple(_text(label) for label in labels) if all(labels) else ())


def _bare(texts: Sequence[str]) -> Choices:
    """Choices without a leading letter of their own (`A)21`)."""
    pairs = zip(ascii_uppercase, texts, strict=False)
    found = [re.fullmatch(rf"\(?{letter}\s?[).:]\s*(.+)", text, re.DOTALL) for letter, text in pairs]
    return Choices(tuple(m[1] for m in found if m) if found and all(found) else tuple(texts))


def _dealt(texts: Sequence[str], right: int, question: str) -> Choices:
    order = sorted(range(len(texts)), key=lambda i: content_hash(question, texts[i], i))
    return Choices(tuple(texts[i] for i in order), right=order.index(right))


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _text(value: Any) -> str:
    return reference_text(value).strip()
