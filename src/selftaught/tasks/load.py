"""`load_task`: from a specification to a `Task`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from selftaught.errors import BadInput
from selftaught.feedback.code import VISIBLE, has_tests
from selftaught.feedback.tests import CodeTests, VisibleTests
from selftaught.feedback.userfile import is_userfile
from selftaught.feedback.verifiers import Exact, Math, Verifier
from selftaught.feedback.weighted import WeightedVerifiers
from selftaught.tasks import code
from selftaught.tasks.environment import AnyEnvironment
from selftaught.tasks.extract import Kind
from selftaught.tasks.kinds import ByKind, assign_kinds
from selftaught.tasks.rows import FieldNames
from selftaught.tasks.source import INSTRUCTION, MATH_KINDS, TaskRequest, choose_verifier
from selftaught.tasks.splits import SourceProblem, split_problems
from selftaught.tasks.task import Task
from selftaught.tasks.verifier_spec import AnyVerifier, parts_of
from selftaught.worlds import world_of_task


def load_task(
    spec: str | Task,
    *,
    train: int = 128,
    dev: int = 128,
    test: int = 300,
    seed: int = 0,
    verifier: AnyVerifier = None,
    instruction: str | None = None,
    question_field: str = "",
    answer_field: str = "",
    shown: AnyVerifier = None,
) -> Task:
    """Load a task.

    Args:
        spec: one of
            `NAME` or `NAME:key=value,key=value`, a reasoning-gym dataset and its configuration (`a|b` is a list);
            `FILE.jsonl`, `FILE.jsonl:test=OTHER.jsonl,dev=THIRD.jsonl`, or a folder with `train.jsonl`;
            `hf:ORG/NAME` or `hf:FOLDER`, with `:config=,split=,dev_split=,test_split=`, through `datasets`;
            `tiny` or `tiny:family=NAME|NAME,level=1|2`, the tiny world's problems;
            `my_task.py:function`, a function returning rows, problems or a task, or splits and an environment;
            or a `Task`, which is returned as is.
        train: number of problems to train on; for files and data sets, at most what they have.
        dev: number of problems for choosing the champion.
        test: number of held-out problems.
        seed: seed of the choice of problems.
        verifier: "exact", "math", "rg", "tests" (of code, in a sandbox), `my_file.py:function`, an http address, a
            function `(problem, text)` or `(text, reference)` or a reward function of TRL or verl, a `Verifier`, or a
            list of several, each perhaps with its weight (`WeightedVerifiers`); by default chosen by the kind of the
            references.
        instruction: appended to every question; "" for none, None for `INSTRUCTION`.
        question_field: name of the field with the question, if it is not a usual one.
        answer_field: the same for the answer.
        shown: a second verifier, which solvers may consult on any problem (see `Task`).

    Raises:
        BadInput: the specification or the data is invalid.
    """
    if shown is not None:
        task = load_task(
            spec, train=train, dev=dev, test=test, seed=seed, verifier=verifier, instruction=instruction,
            question_field=question_field, answer_field=answer_field,
        )  # fmt: skip
        return task.showing(choose_verifier(shown, task.kind, (*task.test, *task.dev, *task.train)))
    if isinstance(spec, Task):
        return _as_asked(spec, verifier, instruction, where=spec.name)
    for name, size in (("train", train), ("dev", dev), ("test", test)):
        if size < 0:
            raise BadInput(f"{name}={size}: expected a size of 0 or more")
    if instruction and (world := world_of_task(spec)):
        raise BadInput(f"the {world.name} world has its own language", where="instruction", fix="leave it out")
    asked = INSTRUCTION if instruction is None else instruction
    wanted = [one for one, _ in parts_of(verifier)]
    naming = FieldNames(question_field, answer_field, tests=None in wanted or "tests" in wanted)
    return _load(spec, TaskRequest(train, dev, test, seed, asked, verifier, naming))


def _as_asked(task: Task, verifier: AnyVerifier, instruction: str | None, *, where: str) -> Task:
    """An existing task under the requested verifier; its instruction stays.

    Raises:
        BadInput: an instruction other than the task's, or an unsuitable verifier.
    """
    if instruction not in (None, "", INSTRUCTION, task.instruction):
        raise BadInput("an existing task takes no instruction", where=where, fix="leave it out")
    if verifier is None or verifier is task.verifier:
        return task
    every = (*task.test, *task.dev, *task.train)
    chosen = choose_verifier(verifier, task.kind, every)
    if isinstance(task.verifier, ByKind) and isinstance(chosen, (Exact, Math)):
        chosen = ByKind(chosen, chosen, task.verifier.sorting)
    return task.judged_by(chosen)


def _load(spec: str, request: TaskRequest) -> Task:
    from selftaught.tasks.files import is_file_spec, read_pools

    if spec.startswith("hf:"):
        from selftaught.tasks.hub import hub_pools

        return _assemble(*hub_pools(spec, request), request)
    if is_userfile(spec):
        from selftaught.tasks.script import script_task

        made = script_task(spec, request)
        if isinstance(made, Task):
            return _as_asked(made, request.verifier, request.instruction, where=spec)
        return _assemble(spec, made.pools, request, made.environment)
    if is_file_spec(spec):
        return _assemble(*read_pools(spec, request), request)
    if world := world_of_task(spec):
        return world.module("task").load(spec, request)
    from selftaught.tasks.gym import load_gym

    return load_gym(spec, request)


def _assemble(
    name: str,
    pools: dict[str, list[SourceProblem]],
    request: TaskRequest,
    environment: AnyEnvironment | None = None,
) -> Task:
    """A task from problems by split, and what answers back; its rewards decide unless a verifier is asked for."""
    drafts = [d for pool in pools.values() for d in pool]
    sorting = assign_kinds([d.problem for d in drafts])
    splits = split_problems(pools, request, what=name)
    every = (*splits.test, *splits.dev, *splits.train)
    by_rewards = environment is not None and request.verifier is None
    verifier = None if by_rewards else choose_verifier(request.verifier, sorting.kind, every)
    if (sorting.own or sorting.unread) and isinstance(verifier, (Exact, Math)):
        formulas = Math() if not request.verifier and any(k in MATH_KINDS for k in sorting.own.values()) else verifier
        verifier = ByKind(verifier, formulas, sorting)
    return Task(
        name,
        splits.train,
        splits.dev,
        splits.test,
        verifier=verifier,
        kind=sorting.kind,
        instruction=_instruction(request, sorting.kind, environment),
        notes=(*splits.notes, *sorting.notes, *_remarks(drafts)),
        kinds=sorting.own,
        environment=environment,
        shown=VisibleTests() if _runs_tests(verifier) and any(has_tests(p.meta.get(VISIBLE)) for p in every) else None,
    )


def _runs_tests(verifier: Verifier | None) -> bool:
    parts = verifier.parts if isinstance(verifier, WeightedVerifiers) else [(verifier, 1.0)]
    return any(isinstance(one, CodeTests) for one, _ in parts)


def _instruction(request: TaskRequest, kind: Kind, environment: AnyEnvironment | None) -> str:
    """What was appended to the questions: the one asked for, or the usual one of such a task."""
    if request.instruction != INSTRUCTION:
        return request.instruction
    return "" if environment is not None else code.INSTRUCTION if kind is Kind.CODE else INSTRUCTION


def _remarks(drafts: Iterable[SourceProblem]) -> Iterator[str]:
    """Distinct remarks about the rows, each with its count and first location."""
    found: dict[str, list[str]] = {}
    for draft in drafts:
        found.setdefault(draft.remark[0], []).append(draft.remark[1])
    return (f"{len(where):,} rows: {what} (first {where[0]})" for what, where in found.items() if what)
