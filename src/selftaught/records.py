"""The records of the loop: plain frozen data.

A `Problem` gets `Attempt`s, which `Feedback` judges. Training consumes the records curated from them (`Record`: `Demo`,
`Pair`, `Ranking`, ...); each names the attempts it came from, so that every training row can be traced back to the
samples and the policy behind it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from statistics import fmean
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from selftaught.samples import Sample, rare_facts


class Message(NamedTuple):
    """One chat message."""

    role: str
    content: str


Prompt = tuple[Message, ...]


class Verdict(StrEnum):
    """What a verifier found. UNKNOWN (timeout, unparseable, verifier failed) is never silently WRONG."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


def _usually(value: Any) -> Any:
    """A field that a record's JSON, and so its hash, leaves out while it has its usual value."""
    return field(default=value, metadata={"usually": value})


@dataclass(frozen=True, slots=True)
class Feedback:
    """A judgment of one attempt.

    Attributes:
        verdict: RIGHT, WRONG or UNKNOWN.
        score: a number in 0..1, if the judge gives one.
        text: the critique, or why the verdict is UNKNOWN.
        source: the verifier (or judging policy) and its version.
        kind: "task" for the task's verifier, whose verdict counts; "shown" for the verifier that a task shows to
            solvers (`Task.shown`); "judge" for a judge, a vote or another opinion.
    """

    verdict: Verdict
    score: float | None = None
    text: str = ""
    source: str = ""
    kind: Literal["task", "shown", "judge"] = _usually("task")


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a task.

    Attributes:
        id: hash of the normalized prompt; problems with the same content have the same id.
        prompt: the chat messages to ask.
        reference: the known answer, or None; only verifiers, and methods that declare
            `needs=("reference",)`, may read it (see `HIDDEN`).
        meta: where it came from (`source`, `where`) and other fields of the dataset.
    """

    id: str
    prompt: Prompt
    reference: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """The text of the last user message."""
        return next((m.content for m in reversed(self.prompt) if m.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One text sampled from a policy, in some role, for some problem.

    Attributes:
        id: content hash of the effect that produced it.
        problem: the problem it belongs to.
        prompt: the chat messages that the policy was asked.
        text: the whole answer, without special tokens; it starts with the prefix, if there is one.
        answer: the final answer in canonical form as the task extracts it, or None.
        sample: what the engine sampled: tokens, log-probabilities, why it ended. Its facts are also read from the
            attempt itself (`token_ids`, `logprobs`, `finish_reason`, `policy`, ...), but for the text, which is the
            sampled part alone.
        role: "solve", "critique", "revise", "judge", ...
        parent: id of the attempt this one builds on, or None.
        feedback: of the task's verifier and of judges, oldest first.
        prefix_tokens: what the answer was made to continue: token ids, and strings inserted between them (see
            `Request.prefix_tokens`).
        prefix_chars: length of the prefix in `text`; what follows was sampled.
    """

    id: str
    problem: Problem
    prompt: Prompt
    text: str
    answer: str | None
    sample: Sample
    role: str = "solve"
    parent: str | None = None
    feedback: tuple[Feedback, ...] = ()
    prefix_tokens: tuple[int | str, ...] = ()
    prefix_chars: int = 0

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Sampled tokens, a sampled end of sequence included; empty where an endpoint does not report them."""
        return self.sample.token_ids

    @property
    def logprobs(self) -> tuple[float, ...]:
        """Natural-log probability of each sampled token at temperature 1; empty where an endpoint reports none."""
        return self.sample.logprobs

    @property
    def mean_logprob(self) -> float:
        """Mean log-probability of the sampled tokens; -inf without any."""
        return fmean(self.logprobs) if self.logprobs else -math.inf

    @property
    def finish_reason(self) -> str:
        """Why it ended: "stop", "length", "error" or "unfinished" (see `Sample.finish_reason`)."""
        return self.sample.finish_reason

    @property
    def policy(self) -> str:
        """Version of the policy that wrote it."""
        return self.sample.policy

    @property
    def num_tokens(self) -> int:
        """Number of sampled tokens."""
        return self.sample.tokens

    @property
    def stop_text(self) -> str:
        """The stop string that ended sampling, which `text` leaves out and `token_ids` include."""
        return self.sample.stop_text

    @property
    def entropies(self) -> tuple[float, ...]:
        """Entropy in nats of each token's distribution at temperature 1, if `top_logprobs` were requested."""
        return self.sample.entropies

    @property
    def self_certainties(self) -> tuple[float, ...]:
        """Divergence in nats of each token's distribution from the uniform one, if `top_logprobs` were requested."""
        return self.sample.self_certainties

    @property
    def top_logprobs(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        """The most probable tokens at each step with their log-probabilities, if requested."""
        return self.sample.top_logprobs

    @property
    def task_feedback(self) -> Feedback | None:
        """The latest feedback of the task's verifier; None if it gave none."""
        return next((one for one in reversed(self.feedback) if one.kind == "task"), None)

    @property
    def verdict(self) -> Verdict:
        """The latest verdict of the task's verifier, whatever judges say; UNKNOWN if it gave none."""
        found = self.task_feedback
        return found.verdict if found else Verdict.UNKNOWN

    @property
    def right(self) -> bool:
        """Whether `verdict` is RIGHT."""
        return self.verdict is Verdict.RIGHT

    @property
    def judgments(self) -> tuple[Feedback, ...]:
        """The feedback of judges, oldest first."""
        return tuple(one for one in self.feedback if one.kind == "judge")

    @property
    def score(self) -> float | None:
        """The mean score, in 0..1, of all judgments by the judge that judged last; None if it gave no score."""
        given = self.judgments
        scores = [one.score for one in given if one.source == given[-1].source and one.score is not None]
        return fmean(scores) if scores else None

    @property
    def truncated(self) -> bool:
        """Whether its text is incomplete: cut off at `max_tokens`, or left unfinished by a search."""
        return self.finish_reason in ("length", "unfinished")

    @property
    def failed(self) -> bool:
        """Whether there is no answer: the engine refused the request, or failed at it."""
        return self.finish_reason == "error"


@dataclass(frozen=True, slots=True)
class Solution:
    """What a solver returns if it finds more than an answer: the attempt, and `data` of plain JSON or records.

    The data is journaled with the attempt; `run.search` returns it.
    """

    attempt: Attempt
    data: Any = None


class Record(Protocol):
    """What an objective learns from; `kind` names its type, in files as in the lineage."""

    kind: ClassVar[str]

    @property
    def prompt(self) -> Prompt:
        """The prompt that it teaches an answer to."""
        ...

    @property
    def attempts(self) -> tuple[str, ...]:
        """Ids of the attempts that it was made from."""
        ...


@dataclass(frozen=True, slots=True)
class Demo:
    """A target to imitate: `weight` scales its loss; a negative weight pushes away.

    `ends` says whether the end of sequence is learned behind the target; False for one that was cut off.

    `masked` are the spans `[start, end)` of characters of the target that bear no loss, such as a tool's output or a
    planted mistake: ascending, not overlapping. A token that holds any of their characters is masked. The model
    still reads them. See `curate.demo_of_pieces`.
    """

    kind: ClassVar[str] = "demo"
    prompt: Prompt
    target: str
    weight: float = 1.0
    attempts: tuple[str, ...] = ()
    ends: bool = _usually(True)
    masked: tuple[tuple[int, int], ...] = _usually(())


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference: `chosen` over `rejected`, with the `label_smoothing` and the `margin` of its loss.

    `ends`: whether both answers are complete, and the end of sequence is learned too; False for steps of an answer.
    """

    kind: ClassVar[str] = "pair"
    prompt: Prompt
    chosen: str
    rejected: str
    weight: float = 1.0
    label_smoothing: float = 0.0
    margin: float = 0.0
    attempts: tuple[str, ...] = ()
    ends: bool = _usually(True)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Several responses with a score each, for listwise preference learning."""

    kind: ClassVar[str] = "ranking"
    prompt: Prompt
    responses: tuple[str, ...]
    scores: tuple[float, ...]
    attempts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """A response labeled good or bad on its own."""

    kind: ClassVar[str] = "label"
    prompt: Prompt
    response: str
    good: bool
    attempts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """Several attempts at one problem, with a reward each, for advantages relative to the group."""

    kind: ClassVar[str] = "rollout_group"
    samples: tuple[Attempt, ...]
    rewards: tuple[float, ...]

    @property
    def prompt(self) -> Prompt:
        """The problem's prompt."""
        return self.samples[0].problem.prompt

    @property
    def attempts(self) -> tuple[str, ...]:
        """Ids of the attempts."""
        return tuple(attempt.id for attempt in self.samples)

    @property
    def all_equal(self) -> bool:
        """Whether all rewards are equal, so that there is nothing to prefer."""
        return len(set(self.rewards)) < 2


@dataclass(frozen=True, slots=True)
class TokenAdvantages:
    """An advantage for each token of one attempt, and the weight of its KL to the reference."""

    kind: ClassVar[str] = "token_advantages"
    attempt: Attempt
    advantages: tuple[float, ...]
    kl_coef: float = 0.0

    @property
    def prompt(self) -> Prompt:
        """The problem's prompt."""
        return self.attempt.problem.prompt

    @property
    def attempts(self) -> tuple[str, ...]:
        """The attempt's id."""
        return (self.attempt.id,)


@dataclass(frozen=True, slots=True)
class ScoredSteps:
    """The steps of a response, whose concatenation is its text, with a score each (0..1 for classification)."""

    kind: ClassVar[str] = "scored_steps"
    prompt: Prompt
    steps: tuple[str, ...]
    scores: tuple[float, ...]
    attempts: tuple[str, ...] = ()


class ReferenceHidden(RuntimeError):
    """A method read a reference that it did not declare it needs."""


class _Hidden:
    """Stands in for a hidden reference: any use of it raises `ReferenceHidden`."""

    __slots__ = ()

    def _raise(self, *_: object, **__: object) -> Any:
        raise ReferenceHidden(
            "this method reads a problem's reference without declaring it: add needs=('reference',) to its decorator"
        )

    __str__ = __format__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __getitem__ = _raise  # pyright: ignore[reportAssignmentType]
    __int__ = __float__ = __contains__ = __add__ = __radd__ = _raise

    def __repr__(self) -> str:
        return "<reference hidden>"


HIDDEN = _Hidden()


_RARE: dict[type, dict[str, Any]] = {
    kind: {f.name: f.metadata["usually"] for f in fields(kind) if "usually" in f.metadata}
    for kind in (Feedback, Demo, Pair)
}
_SAMPLE_FACTS = ("token_ids", "logprobs", "finish_reason", "policy", "num_tokens", "stop_text")
_PLAIN = frozenset({str, int, float, bool, type(None)})


@cache
def _kind_of(kind: type) -> str:
    """The `kind` of a type of records for learning, which is no field; "" for any other type."""
    named = getattr(kind, "kind", "")
    return named if isinstance(named, str) and "kind" not in kind.__dataclass_fields__ else ""


def as_json(record: Any) -> Any:
    """A record as plain JSON data: dataclasses and messages become objects, tuples become lists.

    Records for learning (`Record`) say in `kind` of what type they are.
    """
    kind = type(record)
    if kind in _PLAIN:  # by far the most
        return record
    if kind is tuple or kind is list:
        return [v if type(v) in _PLAIN else as_json(v) for v in record]
    if record is HIDDEN:
        return None
    if isinstance(record, Message):
        return {"role": record.role, "content": record.content}
    if isinstance(record, Attempt):
        return _attempt_row(record)
    if is_dataclass(record) and not isinstance(record, type):
        rare = _RARE.get(kind, {})
        values = ((name, getattr(record, name)) for name in record.__dataclass_fields__)
        row = {name: as_json(v) for name, v in values if not (name in rare and v == rare[name])}
        return {"kind": named, **row} if (named := _kind_of(kind)) else row
    if isinstance(record, Mapping):
        return {str(k): as_json(v) for k, v in record.items()}
    if isinstance(record, (list, tuple)):
        return [as_json(v) for v in record]
    return record


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    """An attempt with the facts of its sample beside its own; those that are rare only where they are not as usual."""
    own = {name: as_json(getattr(attempt, name)) for name in Attempt.__dataclass_fields__ if name != "sample"}
    sample = {name: as_json(getattr(attempt, name)) for name in _SAMPLE_FACTS}
    return own | rare_facts(attempt.sample) | sample


def as_prompt(messages: Any) -> Prompt:
    """A string (one user message) or a sequence of `{"role", "content"}` as a `Prompt`."""
    if isinstance(messages, str):
        return (Message("user", messages),)
    return tuple(m if isinstance(m, Message) else Message(m["role"], m["content"]) for m in messages)


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def content_hash(*parts: Any) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of `parts`: equal content has an equal hash."""
    return hashlib.sha256(_CANONICAL.encode(as_json(parts)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def judged_text_hash(problem: str, text: str) -> str:
    """Hash of what a verdict judges: attempts at a problem (its id) with the same text share it."""
    return content_hash(problem, text)


def make_problem(prompt: Any, reference: Any = None, meta: Mapping[str, Any] | None = None) -> Problem:
    """A `Problem` whose id is the hash of its prompt, ignoring case and white space."""
    messages = as_prompt(prompt)
    normal = [(m.role, " ".join(m.content.split()).casefold()) for m in messages]
    return Problem(content_hash(normal), messages, reference, dict(meta or {}))
