"""Policies with notes in a run: what their models read, which notes are allowed, and where they are published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.journal import Journal
from selftaught.models import ChatTokenizer, Notes, Policy
from selftaught.models.load import read_config
from selftaught.models.policy import publish_notes, require_lasting
from selftaught.records import Message, Problem, Prompt, content_hash, make_problem
from selftaught.remarks import remark
from selftaught.run.checks import SUBJECTS, require_a, require_all
from selftaught.run.guarded import AccessRules
from selftaught.run.solver import Subject, problem_of
from selftaught.tasks import Task

if TYPE_CHECKING:
    from selftaught.run.context import RunContext

MIN_WORDS, MIN_CHARS = 4, 16  # a held-out question shorter than both is looked for in demonstrations only


@dataclass(slots=True)
class NotesReader:
    """Writes out what the model of a policy with notes reads; the one place where notes are applied.

    Notes are admitted at their first use: journaled, and refused where they hold a dev or test problem or leave no
    room for a question.

    Args:
        task: its dev and test problems may not be in notes.
        journal: where notes are kept.
        base: the run's starting model, whose own notes may hold anything, as its weights may.
        access: finds dev and test problems in other words.
    """

    task: Task
    journal: Journal
    base: Policy
    access: AccessRules
    _admitted: set[str] = field(default_factory=set)
    _held_out: HeldOut | None = None

    def __call__(self, policy: Policy, prompt: Prompt) -> tuple[Policy, Prompt]:
        """The policy of the weights, and the messages to sample it with.

        Raises:
            BadInput: see `admit`.
        """
        if policy.notes is None:
            return policy, prompt
        self.admit(policy)
        weights = policy.weights_policy
        return weights, policy.notes.apply(prompt, system_role=_has_system_role(weights))

    def admit(self, policy: Policy, sources: Sequence[Subject] = ()) -> None:
        """Check and journal a policy's notes, once.

        Raises:
            BadInput: a source or a part of them is a dev or test problem, or they do not fit into the model's context.
        """
        if policy.notes is None or (policy.version in self._admitted and not sources):
            return
        self._check_contents(policy, policy.notes, sources)
        _check_size(policy, policy.notes, self.task)
        key, facts = content_hash("notes", policy.version), _facts(policy, sources)
        found = self.journal.get(key)
        if found is None:
            self.journal.put(key, "notes", facts)
        elif sources and found[0] != facts:
            self.journal.replace(key, facts, found[1])
        self._admitted.add(policy.version)

    def _check_contents(self, policy: Policy, notes: Notes, sources: Sequence[Subject]) -> None:
        if self._held_out is None:
            self._held_out = HeldOut((*self.task.dev, *self.task.test))
        found = self._held_out.find(notes, sources) or _repeated(notes, sources, self.access)
        if found and notes == self.base.notes:
            return remark(f"the notes of the starting model hold a dev or test problem: {found!r:.60}")
        if found:
            what = f"notes hold a dev or test problem: {found!r:.60}"
            raise BadInput(what, where=f"notes of policy {policy.version}", fix="make them from task.train only")
        return None


def _repeated(notes: Notes, sources: Sequence[Subject], access: AccessRules) -> str:
    """The text in notes or their sources that repeats a dev or test problem in other words; empty if none."""
    for one in (*notes.demonstrations, *map(problem_of, sources)):
        if access.prompt_repeats(one.prompt):
            return one.prompt[-1].content
    written = (notes.system, *notes.insights, *(one.answer for one in notes.demonstrations))
    return next((text for text in written if text and access.contaminated(text)), "")


def write_notes(context: RunContext, policy: Policy, notes: Notes, sources: Sequence[Subject]) -> Policy:
    """See `Run.write_notes`."""
    require_a(Notes, notes, "run.write_notes", "pass Notes(system=...), with demonstrations or insights")
    require_all(SUBJECTS, sources, "run.write_notes(sources=)")
    if not notes:
        raise BadInput("there is nothing in these notes", where="write_notes", fix="keep the policy as it is")
    require_lasting("write_notes", policy)
    made = policy.with_notes(notes)
    context.notes_reader.admit(made, sources)
    context.round_facts["notes"] = len(notes.demonstrations) + len(notes.insights)
    return published(context, made)


def published(context: RunContext, policy: Policy) -> Policy:
    """The policy; one with notes is published in the run's folder, unless it is published already."""
    if policy.notes is None or policy.path != policy.weights_policy.path:
        return policy
    found = context.journal.get(content_hash("notes", policy.version))
    sources = {name: found[0][name] for name in ("attempts", "problems")} if found else {}
    return publish_notes(policy, context.policies / policy.version, sources)


