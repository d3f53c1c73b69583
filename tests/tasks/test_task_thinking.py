"""Thinking is no answer."""

from __future__ import annotations

import time

import pytest

from selftaught.tasks.extract import Kind, find_answer
from selftaught.tasks.thinking import without_thinking


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("plain", "plain"),
        ("<think>no</think>yes", "yes"),
        ("no, opened by the template</think>yes", "yes"),
        ("<think>still at it", ""),
        ("<think>one</think>two<think>three", ""),
        ("<THINKING>no</THINKING>yes", "yes"),
        ("[THINK]no[/THINK]yes", "yes"),
        ("<|channel|>analysis<|message|>no<|end|><|start|>assistant<|channel|>final<|message|>yes", "yes"),
        ("a < b and [c]", "a < b and [c]"),
    ],
)
def test_only_what_follows_thinking_is_left(text: str, rest: str) -> None:
    assert without_thinking(text) == rest


def test_an_opening_tag_far_before_the_end_counts() -> None:
    assert find_answer("<think>" + "x" * 100_000 + "\nAnswer: 5", Kind.NUMBER) is None


def test_a_megabyte_of_tags_takes_a_moment() -> None:
    start = time.process_time()
    for unit in ("<think>", "</think>", "<", "<|channel|>analysis", "["):
        without_thinking(unit * (1_000_000 // len(unit)))
    assert time.process_time() - start < 2.0
