"""`Task`: problems in train, dev and test, with answer extraction and verification."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from selftaught.errors import BadInput
from selftaught.feedback.canonical import RULES_VERSION
from selftaught.feedback.verifiers import ExtractedAnswer, Verifier, unknown_verdict
from selftaught.records import (
    HIDDEN,
    Feedback,
    Message,
    Problem,
    Prompt,
    Verdict,
    as_prompt,
    content_hash,
    make_problem,
)
from selftaught.tasks.annotator import Annotator, check_annotator
from selftaught.tasks.environment import AnyEnvironment, EpisodeVerifier, check_environment
from selftaught.tasks.extract import Found, Kind, canonical_answer, find_answer, reference_text
from selftaught.tasks.kinds import file_line
from selftaught.tasks.rows import ANSWER_KEYS, field_names, with_instruction
from selftaught.tasks.steps import LINES, StepFormat

T = TypeVar("T")
SPLITS = ("train", "dev", "test")
_PARTS = (
    "verifier", "kind", "instruction", "notes", "phrases", "inline", "steps", "environment", "shown", "annotator",
)  # fmt: skip
_SHOWN_WHEN_HIDDEN = ("source", "where", "question", "difficulty", "shown")


class Task:
    """Problems, an instruction and a verifier. Immutable; `verify` may be called from any thread.

    Args:
        name: canonical specification, e.g. "chain_sum:max_digits=2,max_terms=2".
        train: problems to train on.
        dev: problems for choosing the champion.
        test: held-out problems, used once, at the end.
        verifier: judges answers; closed by `close`. With an environment and no verifier, rewards decide.
        kind: how answers are parsed (see `selftaught.tasks.extract`).
        instruction: text appended to every question.
        notes: one-line remarks for the user, e.g. how many duplicates were dropped.
        phrases: role -> wording for the task's own model, in place of a method's English; see `turn`.
        inline: phrase -> what the task's own model writes into an answer between its steps ("reflect": "wait\\n"), in
            place of a method's English; see `Ask.inject`.
        steps: step format of answers.
        kinds: problem id -> kind, for problems whose kind is not the task's.
        shown: a second verifier, which solvers may consult on any split (`Ask.verify_shown`): visible unit tests, a
            judge of known accuracy, an oracle to stop by. It decides nothing: `verifier` measures, and stays closed.
        environment: answers back, see `tasks.environment`; by default the policy then plays it (`refine.play`).
        annotator: writes right critiques, revisions and solutions, for methods that learn from an expert
            (`run.annotate`).

    Raises:
        BadInput: there is neither a verifier nor an environment, or the environment or the annotator is none.
    """

    def __init__(
        self,
        name: str,
        train: Iterable[Problem],
        dev: Iterable[Problem],
        test: Iterable[Problem],
        *,
        verifier: Verifier | None = None,
        kind: Kind,
        instruction: str = "",
        notes: Iterable[str] = (),
        phrases: Mapping[str, str] | None = None,
        inline: Mapping[str, str] | None = None,
        steps: StepFormat = LINES,
        kinds: Mapping[str, Kind] | None = None,
        environment: AnyEnvironment | None = None,
        shown: Verifier | None = None,
        annotator: Annotator | None = None,
    ) -> None:
        if environment is not None:
            check_environment(environment, name)
            verifier = verifier or EpisodeVerifier(environment)
        if verifier is None:
            raise BadInput("nothing judges its answers", where=name, fix="give it a verifier or an environment")
        if annotator is not None:
            check_annotator(annotator, name)
        self.name, self.environment, self.shown, self.annotator = name, environment, shown, annotator
        self.train, self.dev, self.test = tuple(train), tuple(dev), tuple(test)
        self.verifier, self.kind, self.instruction, self.notes = verifier, Kind(kind), instruction, tuple(notes)
        self.phrases: Mapping[str, str] = dict(phrases or {})
        self.inline: Mapping[str, str] = dict(inline or {})
        self.steps = steps
        self._kinds: Mapping[str, Kind] = dict(kinds or {})
        self._known: Mapping[str, Problem] = {p.id: p for split in SPLITS for p in self.split(split)}
        splits = {split: [(p.id, p.reference) for p in self.split(split)] for split in SPLITS}
        self.fingerprint = content_hash(
            splits,
            verifier.version,
            instruction,
            str(self.kind),
            RULES_VERSION,
            self.phrases,
            *([self._kinds] if self._kinds else []),
            *([["inline", self.inline]] if self.inline else []),
            *([environment.version, environment.max_turns] if environment else []),
            *([["shown", shown.version]] if shown else []),
            *([["annotator", annotator.version]] if annotator else []),
        )

    def split(self, name: str) -> tuple[Problem, ...]:
        """The problems of "train", "dev" or "test"."""
        return getattr(self, name)

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Problem id -> kind, for problems whose kind is not the task's."""
        return self._kinds

    def find_problem(self, id: str) -> Problem:
        """The task's problem of an id.

        Raises:
            KeyError: it has none.
        """
        return self._known[id]

    def holds(self, problem: Problem) -> bool:
        """Whether a problem is of one of the splits."""
        return problem.id in self._known

    def known(self, problem: Problem) -> Problem:
        """The task's own copy of a problem; the given one if it has none."""
        return self._known.get(problem.id, problem)

    def find(self, text: str, problem: Problem | None = None) -> Found | None:
        """The final answer in a reply, as written and in canonical form, parsed by the kind of `problem`."""
        return find_answer(text, self._kind(problem))

    def _kind(self, problem: Problem | None) -> Kind:
        return self._kinds.get(problem.id, self.kind) if problem else self.kind

    def extract(self, problem: Problem, text: str) -> str | None:
        """The final answer in `text` in canonical form, for voting and display; None if there is none.

        Fast, in process; does not use the reference.
        """
        found = self.find(text, problem)
        return found.answer if found else None

    def verify(self, problem: Problem, text: str) -> Feedback:
        """Judge a reply. Blocks until the verifier is done; thread-safe; never raises because of the reply.

        The true reference is looked up by `problem.id`, so that a problem of a `hidden` task can be verified.
        """
        return self._judged(self.verifier.judge, problem, text)

    def decide(self, problem: Problem, text: str) -> Feedback | None:
        """Same as `verify`, immediately and in process; None if that is impossible and `verify` must be called."""
        decide = getattr(self.verifier, "decide", None)
        return self._judged(decide, problem, text) if decide else None

    def verify_shown(self, problem: Problem, text: str) -> Feedback:
        """Judge a reply by the verifier that solvers may consult; see `verify`. Its kind is "shown".

        Raises:
            BadInput: the task has none.
        """
        if self.shown is None:
            fix = "give the task one (Task(shown=...), load_task(shown=...))"
            raise BadInput("the task shows no verdicts", where=self.name, fix=fix)
        return dataclasses.replace(self._judged(self.shown.judge, problem, text, self.shown.version), kind="shown")

    def step_verdicts(self, problem: Problem, text: str) -> tuple[Verdict, ...] | None:
        """A verdict on each step of a reply, given the steps before it; None if the verifier cannot judge steps.

        Exact if the verifier has `steps(problem, text)`: immediate, in process, and also for a `hidden` task.
        """
        judge = getattr(self.verifier, "steps", None)
        true = self._known.get(problem.id, problem)
        return judge(true, text) if judge and true.reference is not HIDDEN else None

    def _judged(
        self, judge: Callable[[Problem, ExtractedAnswer, str | None], T], problem: Problem, text: str, by: str = ""
    ) -> T | Feedback:
        true = self._known.get(problem.id, problem)
        by = by or self.verifier.version
        try:
            if true.reference is HIDDEN:
                return unknown_verdict("the problem does not belong to this task", by)
            found = self.find(text, problem)
            answer = ExtractedAnswer(text, *found) if found else ExtractedAnswer(text, None, None)
            given = judge(true, answer, self._canonical_reference(true))
        except Exception as e:
            return unknown_verdict(f"verifier raised: {type(e).__name__}: {e}"[:500], by)
        if given is None or isinstance(given, Feedback):
            return given
        return unknown_verdict(f"verifier returned a {type(given).__name__}, expected a Feedback", by)

    def _canonical_reference(self, problem: Problem) -> str | None:
        if not isinstance(problem.reference, (str, int, float)):
            return None
        return canonical_answer(reference_text(problem.reference), self._kind(problem))

    def turn(self, history: Prompt, role: str, text: str, **parts: Any) -> Prompt:
        """Extend a conversation by a request, worded for the task's model.

        Args:
            history: the messages so far.
            role: role of the requested reply ("critique", "revise", ...).
            text: the request in English. Named parts are filled in at `{part}`; `{question}` is the message before.
            parts: values to fill in; parts that the wording does not name are ignored.

        Returns:
            The history and the request: a new message, or a replacement of the user's last message if the text
            contains `{question}`. A task with its own wording (`phrases`) always adds a message.
        """
        own = self.phrases.get(role)
        if own is None and "{question}" in text:
            return (*history[:-1], Message("user", text.format(question=history[-1].content, **parts)))
        return (*history, Message("user", (text if own is None else own).format(**parts)))

    def tested_on(self, other: Task) -> Task:
        """The same task with the test problems of another, except those in its own train or dev.

        Both tasks must parse and judge answers alike: this task also judges those problems.
        """
        own = {p.id for p in (*self.train, *self.dev)}
        return Task(
            f"{self.name}, tested on {other.name}", self.train, self.dev, [p for p in other.test if p.id not in own],
            verifier=self.verifier, kind=self.kind, instruction=self.instruction, notes=self.notes,
            phrases=self.phrases, inline=self.inline, steps=self.steps, kinds={**other._kinds, **self._kinds},
            environment=self.environment, shown=self.shown, annotator=self.annotator,
        )  # fmt: skip

    def judged_by(self, verifier: Verifier) -> Task:
        """The same task under another verifier."""
        return self._copy(verifier=verifier)

    def showing(self, verifier: Verifier | None) -> Task:
        """The same task with another verifier that solvers may consult, or none."""
        return self._copy(shown=verifier)

    def pose(
        self,
        question: str,
        reference: Any = None,
        *,
        attempts: Iterable[str] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> Problem:
        """Make a new problem of this task, with its instruction.

        Without a reference its attempts are judged where the verifier needs none (tests, a checker, an executable
        world), and UNKNOWN elsewhere.

        Args:
            question: text of the question.
            reference: the answer, if it is known.
            attempts: ids of the attempts that the problem was taken from, for its lineage.
            meta: further fields.

        Raises:
            BadInput: the question is empty.
        """
        if not question.strip():
            raise BadInput("the question is empty", where="pose", fix="leave such problems out")
        more = {"source": "posed", "question": question, "attempts": tuple(attempts)}
        return make_problem(
            with_instruction(as_prompt(question), self.instruction), reference, {**(meta or {}), **more}
        )

    def reads(self, problem: Problem) -> bool:
        """Whether the verifier understands a problem; True if it cannot tell."""
        reads = getattr(self.verifier, "reads", None)
        return reads is None or bool(reads(problem))

    def extended(self, problems: Iterable[Problem]) -> Task:
        """The same task with more problems to train on; those that it has already are left out.

        Raises:
            BadInput: a problem repeats one of dev or test, exactly or in other words.
        """
        from selftaught.curate.decontaminate import Decontaminator, question_of

        texts = {split: [question_of(p, self.instruction) for p in self.split(split)] for split in SPLITS}
        find, added = Decontaminator({s: texts[s] for s in ("dev", "test")}, texts["train"]).find, list(problems)
        for problem in added:
            if repeated := find(question_of(problem, self.instruction)):
                raise BadInput(
                    f"a new problem repeats {repeated}: {problem.question[:60]!r}", where=self.name,
                    fix="drop it (run.new_problems, curate.decontaminate)",
                )  # fmt: skip
        new = {p.id: p for p in added if p.id not in self._known}.values()
        return self._copy(train=(*self.train, *new))

    def with_splits(self, train: Iterable[Problem], dev: Iterable[Problem], test: Iterable[Problem]) -> Task:
        """The same task with other problems, which it must be able to judge."""
        return self._copy(train=tuple(train), dev=tuple(dev), test=tuple(test))

    def _copy(self, **changes: Any) -> Task:
        own = {name: getattr(self, name) for name in ("name", *SPLITS, *_PARTS) if name not in changes}
        own |= {"kinds": self._kinds, **changes}
        return Task(**own)

    def hidden(self) -> Task:
        """The same task with every reference withheld (`records.HIDDEN`), and everything that reveals it."""
        other = object.__new__(Task)
        other.__dict__.update(self.__dict__)
        for split in SPLITS:
            setattr(other, split, tuple(hide(p) for p in self.split(split)))
        return other

    def require(self, *, reference: bool, splits: Iterable[str] = SPLITS) -> None:
        """Check that every problem has a reference, if one is needed.

        Raises:
            BadInput: a problem has none; the message names the first one and its fields.
        """
        without = [self._known[p.id] for split in (splits if reference else ()) for p in self.split(split)]
        without = [true for true in without if true.reference is None]
        if not without:
            return
        first, others = min(without, key=lambda p: file_line(str(p.meta.get("where", "")))), len(without) - 1
        said = "the problem has no reference" + (f", nor have {others:,} after it" if others else "")
        fields = ", ".join(field_names(first.meta))
        raise BadInput(
            f"{said}: {str(first.meta.get('question', first.question))[:60]!r}; its fields are {fields or 'not known'}",
            where=str(first.meta.get("where", self.name)),
            fix=f"add its answer as one of {', '.join(ANSWER_KEYS)}, or name its field (--answer-field),"
            " or use a method and a verifier that need none",
        )

    def close(self) -> None:
        """Stop the verifiers' worker processes. Idempotent; a later `verify` starts them again."""
        self.verifier.close()
        getattr(self.shown, "close", lambda: None)()
        getattr(self.environment, "close", lambda: None)()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split}={len(self.split(split))}" for split in SPLITS)
        return f"Task({self.name!r}, {sizes}, {self.verifier.version})"


def hide(problem: Problem) -> Problem:
    """A problem with its reference withheld, and everything that reveals it."""
    meta: dict[str, Any] = {k: v for k, v in problem.meta.items() if k in _SHOWN_WHEN_HIDDEN}
    return dataclasses.replace(problem, reference=HIDDEN, meta=meta)
