"""What an audit reads: a run's journal, its files, and the task as it is loaded again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from selftaught.errors import BadInput
from selftaught.feedback.userfile import is_userfile
from selftaught.feedback.verdicts import VERIFIER_FAILURES
from selftaught.journal import JournalReader
from selftaught.lineage.folder import RunFolder
from selftaught.packed_numbers import packed_length
from selftaught.records import Attempt, Feedback, Problem, Verdict, as_json, content_hash
from selftaught.run.config import ACCEPTED_KEY, REQUEST_KEY
from selftaught.run.solver import JUDGE_ROLES
from selftaught.samples import sample_from_json
from selftaught.tasks import Task, load_task
from selftaught.tasks.verifier_spec import is_foreign


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
    """A sample: number and key of its effect, its problem, its tokens, and those that were counted."""

    number: int
    key: str
    problem: str
    size: int
    paid: int


class Evidence:
    """A run folder under audit.

    Args:
        folder: of the run.
        reader: of its journal.
        task: what it ran on; None loads it as the command line did.
        trust: run the Python files that the command line named as task or verifier.

    Attributes:
        task: the task, None if it cannot be loaded.
        no_task: why it cannot.
        sampling: id of each attempt -> how it was sampled.
        numbers: id of each attempt -> number of its effect.
    """

    def __init__(self, folder: Path, reader: JournalReader, task: Task | None = None, *, trust: bool = False) -> None:
        self.folder, self.reader, self.facts = folder, reader, RunFolder(folder, reader)
        self.config: Mapping[str, Any] = self.facts.config
        self.sampling: dict[str, Mapping[str, Any]] = {}
        self.numbers: dict[str, int] = {}
        self.task, self.no_task = (task, "") if task is not None else _load(reader, trust)

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
            size = packed_length(payload["tokens"]) or payload.get("num_tokens", 0)
            rows.append(SampleRow(number, key, payload["problem"], size, usage.generated + usage.judge))
            problem = problems.get(payload["problem"])
            if problem is None or payload["role"] in JUDGE_ROLES or "prefix_chars" in payload:
                continue
            self.sampling[key], self.numbers[key] = payload["sampling"], number
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
        return (Feedback(Verdict(kept[0]), kept[1], kept[2]),)

    def plain(self, policy: str, split: str, *, before: float = math.inf, **sampling: Any) -> Answers:
        """The first answers of a policy to a split, sampled as the run samples but for what is given.

        Args:
            before: number of an effect; later answers do not count.
        """
        assert self.task is not None
        how = {k.removeprefix("sampling."): v for k, v in self.config.items() if k.startswith("sampling.")} | sampling
        groups: dict[str, list[Attempt]] = {problem.id: [] for problem in self.task.split(split)}
        for one in self.attempts:
            if one.policy != policy or one.role != "solve" or one.parent is not None or one.problem.id not in groups:
                continue
            was = self.sampling[one.id]
            if self.numbers[one.id] < before and all(was.get(name, value) == value for name, value in how.items()):
                groups[one.problem.id].append(one)
        return groups

    @cached_property
    def trained(self) -> dict[str, int]:
        """Version of each policy -> the tokens that the journal counts for its training."""
        return {payload["policy"]: usage.trained for _, _, payload, usage in self.reader.effects("learn")}

    @cached_property
    def altered(self) -> str:
        """Why figures need not follow from the journal alone; empty if they must."""
        if self.reader.meta(ACCEPTED_KEY):
            return "changes were accepted while the run went on"
        if any(opened.get("left") for _, opened in self.opened):
            return "the method's code was changed in this folder"
        return "episodes with an environment are not recomputed" if self.task and self.task.environment else ""


Answers = dict[str, list[Attempt]]
"""Problem id -> answers, in order of the split."""


def failed(verdict: Sequence[Any]) -> bool:
    """Whether a kept verdict says that the verifier failed, not what it thinks of the answer."""
    return verdict[0] == "unknown" and str(verdict[2]).startswith(VERIFIER_FAILURES)


def _load(reader: JournalReader, trust: bool) -> tuple[Task | None, str]:
    """The task as the command line named it, or why it cannot be loaded."""
    asked = reader.meta_object(REQUEST_KEY)
    if not asked:
        return None, "the run was not started by a command line; call `audit(folder, task=...)` from Python"
    if unknown := asked.keys() - signature(load_task).parameters.keys():
        return None, f"another version wrote how the task was named ({', '.join(sorted(unknown))})"
    code = [str(asked[name]) for name in ("verifier", "shown") if is_foreign(asked.get(name))]
    spec = asked.get("spec")
    code += [str(spec)] if not isinstance(spec, str) or is_userfile(spec) else []
    if code and not trust:
        what = "the task is code or has a verifier at an address"
        return None, f"{what}, {' and '.join(code)}, which is used only if you trust it (--trust)"
    try:
        return load_task(**asked), ""
    except (BadInput, TypeError, ValueError, AttributeError) as e:
        return None, f"the task cannot be loaded: {e}"
