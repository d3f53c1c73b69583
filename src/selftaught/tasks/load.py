"""`load_task`: from a specification to a `Task`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from selftaught.errors import BadInput, suggest
from selftaught.feedback.user import user_verifier
from selftaught.feedback.userfile import is_userfile
from selftaught.feedback.verifiers import Exact, Math, Verifier
from selftaught.records import Problem
from selftaught.tasks.extract import Kind
from selftaught.tasks.kinds import ByKind, sort_kinds
from selftaught.tasks.rows import Naming
from selftaught.tasks.splits import Draft, cut
from selftaught.tasks.task import Task

INSTRUCTION = "Think step by step, then finish with 'Answer:' and the result."
"""Appended to every question unless another instruction is given."""

MATHS = (Kind.NUMBER, Kind.MATH)
VERIFIERS = ("exact", "math", "rg")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a source: sizes of the splits, seed of the choice, instruction, verifier, names of fields."""

    train: int
    dev: int
    test: int
    seed: int
    instruction: str
    verifier: Callable[..., Any] | Verifier | str | None = None
    naming: Naming | None = None


def load_task(
    spec: str | Task,
    *,
    train: int = 128,
    dev: int = 128,
    test: int = 300,
    seed: int = 0,
    verifier: Callable[..., Any] | Verifier | str | None = None,
    instruction: str | None = None,
    question_field: str = "",
    answer_field: str = "",
) -> Task:
    """Load a task.

    Args:
        spec: one of
            `NAME` or `NAME:key=value,key=value`, a reasoning-gym dataset and its configuration (`a|b` is a list);
            `FILE.jsonl`, `FILE.jsonl:test=OTHER.jsonl,dev=THIRD.jsonl`, or a folder with `train.jsonl`;
            `hf:ORG/NAME` or `hf:FOLDER`, with `:config=,split=,dev_split=,test_split=`, through `datasets`;
            `tiny` or `tiny:family=NAME|NAME,level=1|2`, the tiny world's problems;
            `my_task.py:function`, a function returning rows, problems or a task;
            or a `Task`, which is returned as it is.
        train: problems to learn from. Of files and data sets at most as many as there are.
        dev: problems to choose by.
        test: problems for the end.
        seed: which problems, of those there are.
        verifier: "exact", "math", "rg", `my_file.py:function`, a function `(problem, text)` or
            `(text, reference)`, or a `Verifier`; by default what suits the references.
        instruction: appended to every question; "" for none, None for `INSTRUCTION`.
        question_field: the field of a row that holds the question, where it has none of the usual names.
        answer_field: the same of the answer.

    Raises:
        BadInput: anything wrong with the specification or the data, in one line.
    """
    if isinstance(spec, Task):
        return _as_asked(spec, verifier, instruction, where=spec.name)
    for name, size in (("train", train), ("dev", dev), ("test", test)):
        if size < 0:
            raise BadInput(f"{name}={size}: expected a size of 0 or more")
    if instruction and spec.partition(":")[0] == "tiny":
        raise BadInput("the tiny world asks in a language of its own", where="instruction", fix="leave it out")
    asked = INSTRUCTION if instruction is None else instruction
    naming = Naming(question_field, answer_field)
    return _load(spec, Request(train, dev, test, seed, asked, verifier, naming))


def _as_asked(
    task: Task, verifier: Callable[..., Any] | Verifier | str | None, instruction: str | None, *, where: str
) -> Task:
    """A task that somebody has made, under the verifier that is asked for; it says itself what it asks.

    Raises:
        BadInput: an instruction that it was not made with, or a verifier that does not suit it.
    """
    if instruction not in (None, "", INSTRUCTION, task.instruction):
        raise BadInput("a task that is made already takes no instruction", where=where, fix="leave it out")
    if verifier is None or verifier is task.verifier:
        return task
    every = (*task.test, *task.dev, *task.train)
    chosen = choose_verifier(verifier, task.kind, every)
    if isinstance(task.verifier, ByKind) and isinstance(chosen, (Exact, Math)):
        chosen = ByKind(chosen, chosen, task.verifier.sorting)
    return task.judged_by(chosen)


def _load(spec: str, request: Request) -> Task:
    from selftaught.tasks.files import is_file_spec, read_pools

    if spec.startswith("hf:"):
        from selftaught.tasks.hub import hub_pools

        return _assemble(*hub_pools(spec, request), request)
    if is_userfile(spec):
        from selftaught.tasks.script import script_pools

        pools = script_pools(spec, request)
        if isinstance(pools, Task):
            return _as_asked(pools, request.verifier, request.instruction, where=spec)
        return _assemble(spec, pools, request)
    if is_file_spec(spec):
        return _assemble(*read_pools(spec, request), request)
    if spec.partition(":")[0] == "tiny":
        from selftaught.worlds.tiny.task import load_tiny

        return load_tiny(spec, request)
    from selftaught.tasks.gym import load_gym

    return load_gym(spec, request)


def _assemble(name: str, pools: dict[str, list[Draft]], request: Request) -> Task:
    """A task from problems by split."""
    drafts = [d for pool in pools.values() for d in pool]
    sorting = sort_kinds([d.problem for d in drafts])
    splits = cut(pools, request, what=name)
    verifier = choose_verifier(request.verifier, sorting.kind, (*splits.test, *splits.dev, *splits.train))
    if (sorting.own or sorting.unread) and isinstance(verifier, (Exact, Math)):
        formulas = Math() if not request.verifier and any(k in MATHS for k in sorting.own.values()) else verifier
        verifier = ByKind(verifier, formulas, sorting)
    return Task(
        name,
        splits.train,
        splits.dev,
        splits.test,
        verifier=verifier,
        kind=sorting.kind,
        instruction=request.instruction,
        notes=(*splits.notes, *sorting.notes, *_remarks(drafts)),
        kinds=sorting.own,
    )


def _remarks(drafts: Iterable[Draft]) -> Iterator[str]:
    """Remarks about the rows, each once, with its count and its first place."""
    found: dict[str, list[str]] = {}
    for draft in drafts:
        found.setdefault(draft.remark[0], []).append(draft.remark[1])
    return (f"{len(where):,} rows: {what} (first {where[0]})" for what, where in found.items() if what)


def choose_verifier(
    wanted: Callable[..., Any] | Verifier | str | None, kind: Kind, problems: Iterable[Problem] = ()
) -> Verifier:
    """The verifier that was asked for, or the one that suits the kind of the answers.

    Raises:
        BadInput: no such verifier, or a reference that only a function of the user's can judge.
    """
    if wanted is not None and not isinstance(wanted, str):
        if hasattr(wanted, "judge"):
            return cast(Verifier, wanted)
        return user_verifier(cast(Callable[..., Any], wanted), problems)
    if wanted and is_userfile(wanted):
        return user_verifier(wanted, problems)
    if wanted == "rg":
        raise BadInput("verifier 'rg' scores reasoning-gym tasks only", fix="use exact or math")
    if wanted not in (None, "exact", "math"):
        raise BadInput(f"no verifier {wanted!r}", fix=f"{suggest(wanted, VERIFIERS)} or my_file.py:function")
    for problem in problems:
        if not isinstance(problem.reference, (str, int, float, type(None))):
            raise BadInput(
                f"the answer is a {type(problem.reference).__name__}, expected text or a number",
                where=str(problem.meta.get("where", "")),
                fix="judge it with a verifier of your own: verifier=my_file.py:function",
            )
    return Math() if wanted == "math" or (wanted is None and kind in MATHS) else Exact()
