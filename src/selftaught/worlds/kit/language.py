"""The language of the kit's worlds: words, requests, tokens and the chat template.

A number with the space before it is one token, and so is an operation with its operand; a value that an operation
directly follows is one token with it, so that a step of a solution is a look-up in a table that a small model can hold.
Steps and the operations of a question are numbered, so that a small model finds what belongs together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from selftaught.worlds.kit.process import END

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PHRASES: Mapping[str, str] = {
    "judge": "judge",
    "verify": "verify",
    "evaluate": "evaluate",
    "locate": "locate",
    "critique": "critique",
    "revise": "revise",
    "choose": "choose",
    "easier": "easier",
    "propose": "propose",
    "rationalize": "hint {answer}",
    "direct": "answer only",
}
"""Role -> wording of the last user message, in place of a method's English."""

WAIT = "wait"
INLINE: Mapping[str, str] = {"reflect": f"{WAIT}\n"}
"""Phrase -> text that is put into a reply, at the start of a line, in place of a new turn."""

RIGHT, WRONG = "right", "wrong"
SOUND, UNSOUND = "+", "-"
NO_MISTAKES = "no mistakes"
NO_STEP = "none"
ANSWER = "Answer:"
NEWLINE = "\n"
STEP = "step"
UNSURE = " ?"
WAYS = ("A", "B", "C")

NUMBERS = 128  # " 0" .. " 127" are tokens
VALUES = 61  # " 0 *4" .. " 60 *4" are tokens
PLACES = 24  # "1) " .. "24) " are tokens
OPERATIONS = "+-*"
OPERANDS = range(2, 10)

_SIGNS = re.escape(OPERATIONS)
_PLACE = r"(?:2[0-4]|1\d|[1-9])"
_NUMBERED = (  # longer ones first; no number may end within a longer one
    rf" (?:60|[1-5]\d|\d) [{_SIGNS}][2-9](?!\d)",
    rf" {_PLACE}[):]",
    rf"(?<![ \d]){_PLACE}\) ",
    rf" \([{_SIGNS}][2-9]\)",
    rf" [{_SIGNS}][2-9](?!\d)",
    r" (?:12[0-7]|1[01]\d|[1-9]\d|\d)(?!\d)",
)
"""Patterns of the tokens that hold numbers: facts, places and counts, asides, operations, numbers."""

UNKNOWN_TOKEN = "<|unknown|>"
TURNS: Mapping[str, str] = {role: f"<|{role}|>" for role in ("user", "assistant", "system")}
TEMPLATE = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}{{ '<|assistant|>' }}"
"""Chat template; an assistant's turn ends where the next one begins, the last one with the end token."""

_WORDS = (
    *("judge", "verify", "evaluate", "locate", "critique", "revise", "choose", "easier", "propose", "hint"),
    *("answer only", "facts", "lines", "again"),
    *(WAIT, RIGHT, WRONG, NO_MISTAKES, NO_STEP, ANSWER, STEP),
    *("paths", "start", " then", "from", " do", " by", " A", " B", " C"),
    *("equation", "target", "program", "list", "run", "test", " ?", " =", " x", " of", " with", " in", " not"),
)


def number(value: int) -> str:
    """The token of a number."""
    return f" {value}"


def place(i: int) -> str:
    """The token that begins step `i`, from 1."""
    return f"{i}) "


def of_place(i: int) -> str:
    """The token that names step `i` elsewhere."""
    return f" {i})"


def count(n: int) -> str:
    """The token that tells how many operations follow."""
    return f" {n}:"


@cache
def vocabulary() -> dict[str, int]:
    """Every token and its id: special tokens, words, numbers, operations, and all characters of printable ASCII."""
    numbers = [number(value) for value in range(NUMBERS)]
    steps = [f" {op}{n}" for op in OPERATIONS for n in OPERANDS]
    asides = [f" ({op}{n})" for op in OPERATIONS for n in OPERANDS]
    characters = [NEWLINE, *map(chr, range(32, 127))]
    places = [name(i) for name in (place, of_place, count) for i in range(1, PLACES + 1)]
    facts = [f"{number(value)} {op}{n}" for op in OPERATIONS for n in OPERANDS for value in range(VALUES)]
    words = [*_WORDS, *numbers, *steps, *asides, *characters, *places, *facts]
    every = dict.fromkeys([END, UNKNOWN_TOKEN, *TURNS.values(), *words])
    return {token: i for i, token in enumerate(every)}


@cache
def _pattern() -> re.Pattern[str]:
    return re.compile(token_pattern())


def token_pattern() -> str:
    """A regular expression that matches one token of text; longer ones first, single characters last."""
    special = {END, UNKNOWN_TOKEN, *TURNS.values()}
    words = {t for t in vocabulary() if len(t) > 1 and t not in special and not any(c.isdigit() for c in t)}
    return "|".join([*_NUMBERED, *map(re.escape, sorted(words, key=lambda word: (-len(word), word))), r"[\s\S]"])


def tokenize(text: str) -> list[str]:
    """The tokens of a text; joined, they are the text."""
    return _pattern().findall(text)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer for models: the same tokens as `tokenize`, with turns, end and unknown as special ones."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = [END, UNKNOWN_TOKEN, *TURNS.values()]
    backend = Tokenizer(models.WordLevel(dict(vocabulary()), unk_token=UNKNOWN_TOKEN))
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(token_pattern()), "isolated")
    backend.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN_TOKEN,
        additional_special_tokens=list(TURNS.values()),
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = TEMPLATE
    return made
