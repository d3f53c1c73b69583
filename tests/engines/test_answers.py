"""What an endpoint answers, in all the forms that are met."""

from __future__ import annotations

import json
from typing import Any

import pytest

from selftaught.engines import Request, Sampling
from selftaught.engines.openai.answers import Answer, read_answer
from selftaught.engines.openai.protocol import ApiKey, PermanentError, TransientError
from selftaught.records import as_prompt
from selftaught.tasks.thinking import thinking_alone

THOUGHT = "<think>\nhm\n</think>\n\n4"
BIG = "0" * 400
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


def read(message: dict[str, Any], finish: Any = "stop", *, stop: tuple[str, ...] = (), **choice: Any) -> Answer:
    choices = [{"message": {"role": "assistant", **message}, "finish_reason": finish, **choice}]
    text = json.dumps({"model": "m", "choices": choices, "usage": USAGE})
    return read_answer(text, Request(as_prompt("2 + 2?"), Sampling(stop=stop)), key=ApiKey(""))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "4"}, "4"),
        ({"content": [{"type": "text", "text": "4"}]}, "4"),
        ({"content": [{"type": "output_text", "text": "4", "annotations": []}]}, "4"),
        ({"content": [{"type": "text", "text": {"value": "4"}}]}, "4"),
        ({"content": ["The sum", " is 4"]}, "The sum is 4"),
        ({"content": {"type": "text", "text": "4"}}, "4"),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "4"}]}, "4"),
        ({"content": "4", "reasoning_content": "hm 5"}, "<think>\nhm 5\n</think>\n\n4"),
        ({"content": "4", "reasoning": "hm 5"}, "<think>\nhm 5\n</think>\n\n4"),
        ({"content": "4", "reasoning_content": None, "reasoning": ""}, "4"),
        ({"content": "4", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, THOUGHT),
        ({"content": "<think>hm</think>4", "reasoning_content": "hm"}, "<think>hm</think>4"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "4"]}, THOUGHT),
        ({"content": [{"type": "reasoning", "summary": [{"text": "hm"}]}, "4"]}, THOUGHT),
    ],
)  # fmt: skip
def test_content_in_any_legal_form(message: dict[str, Any], text: str) -> None:
    found = read(message)
    assert (found.text, found.finish_reason) == (text, "stop")


def test_the_text_of_an_older_protocol() -> None:
    text = json.dumps({"model": "m", "choices": [{"text": "4", "finish_reason": "stop"}], "usage": USAGE})
    assert read_answer(text, Request(as_prompt("2 + 2?")), key=ApiKey("")).text == "4"


def test_thinking_that_was_cut_off_has_no_end() -> None:
    found = read({"content": None, "reasoning_content": "maybe Answer: 12"}, "length")
    assert (found.text, found.finish_reason) == ("<think>\nmaybe Answer: 12", "length")
    assert thinking_alone(found.text, found.finish_reason)
    assert thinking_alone(read({"content": None}, "length").text, "length")  # the endpoint keeps it to itself
    assert thinking_alone("<think>hm</think>\n", "stop")
    assert not thinking_alone("<think>hm</think>\n4", "stop")
    assert not thinking_alone("4", "length")


def test_an_answer_that_stands_in_the_thinking_alone_is_said_to_and_not_read() -> None:
    with pytest.raises(PermanentError, match="reasoning_content alone, without content: turn off"):
        read({"content": None, "reasoning_content": "2+2 is 4.\nAnswer: 4"})


def test_stop_strings_are_looked_for_behind_the_thinking() -> None:
    found = read({"content": "4 END 5", "reasoning_content": "the END"}, "length", stop=("END",))
    assert (found.text, found.finish_reason) == ("<think>\nthe END\n</think>\n\n4 ", "stop")
    assert read({"content": ""}, stop=("END",)).text == ""  # it met the stop string at once


@pytest.mark.parametrize("ended", ["eos", "eos_token", "end_turn", "STOP"])
def test_other_names_of_the_end(ended: str) -> None:
    assert read({"content": "4"}, ended).finish_reason == "stop"


def test_halves_of_characters_are_replaced() -> None:
    found = read({"content": "4 \ud83d", "reasoning_content": "\udc00"})
    assert (found.text, found.replaced) == ("<think>\n\ufffd\n</think>\n\n4 \ufffd", True)
    whole = read({"content": "\U0001f600"})
    assert (whole.text, whole.replaced) == ("\U0001f600", False)


def test_a_filter_that_held_everything_back_is_a_refusal() -> None:
    with pytest.raises(PermanentError, match="content filter"):
        read({"content": ""}, "content_filter")
    assert read({"content": "4"}, "content_filter").finish_reason == "length"


@pytest.mark.parametrize(
    "text",
    [
        "{", "null", "[]", '"x"', "{}", '{"choices": 7}', '{"choices": [7]}', '{"choices": [{"message": 7}]}',
        '{"choices": [{"message": {"content": {"a": {"b": []}}}, "finish_reason": "stop"}]}',
        '{"choices": [{"message": {"content": 1e999}, "finish_reason": "stop"}]}',
        '{"choices": [{"message": {"content": "x"}, "finish_reason": 5}]}',
        '{"choices": [{"message": {"content": "x"}, "finish_reason": "stop", "logprobs": {"content": 7}}]}',
        '{"choices": [{"message": {}, "finish_reason": "stop", "logprobs": {"content": [{"logprob": 1' + BIG + "}]}}]}",
        '{"choices": [{"delta": {"content": "x"}}]}', '{"n": ' + "9" * 5000 + "}",
        '{"choices": [{"message": {"content": ' + "[" * 500 + "]" * 500 + '}, "finish_reason": "stop"}]}',
    ],
)  # fmt: skip
def test_what_is_no_answer_is_named_and_never_raises_otherwise(text: str) -> None:
    with pytest.raises((TransientError, PermanentError), match=r"its answer|its log-prob"):
        read_answer(text, Request(as_prompt("2 + 2?")), key=ApiKey(""))
