"""What an audit reads: a run's journal, its files, and the task as it is loaded again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from selftaught.errors import BadInput
from selftaught.journal import JournalReader
from selftaught.lineage.folder import RunFolder
from selftaught.records import Attempt, Feedback, Problem, Verdict, as_json, content_hash
from selftaught.run.config import REQUEST_KEY
from selftaught.run.solver import JUDGE_ROLES
from selftaught.run.verdicts import VERIFIER_FAILURES
from selftaught.samples import sample_from_json
from selftaught.tasks import Task, load_task


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        name: of the check.
        holds: None where it could not be made.
        detail: what was compared, or what differs, or why it could not be.
    """

    name: str
    holds: bool | None
    detail: str


class SampleRow(NamedTuple):
    """A sample: number and key of its effect, its problem, its tokens, those counted, and whether they agree."""

    number: int
    key: str
    problem: str
    size: int
    paid: int
    counted: bool


class Evidence:
    """A run folder under audit.

    Args:
        folder: of the run.
        reader: of its journal.
        task: what it ran on; None loads it as the command line did.

    Attributes:
        task: the task, None if it cannot be loaded.
        no_task: why it cannot.
        sampling: id of each attempt -> how it was sampled.
    """

    def __init__(self, folder: Path, reader: JournalReader, task: Task | None = None) -> None:
        self.folder, self.reader, self.facts = folder, reader, RunFolder(folder, reader)
        self.config: Mapping[str, Any] = self.facts.config
        self.sampling: dict[str, Mapping[str, Any]] = {}
        self.task, self.no_task = (task, "") if task is not None else _load(reader)

    @cached_property
    def summary(self) -> Mapping[str, Any] | None:
        """The run's summary; None if it has not ended.

        Raises:
            BadInput: it is no JSON object.
        """
        path = self.folder / "summary.json"
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text("utf-8"))
            if not isinstance(found, dict):
                raise ValueError("no object")
        except (OSError, ValueError, RecursionError) as e:
            raise BadInput(f"it cannot be read: {e}", where=str(path)) from None
        return found

    @cached_property
    def opened(self) -> list[tuple[int, Mapping[str, Any]]]:
        """Each opening of the test split: number of the effect, and what it says."""
        return [(number, payload) for number, _, payload, _ in self.reader.numbered("test")]

    def ids(self, split: str) -> frozenset[str]:
        """Ids of a split's problems."""
        assert self.task is not None
        return frozenset(problem.id for problem in self.task.split(split))

    @cached_property
    def verdicts(self) -> dict[str, Sequence[Any]]:
        """Key of each verdict of the task's -> what the journal keeps of it."""
        return {key: payload for key, _, payload, _ in self.reader.effects("verify")}

    def verdict_key(self, problem: Problem, text: str) -> str:
        """The key of the task's verdict on a text."""
        assert self.task is not None
        return content_hash("verify", self.task.verifier.version, problem.id, as_json(problem.reference), text)

    @cached_property
    def samples(self) -> list[SampleRow]:
        """Each sample of the journal, in order."""
        return self._scanned[0]

    @cached_property
    def attempts(self) -> list[Attempt]:
        """Whole answers to the task's problems, with the journal's verdict, in order; without their tokens.

        Not those that continue a text which the journal does not hold.
        """
        return self._scanned[1]

    @cached_property
    def _scanned(self) -> tuple[list[SampleRow], list[Attempt]]:
        """What is read of the samples, in one go."""
        task = self.task
        problems = {p.id: p for split in ("train", "dev", "test") for p in task.split(split)} if task else {}
        rows: list[SampleRow] = []
        attempts: list[Attempt] = []
        for number, key, payload, usage in self.reader.numbered("sample"):
            size = payload.get("num_tokens") or len(payload["tokens"])
            counted = size == usage.generated + usage.judge or "refused" in payload
            rows.append(SampleRow(number, key, payload["problem"], size, usage.generated + usage.judge, counted))
            problem = problems.get(payload["problem"])
            if problem is None or payload["role"] in JUDGE_ROLES or "prefix_chars" in payload:
                continue
            self.sampling[key] = payload["sampling"]
            attempts.append(self._attempt(key, problem, payload))
        return rows, attempts

    def _attempt(self, key: str, problem: Problem, payload: Mapping[str, Any]) -> Attempt:
        assert self.task is not None
        sample = sample_from_json({**payload, "tokens": (), "logprobs": ()}, payload["policy"], 0)
        return Attempt(
            id=key, problem=problem, prompt=problem.prompt, text=sample.text,
            answer=self.task.extract(problem, sample.text), sample=sample, role=payload["role"],
            parent=payload["parent"], feedback=self._feedback(problem, sample.text),
        )  # fmt: skip

    def _feedback(self, problem: Problem, text: str) -> tuple[Feedback, ...]:
        kept = self.verdicts.get(self.verdict_key(problem, text))
        if kept is None:
            return ()
        return (Feedback(Verdict(kept[0]), kept[1], kept[2], str(kept[4])),)

    def plain(self, policy: str, split: str, **sampling: Any) -> dict[str, list[Attempt]]:
        """Problem id -> first answers of a policy on a split, sampled in a way, in order of the split."""
        assert self.task is not None
        groups: dict[str, list[Attempt]] = {problem.id: [] for problem in self.task.split(split)}
        for one in self.attempts:
            if one.policy != policy or one.role != "solve" or one.parent is not None or one.problem.id not in groups:
                continue
            how = self.sampling[one.id]
            if all(how.get(name) == value for name, value in sampling.items()):
                groups[one.problem.id].append(one)
        return groups


def failed(verdict: Sequence[Any]) -> bool:
    """Whether a kept verdict says that the verifier failed, not what it thinks of the answer."""
    return str(verdict[2]).startswith(VERIFIER_FAILURES)


def _load(reader: JournalReader) -> tuple[Task | None, str]:
    """The task as the command line named it, or why it cannot be loaded."""
    asked = reader.meta_object(REQUEST_KEY)
    if not asked:
        return None, "the run was not started by a command line; call `audit(folder, task=...)` from Python"
    try:
        return load_task(**asked), ""
    except BadInput as e:
        return None, f"the task cannot be loaded: {e}"
