"""Counts of requests, and the notes made of them."""

from __future__ import annotations

import pytest

from selftaught.journal.id_set import IdSet
from selftaught.run.counts import RETRY_NOTE, RequestCounts


def counts(returned: str = "", thinking: str = "", **numbers: int) -> RequestCounts:
    """Counts where every failure has its name as its reason; attempts are single letters."""
    found = RequestCounts()
    for what, number in numbers.items():
        found.add(what, number, f"why {what}" if what in ("refused", "failed", "unverified") else "")
    found.returned, found.thinking_only = IdSet(returned), set(thinking)
    return found


def test_nothing_counted_is_nothing_reported() -> None:
    empty = RequestCounts()
    assert empty.notes() == []
    assert empty.no_answer_reason(set()) == ""
    assert empty.to_json() == dict.fromkeys(("answered", "thinking_only", "replaced", "refused", "failed"), 0)


def test_the_first_reason_of_each_kind_is_kept_and_numbers_add_up() -> None:
    found = RequestCounts()
    found.add("failed", 2, "timed out")
    found.add("failed", 1, "connection reset")
    found.add("refused", reason="content filter")
    assert found.to_json()["failed"] == 3
    assert found.notes() == [
        f"1 request was refused (content filter); {RETRY_NOTE}",
        f"3 requests were not answered (timed out); {RETRY_NOTE}",
    ]


def test_verifications_that_failed_are_told_of_all_that_were_made() -> None:
    found = counts(judged=1200, unverified=1000)
    assert found.notes() == ["1,000 of 1,200 verifications failed and count as UNKNOWN (why unverified)"]
    assert "unverified" not in found.to_json()


@pytest.mark.parametrize(
    ("returned", "thinking", "note"),
    [
        ("abc", "a", "1 of 3 answers is thinking alone, without a final answer: raise --max-tokens"),
        ("abc", "ab", "2 of 3 answers are thinking alone, without a final answer: raise --max-tokens"),
        ("a", "a", "1 of 1 answer is thinking alone, without a final answer: raise --max-tokens"),
    ],
)
def test_only_answers_that_were_returned_count_as_thinking_alone(returned: str, thinking: str, note: str) -> None:
    found = counts(returned, thinking + "xyz")  # x, y and z were drafts
    assert found.notes() == [note]
    assert found.to_json()["thinking_only"] == len(thinking)


def test_replaced_characters_and_full_contexts_have_notes_of_their_own() -> None:
    found = counts(replaced=2)
    found.context_full = {"a"}
    assert found.notes() == [
        "2 answers had invalid characters, replaced by U+FFFD",
        "1 answer ended before --max-tokens: the model's context was full",
    ]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (counts(refused=2), "none of 2 requests got an answer (why refused)"),
        (counts(refused=1, failed=1), "none of 2 requests got an answer (why failed)"),  # failed is named first
        (counts(failed=1), "none of 1 request got an answer (why failed)"),
        (counts("a", answered=1, failed=9), ""),
        (counts("ab", "a", answered=2), ""),  # b is an answer
        (
            counts("ab", "ab", answered=2),
            "none of 2 requests got an answer (they are thinking alone, cut off before an answer: raise --max-tokens)",
        ),
        (counts("af", "a", answered=1, failed=1), "none of 2 requests got an answer (why failed)"),
        (counts("f", answered=3, failed=1), ""),  # answered on the way; what failed in the end is told in the notes
    ],
)
def test_a_run_without_any_answer_says_why(found: RequestCounts, reason: str) -> None:
    assert found.no_answer_reason({"f"}) == reason
