"""What an endpoint's statuses mean, and what a request becomes in JSON, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.engines.base import Request, Sampling, truncate_at_stop
from selftaught.engines.openai.protocol import (
    ApiKey,
    PermanentError,
    TransientError,
    UnsupportedField,
    error_from_status,
    max_token_usage,
    request_body,
    same_model,
    server_name,
)
from selftaught.errors import BadInput
from selftaught.records import Message

KEY = ApiKey("sk-secret")
WIDE = "a \u00e9\u6f22\U0001f600"  # characters of one to four bytes
ASK = Request((Message("user", "2 + 2?"),), Sampling(max_tokens=7, stop=("END",)), seed=2**40 + 5)
BODY = request_body("m", ASK, server="", omit=frozenset())


def failure(status: int, text: str = "", headers: dict[str, str] | None = None, **body: Any) -> Any:
    return error_from_status(status, headers or {}, text, key=KEY, body=BODY | body)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 524, 599])
def test_a_status_that_may_pass_is_transient_and_billed_only_after_a_timeout(status: int) -> None:
    found = failure(status)
    assert isinstance(found, TransientError)
    assert str(found) == f"it answered {status}"
    assert found.billed == (status in (408, 504, 524))


@pytest.mark.parametrize(
    ("status", "affects_all", "where", "until_first_answer"),
    [
        (400, False, "OPENAI_BASE_URL", True),
        (413, False, "OPENAI_BASE_URL", True),
        (401, True, "OPENAI_API_KEY", False),
        (403, False, "OPENAI_BASE_URL", False),
        (404, True, "OPENAI_BASE_URL", False),
        (418, True, "OPENAI_BASE_URL", False),
    ],
)
def test_a_permanent_status_names_the_setting_to_check(
    status: int, affects_all: bool, where: str, until_first_answer: bool
) -> None:
    found = failure(status)
    assert isinstance(found, PermanentError)
    assert (found.affects_all, found.where, found.until_first_answer) == (affects_all, where, until_first_answer)


@pytest.mark.parametrize(("status", "text"), [(402, ""), (429, '{"error": {"code": "insufficient_quota"}}')])
def test_an_empty_account_ends_the_run_instead_of_being_retried(status: int, text: str) -> None:
    found = failure(status, text)
    assert isinstance(found, BadInput)
    assert found.fix == "top it up and run again"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "?", "retry-after": "9"}, 9.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_the_time_to_wait_is_finite_and_never_negative(headers: dict[str, str], seconds: float | None) -> None:
    assert failure(429, headers=headers).retry_after == seconds


def test_a_date_is_the_seconds_until_then() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert failure(429, headers={"retry-after": date}).retry_after == pytest.approx(90, abs=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"error": "out of memory"}', "out of memory"),
        ('{"error": {"message": "too long"}}', "too long"),
        ('{"detail": "too long"}', "too long"),
        ('{"message": "too long", "code": 5}', "too long"),
        ('{"detail": [{"loc": ["messages"], "msg": "empty"}]}', '[{"loc": ["messages"], "msg": "empty"}]'),
        ("plain words", "plain words"),
        ("a key sk-secret\n\x1b[2J in it", "a key <key> [2J in it"),
    ],
)  # fmt: skip
def test_an_error_is_shown_in_the_servers_words_on_one_line_without_the_key(text: str, said: str) -> None:
    assert str(failure(400, text)) == f"it answered 400 ({said})"


@pytest.mark.parametrize("text", ["<html>Bad gateway</html>", "", "[]", "3", "null", '{"error": null}', "[" * 100_000])
def test_a_page_or_another_form_of_error_is_the_status_alone(text: str) -> None:
    assert str(failure(503, text)).startswith("it answered 503")
    assert "<" not in str(failure(503, text))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"error": {"message": "no", "param": "seed"}}', "seed"),
        ('{"error": {"message": "Unsupported parameter: logprobs"}}', "logprobs"),
        ('{"error": {"message": "`stop` is wrong"}}', "stop"),
        ('{"detail": [{"loc": ["body", "stop"], "msg": "extra"}]}', "stop"),
        ('{"error": {"message": "top_p is not supported"}}', "top_p"),  # at 1, leaving it out changes nothing
        ('{"error": {"message": "Use \'max_completion_tokens\' instead."}}', "max_tokens"),
    ],
)
def test_a_field_that_may_be_left_out_is_named(text: str, field: str) -> None:
    found = failure(400, text)
    assert isinstance(found, UnsupportedField)
    assert found.args == (field,)


def test_a_sampling_parameter_in_use_is_not_left_out() -> None:
    found = failure(400, '{"error": {"message": "temperature is not supported"}}', temperature=0.5)
    assert isinstance(found, BadInput)
    assert "does not support temperature=0.5" in str(found)
    assert "temperature 1" in found.fix


def test_a_request_is_the_protocols_json() -> None:
    assert BODY == {
        "model": "m",
        "messages": [{"role": "user", "content": "2 + 2?"}],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 7,
        "seed": 5,  # 2**40 + 5 in 31 bits
        "logprobs": True,
        "stop": ["END"],
    }
    assert json.loads(json.dumps(BODY)) == BODY


def test_servers_with_more_options_get_neutral_ones_and_the_requests_own_top_k() -> None:
    ask = Request(ASK.prompt, Sampling(top_k=40), prefix="Step 1:")
    body = request_body("m", ask, server="vllm", omit=frozenset({"seed", "max_tokens", "min_p"}))
    assert (body["top_k"], body["repetition_penalty"], body["max_completion_tokens"]) == (40, 1.0, 256)
    assert not {"seed", "max_tokens", "min_p", "stop"} & body.keys()
    assert body["messages"][-1] == {"role": "assistant", "content": "Step 1:"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert ask.prompt == ASK.prompt  # the prefix did not get into the request


@given(st.text(WIDE, max_size=40), st.text(WIDE, max_size=40))
def test_a_prompt_has_no_more_tokens_than_bytes_and_its_frame(content: str, prefix: str) -> None:
    prompt, completion = max_token_usage(Request((Message("user", content),), Sampling(max_tokens=9), prefix=prefix))
    assert completion == 9
    assert prompt == len(f"user{content}{prefix}".encode()) + 2 * 16 + 64


@pytest.mark.parametrize(
    ("answered", "same"),
    [
        ("gpt-4o", True),
        ("openai/GPT-4o", True),
        ("gpt-4o-2024-08-06", True),
        ("gpt-4o:latest", True),
        ("gpt-4o-mini", False),
        ("gpt-4", False),
        ("gpt-4oo", False),
        ("", False),
    ],
)
def test_a_dated_snapshot_is_the_model_and_a_smaller_one_is_not(answered: str, same: bool) -> None:
    assert same_model("gpt-4o", answered) is same


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"data": [{"id": "m", "owned_by": "vllm"}]}', "vllm"),
        ('{"data": [{"id": "m"}, {"owned_by": "sglang"}]}', "sglang"),
        ('{"data": [{"owned_by": "openai"}]}', ""),
        ('{"data": [{"owned_by": ["vllm"]}]}', ""),
        ('{"data": 3}', ""),
        ("{}", ""),
        ("no JSON", ""),
    ],
)
def test_a_server_is_known_by_its_list_of_models(text: str, name: str) -> None:
    assert server_name(text) == name


@given(st.text(WIDE + "\n\x1b\u202e\u2028", max_size=600))
def test_text_of_an_endpoint_is_shown_short_printable_and_without_the_key(text: str) -> None:
    shown = KEY.redact(f"{text} sk-secret")
    assert "sk-secret" not in shown
    assert len(shown) <= 300
    assert shown.isprintable()


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_a_text_is_cut_before_its_first_stop_string(text: str, stop: list[str]) -> None:
    found = truncate_at_stop(text, stop)
    if found is None:
        assert not any(one in text for one in stop)
    else:
        assert not any(one in found for one in stop)
        assert any(text.startswith(found + one) for one in stop)