class HeldOut:
    """Finds dev and test problems in notes.

    Args:
        problems: the dev and test problems.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self._ids: dict[str, str] = {}
        self._questions: dict[str, str] = {}
        for problem in problems:
            self._ids[problem.id] = self._ids[make_problem(problem.prompt).id] = problem.question
            for text in {problem.question, str(problem.meta.get("question", ""))}:
                self._questions[_plain(text)] = text
        long = (q for q in self._questions if len(q) >= MIN_CHARS and len(q.split()) >= MIN_WORDS)
        self._long = tuple(long)

    def find(self, notes: Notes, sources: Iterable[Subject]) -> str:
        """A dev or test question that the notes or their sources hold; empty if there is none."""
        for problem in map(problem_of, sources):
            if found := self._ids.get(problem.id) or self._ids.get(make_problem(problem.prompt).id):
                return found
        for one in notes.demonstrations:
            asked = (_plain(message.content) for message in one.prompt)
            if found := self._ids.get(make_problem(one.prompt).id) or _first(self._questions, asked):
                return found
        text = _plain("\n".join(_texts(notes)))
        return next((self._questions[question] for question in self._long if question in text), "")


def _first(known: dict[str, str], texts: Iterable[str]) -> str:
    return next((known[text] for text in texts if text and text in known), "")


def _texts(notes: Notes) -> list[str]:
    shown = [text for one in notes.demonstrations for text in (*(m.content for m in one.prompt), one.answer)]
    return [notes.system, *notes.insights, *shown]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _facts(policy: Policy, sources: Sequence[Subject]) -> dict[str, Any]:
    """What the journal keeps of notes: the weights, the text, and what it comes from."""
    assert policy.notes
    attempts = [one.id for one in sources if not isinstance(one, Problem)]
    problems = [one.id for one in sources if isinstance(one, Problem)]
    made = {"policy": policy.version, "base": policy.weights_policy.version, "notes": policy.notes.to_json()}
    return {**made, "attempts": list(dict.fromkeys(attempts)), "problems": list(dict.fromkeys(problems))}


def _check_size(policy: Policy, notes: Notes, task: Task) -> None:
    """Refuse notes with which not even the task's shortest problem fits into the model's context.

    The context of a model behind an endpoint is unknown.
    """
    weights = policy.weights_policy
    if weights.remote or not (context := _context_size(weights.weights)):
        return
    problems = [problem.prompt for split in (task.train, task.dev, task.test) for problem in split]
    shortest = min(problems, key=lambda prompt: sum(len(m.content) for m in prompt), default=(Message("user", "?"),))
    tokenizer = _tokenizer(weights.weights)
    size = len(tokenizer.encode_prompt(notes.apply(shortest, system_role=tokenizer.has_system_role)))
    if size >= context:
        own = size - len(tokenizer.encode_prompt(shortest))
        what = f"the notes have {own:,} tokens, and with a question do not fit the model's context of {context:,}"
        raise BadInput(
            what, where=f"notes of policy {policy.version}", fix="give fewer demonstrations, or shorter ones"
        )


def _has_system_role(weights: Policy) -> bool:
    """Whether the model's chat template supports system messages; assumed of one that is not local."""
    return bool(weights.remote) or not _is_model(weights.weights) or _tokenizer(weights.weights).has_system_role


@lru_cache(maxsize=8)
def _tokenizer(folder: Path) -> ChatTokenizer:
    return ChatTokenizer(folder)


@lru_cache(maxsize=64)
def _is_model(folder: Path) -> bool:
    """Whether a folder holds a model; that of a scripted engine need not."""
    return (folder / "config.json").is_file()


@lru_cache(maxsize=64)
def _context_size(folder: Path) -> int:
    """The most tokens that a model reads; 0 if unknown."""
    if not _is_model(folder):
        return 0
    config = read_config(folder)
    inner = config.get("text_config") or {}
    return int(config.get("max_position_embeddings") or inner.get("max_position_embeddings") or 0)
