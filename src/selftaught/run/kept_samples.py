"""What the journal keeps of a sample, and what it says of requests without an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selftaught.engines import RequestRefused, Sample, Sampling
from selftaught.engines.base import RequestFailed
from selftaught.errors import BadInput
from selftaught.records import Feedback, Verdict
from selftaught.samples import sample_from_json, sample_to_json
from selftaught.tasks.thinking import thinking_alone

NO_ANSWER: Mapping[str, Any] = {"text": "", "tokens": (), "logprobs": (), "finish": "error"}


def to_payload(sample: Sample, prefix: str) -> dict[str, Any]:
    """What the journal keeps of a sample that continues a prefix."""
    found = sample_to_json(sample)
    alone = thinking_alone(prefix + found["text"], sample.finish_reason)
    return found | ({"thinking_only": True} if alone else {})


def from_payload(payload: Any, policy: str, prompt_tokens: int, key: str, journal: Path) -> Sample:
    """The sample that was kept.

    Raises:
        BadInput: it is none.
    """
    with readable("sample", key, journal):
        return sample_from_json(payload, policy, prompt_tokens)


@contextmanager
def readable(what: str, key: str, journal: Path) -> Iterator[None]:
    """Within, an effect of the journal is read.

    Raises:
        BadInput: it is damaged.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        told = f"a damaged journal, effect {key} is no {what} ({type(error).__name__}: {error})"
        fix = "put a copy of the file back, or use another run folder"
        raise BadInput(told, where=str(journal), fix=fix) from None


def is_failure(payload: Any, sampling: Sampling, *, remote: bool, prefixed: bool) -> bool:
    """Whether a journaled sample is what older versions kept where there was no answer.

    Args:
        remote: whether an endpoint gave it.
        prefixed: whether it continues a text.
    """
    if not isinstance(payload, dict) or payload.get("refused"):
        return isinstance(payload, dict)
    empty = remote and not payload.get("text", " ") and not payload.get("thinking_only")
    return bool(empty and not (sampling.stop or prefixed))


def no_answer(error: RequestRefused, engine: str) -> tuple[Feedback, ...]:
    """The feedback on an attempt whose request was refused or failed."""
    what = "failed" if isinstance(error, RequestFailed) else "refused"
    return (Feedback(Verdict.UNKNOWN, text=f"{what}: {error}", source=engine),)
