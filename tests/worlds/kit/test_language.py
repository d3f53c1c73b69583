"""The kit's language: one token a number, and the same tokens for writers and models."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from selftaught.worlds.kit.language import PHRASES, TEMPLATE, make_tokenizer, tokenize, vocabulary

STEP = "1) A 27 *4 11\n"
TEXTS = [
    f"paths 2: 27 1) *4 (+5) 2) +3 by B\n{STEP}wait\nAnswer: 11",
    "1) +2) +3) -\nstep 3) 31 +8 39",
    "A: 1) A 5 +3 8\nAnswer: 8\nB: 1) B 5 +3 9\nAnswer: 9",
    "Is this 277 or 12345? (something else entirely)",
]


def test_a_step_is_five_tokens_and_a_question_two_an_operation() -> None:
    assert tokenize(STEP) == ["1) ", "A", " 27 *4", " 11", "\n"]
    assert tokenize("paths 2: 27 1) *4 2) +3") == ["paths", " 2:", " 27", " 1)", " *4", " 2)", " +3"]


def test_no_number_is_cut_out_of_a_longer_one() -> None:
    assert tokenize(" 277") == [" ", "2", "7", "7"]


@pytest.mark.parametrize("text", [*TEXTS, *PHRASES.values()])
def test_every_text_is_its_tokens(text: str) -> None:
    assert "".join(tokenize(text)) == text
    assert all(token in vocabulary() for token in tokenize(text))


def test_the_models_tokenizer_has_the_same_tokens() -> None:
    made = make_tokenizer()
    for text in TEXTS:
        ids = made.encode(text)
        assert ids == [vocabulary()[token] for token in tokenize(text)]
        assert made.decode(ids) == text
    assert made.chat_template == TEMPLATE


def test_the_tokenizer_does_not_depend_on_the_order_of_sets() -> None:
    code = "from selftaught.worlds.kit.language import token_pattern; print(token_pattern())"
    made = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
        for seed in ("1", "2")
    ]
    assert made[0].returncode == 0
    assert made[0].stdout == made[1].stdout
