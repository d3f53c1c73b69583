"""Tests of samples: what the journal keeps of them, and what reads of an attempt."""

import json
from dataclasses import fields, replace

import pytest

from selftaught.records import (
    Attempt,
    Feedback,
    RolloutGroup,
    TokenAdvantages,
    Verdict,
    as_json,
    content_hash,
    make_problem,
)
from selftaught.samples import Sample, sample_from_json, sample_to_json

PLAIN = Sample("two", (5, 6), (-1.0, -2.0), "length", 4, "p")
RICH = replace(
    PLAIN, top_logprobs=(((5, -0.25), (7, -2.5)), ((6, -1.5),)), entropies=(0.5, 1.25),
    self_certainties=(2.0, 0.75), num_tokens=3, stop_text="END",
    replaced=True,
)  # fmt: skip
ONE = make_problem("what is one plus one")
ATTEMPT = Attempt(
    "a", ONE, ONE.prompt, "two", "two", replace(PLAIN, num_tokens=3, stop_text="END"), prefix_tokens=(1, "x"),
    prefix_chars=2, feedback=(Feedback(Verdict.RIGHT, source="t"),),
)  # fmt: skip


@pytest.mark.parametrize("sample", [PLAIN, RICH, Sample("", finish_reason="error")])
def test_a_sample_comes_back_from_the_journal(sample: Sample) -> None:
    row = json.loads(json.dumps(sample_to_json(sample)))
    assert sample_from_json(row, sample.policy, sample.prompt_tokens) == sample


def test_what_is_as_usual_takes_no_room_in_the_journal() -> None:
    assert set(sample_to_json(PLAIN)) == {"text", "tokens", "finish", "logprobs"}
    rare = {f.name for f in fields(Sample) if f.metadata}
    assert set(sample_to_json(RICH)) == {"text", "tokens", "finish", "logprobs", *rare}


def test_numbers_are_rounded_and_lone_surrogates_replaced() -> None:
    row = sample_to_json(replace(RICH, text="a\ud83d", logprobs=(-0.12345678, -1.0), entropies=(0.123456, 1.0)))
    assert (row["text"], row["replaced"], row["entropies"][0]) == ("a�", True, 0.1235)
    assert sample_from_json(row, "p", 4).logprobs == (-0.123457, -1.0)


def test_a_journal_of_an_older_version_is_read() -> None:
    row = {"text": "two", "tokens": [5], "finish": "stop", "logprobs": [-1.0], "thinking_only": True, "role": "solve"}
    assert sample_from_json(row, "p", 4) == Sample("two", (5,), (-1.0,), "stop", 4, "p")


def test_an_attempt_reads_as_its_sample_does() -> None:
    attempt = replace(ATTEMPT, sample=RICH)
    names = "token_ids logprobs finish_reason policy stop_text entropies top_logprobs self_certainties"
    for name in names.split():
        assert getattr(attempt, name) == getattr(RICH, name)
    assert (attempt.num_tokens, attempt.truncated, attempt.failed) == (3, True, False)


def test_records_made_of_attempts_have_the_hashes_they_had_before_samples_were_part_of_attempts() -> None:
    assert content_hash(RolloutGroup((ATTEMPT,), (1.0,))) == "051cadbb78ec694d"
    assert content_hash(TokenAdvantages(ATTEMPT, (1.0, 2.0))) == "858426d4bbe37867"
    row = as_json(replace(ATTEMPT, sample=replace(RICH, replaced=False)))
    assert row["entropies"] == [0.5, 1.25]
    assert row["top_logprobs"] == [[5, -0.25, 7, -2.5], [6, -1.5]]
