"""Solvers are told apart by what they do, and hand back what they find without keeping it in themselves."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import pytest

from selftaught import Solution
from selftaught.curate import keep_right
from selftaught.errors import BadInput
from selftaught.identity import check_unchanged, code_hash, identify, public_state, require_identity, unwrap
from selftaught.learn import sft
from selftaught.learn.online.rollouts import CreditAssignment
from selftaught.method import find
from selftaught.records import Attempt, Problem, Verdict
from selftaught.run.ask import Ask
from selftaught.testing import make_run

REFINE = find("self-refine")


async def two(ask: Ask, problem: Problem, *, hint: str = "") -> Attempt:
    return await ask(f"{problem.question}{hint}")


def hinting(hint: Any) -> Callable[..., Any]:
    async def solver(ask: Ask, problem: Problem) -> Attempt:
        return await ask(f"{problem.question}{hint}")

    return solver


class Hinting:
    def __init__(self, hint: Any) -> None:
        self.hint = hint

    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        return await two(ask, problem, hint=self.hint)

    async def other(self, ask: Ask, problem: Problem) -> Attempt:
        return await two(ask, problem, hint=self.hint)


@dataclass(frozen=True)
class Frozen:
    hint: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        return await two(ask, problem, hint=self.hint)


MAKERS: dict[str, Callable[[str], Any]] = {
    "partial": lambda hint: partial(two, hint=hint),
    "positional partial": lambda hint: partial(partial(two), hint=hint),
    "closure": hinting,
    "closure over a solver": lambda hint: hinting(hinting(hint)),
    "lambda": lambda hint: lambda ask, problem: two(ask, problem, hint=hint),
    "lambda with a default": lambda hint: lambda ask, problem, h=hint: two(ask, problem, hint=h),
    "class": Hinting,
    "bound method": lambda hint: Hinting(hint).other,
    "frozen": lambda hint: Frozen("", {"hint": [hint]}),
    "partial of a method": lambda hint: partial(REFINE, turns=len(hint)),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_equal_solvers_are_one_and_others_are_not(make: Callable[[str], Any]) -> None:
    same, again, other = identify(make(" Hint")), identify(make(" Hint")), identify(make(""))
    assert same == again
    assert same.key != other.key
    assert not same.ambiguity


def test_code_tells_lambdas_apart() -> None:
    one, two_ = (lambda ask, p: ask(p.prompt)), (lambda ask, p: ask(p.question))
    assert identify(one).key != identify(two_).key
    assert identify(lambda ask, p: ask(p.prompt, prefix="a")) != identify(lambda ask, p: ask(p.prompt, prefix="b"))


def test_names_are_readable() -> None:
    assert identify(None).name == "policy"
    assert identify(two).name == "two"
    assert identify(partial(two, hint=" Hint")).name == 'two(hint=" Hint")'
    assert identify(REFINE).name == "self-refine"
    assert identify(REFINE.with_options(turns=2)).name == "self-refine(turns=2)"
    assert len(identify(partial(two, hint="x" * 999)).name) < 60


def test_options_of_a_method_name_it_however_they_are_given() -> None:
    assert identify(REFINE.with_options(turns=2)) == identify(partial(REFINE, turns=2))
    assert identify(REFINE.with_options(turns=2).with_options(turns=3)) == identify(REFINE.with_options(turns=3))
    default = REFINE.bind({})["turns"]
    assert identify(REFINE.with_options(turns=default)) == identify(REFINE)
    assert REFINE.with_options(turns=2).bind({})["turns"] == 2
    assert REFINE.bind({})["turns"] == default
    with pytest.raises(BadInput, match="no option 'tunrs'; did you mean 'turns'"):
        REFINE.with_options(tunrs=2)


# --- where something hangs on it ---


def test_the_gate_measures_the_champion_again_under_another_solver(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        a, b = partial(two, hint=" Hint"), partial(two, hint="")
        first = run.learn(
            run.base, sft(), keep_right(run.attempt(run.base, run.task.train, samples=4, temperature=1.0))
        )
        second = run.learn(first, sft(), keep_right(run.attempt(first, run.task.train, samples=4, temperature=1.0)))
        assert run.measure(run.base, solver=a).accuracy == 1
        assert run.measure(first, solver=a, gated=True).accuracy == 1
        start = run.measure(run.base, solver=b).accuracy
        better = run.measure(second, solver=b, gated=True)
        assert better.accuracy - start > 0.4
        assert run.champion == second, run.gate_decisions[-1]
        assert run.gate_decisions[-1]["reason"].startswith("promoted: dev +")


@pytest.mark.parametrize("what", ["samples", "temperature"])
def test_the_gate_compares_what_was_measured_alike(tmp_path: Path, what: str) -> None:
    how = {"samples": 2} if what == "samples" else {"temperature": 1.0}
    with make_run(tmp_path) as run:
        first = run.learn(
            run.base, sft(), keep_right(run.attempt(run.base, run.task.train, samples=4, temperature=1.0))
        )
        run.measure(first)
        assert run.champion == first
        second = run.learn(first, sft(), keep_right(run.attempt(first, run.task.train, samples=4, temperature=1.0)))
        run.measure(second, gated=True, **how)
        assert run.measurements[first.version].samples == how.get("samples", 1)


UNTOLD = {
    "captured": lambda: hinting(object()),
    "an attribute": lambda: Hinting(object()),
    "an argument": lambda: partial(two, hint=object()),  # pyright: ignore[reportArgumentType]
}


@pytest.mark.parametrize("make", UNTOLD.values(), ids=UNTOLD)
def test_the_gate_and_online_training_refuse_what_cannot_be_told_apart(tmp_path: Path, make: Any) -> None:
    with make_run(tmp_path) as run:
        for work in (
            lambda: run.measure(run.base, solver=make(), gated=True),
            lambda: run.learn_online(run.base, run.task.train, solver=make(), steps=1),
        ):
            with pytest.raises(BadInput, match=r"is not plain data; give it an id, or use method\.with_options"):
                work()
        assert run.journal.count("sample") == 0
        assert len(run.attempt(run.base, run.task.train, solver=make())) == len(run.task.train)


def test_an_id_speaks_for_a_solver(tmp_path: Path) -> None:
    named = Hinting(object())
    named.__dict__["id"] = "mine"
    with make_run(tmp_path) as run:
        assert run.measure(run.base, solver=named, gated=True).solver == "mine"


def test_rewards_decide_which_training_it_is(tmp_path: Path) -> None:
    steps = set()
    for i, scale in enumerate((1.0, 2.0, 1.0)):
        with make_run(tmp_path / str(i)) as run:
            credit = CreditAssignment(lambda rollout, scale=scale: scale * rollout.attempt.right)
            run.learn_online(run.base, run.task.train, credit=credit, steps=1, samples=2)
            steps.update(run.journal.keys("online"))
    assert len(steps) == 2


# --- what is handed back ---


async def counting(ask: Ask, problem: Problem) -> Solution:
    got = await ask(problem.prompt)
    return Solution(got, {"id": got.id, "tries": (1, 2), "text": len(got.text)})


def test_each_attempt_keeps_its_data_and_a_rerun_hands_back_the_same(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with make_run(tmp_path) as run:
            found = run.search(run.base, run.task.train, solver=counting, samples=3, temperature=1.0)
            seen.append(([(one.attempt.id, one.data) for one in found], run.journal.digest()))
            kept = [payload["data"] for _, _, payload, _ in run.journal.effects("solution")]
    assert seen[0] == seen[1]
    assert len({data["id"] for _, data in seen[0][0]}) == len(kept) == 36
    assert all(data["id"] == id and data["tries"] == [1, 2] for id, data in seen[0][0])
    with make_run(tmp_path) as run:
        tried = run.attempt(run.base, run.task.train, solver=counting, samples=3, temperature=1.0)
        assert [attempt.id for attempt in tried] == [id for id, _ in seen[0][0]]
        assert run.journal.count("solution") == 36
        assert run.measure(run.base, solver=counting).solver == "counting"


class Count:
    id = "count"

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.last = ""
        self._cache: dict[str, str] = {}

    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        got = await ask(problem.prompt)
        self.seen[problem.id] = got.id
        return got


class Last(Count):
    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        got = await ask(problem.prompt)
        self.last = got.id
        return got


class Caching(Count):
    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        self._cache[problem.id] = problem.question
        return await ask(problem.prompt)


@pytest.mark.parametrize("solver", [Count, Last])
def test_a_solver_that_keeps_its_findings_in_itself_is_refused(tmp_path: Path, solver: Any) -> None:
    with make_run(tmp_path) as run:
        with pytest.raises(
            BadInput, match=r"count: it changes its attribute '(seen|last)' .*return Solution\(attempt, data\)"
        ):
            run.attempt(run.base, run.task.train, solver=solver(), samples=3, temperature=1.0)
        assert run.journal.count("sample") == 36  # and nothing that was paid is lost
        run.attempt(run.base, run.task.train, solver=Caching())


def test_data_that_is_not_plain_is_one_line(tmp_path: Path) -> None:
    async def odd(ask: Ask, problem: Problem) -> Solution:
        return Solution(await ask(problem.prompt), {"value": float("nan")})

    with make_run(tmp_path) as run, pytest.raises(BadInput, match="odd: the data of its Solution is not plain JSON"):
        run.search(run.base, run.task.train[:1], solver=odd)


# --- the code of a method ---

BEFORE = '''
HEAT = 0.9
def helper(x):
    return x + 1
def unrelated():
    return 1
CLAIM = "beats"
def recipe(claim):
    return lambda function: function
FACTOR = 2
def scaled(factor):
    def changed(function):
        function.factor = factor
        return function
    return changed
@recipe(CLAIM)
@scaled(FACTOR)
def mine(run):
    """Doc."""
    return helper(HEAT)
'''


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("HEAT = 0.9", "HEAT = 1.3", True),
        ("x + 1", "x + 2", True),
        ("helper(HEAT)", "helper(HEAT) + 1", True),
        ("return 1\n", "return 2\n", False),
        ('"beats"', '"ties"', False),
        ("FACTOR = 2", "FACTOR = 3", True),
        ("function.factor = factor", "function.factor = 0", True),
        ("@scaled(FACTOR)", "@scaled(1)", True),
        ('"""Doc."""', '"""Other."""\n    # why', False),
    ],
)
def test_what_a_method_uses_of_its_file_is_its_code(tmp_path: Path, old: str, new: str, differs: bool) -> None:
    from selftaught.feedback.userfile import load_function

    hashes = []
    for name, text in (("a", BEFORE), ("b", BEFORE.replace(old, new))):
        assert ast.parse(text)
        (tmp_path / f"{name}.py").write_text(text)
        hashes.append(code_hash(load_function(f"{tmp_path}/{name}.py:mine", what="method")[0]))
    assert (hashes[0] != hashes[1]) is differs


def test_the_code_of_a_file_is_what_was_imported_though_the_file_has_changed_since(tmp_path: Path) -> None:
    from selftaught.feedback.userfile import load_function

    file = tmp_path / "mine.py"
    file.write_text(BEFORE)
    before = load_function(f"{file}:mine", what="method")[0]
    first = code_hash(before)
    file.write_text(BEFORE.replace("HEAT = 0.9", "HEAT = 1.3"))
    after = load_function(f"{file}:mine", what="method")[0]
    file.write_text("")
    assert code_hash(before) == first != code_hash(after)


# --- solvers that change ---


class Changing:
    """Has attributes of every kind, of which one can be changed."""

    def __init__(self) -> None:
        self.hint, self.number, self.found, self.seen = "a", 1, list[int](), {"a": 1}
        self._private = 0

    @cached_property
    def derived(self) -> str:
        return self.hint * 2

    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        return await ask(problem.prompt)


@pytest.mark.parametrize(
    ("attribute", "change"),
    [
        ("hint", lambda solver: setattr(solver, "hint", "b")),
        ("number", lambda solver: setattr(solver, "number", 2)),
        ("found", lambda solver: solver.found.append(1)),
        ("seen", lambda solver: solver.seen.update(b=2)),
        ("found", lambda solver: setattr(solver, "found", [])),
        ("new", lambda solver: setattr(solver, "new", 0)),
    ],
)
def test_a_public_attribute_that_changed_is_named(attribute: str, change: Callable[[Any], None]) -> None:
    solver = Changing()
    before = public_state(solver)
    change(solver)
    for one in (solver, partial(solver)):
        with pytest.raises(BadInput, match=f"^Changing: it changes its attribute '{attribute}' while it runs"):
            check_unchanged(one, before)


def test_what_is_private_derived_or_equal_may_change() -> None:
    solver = Changing()
    before = public_state(solver)
    assert before.keys() == {"hint", "number", "found", "seen"}
    solver._private, solver.number = 5, int("1")
    assert solver.derived == "aa"
    check_unchanged(solver, before)


@pytest.mark.parametrize("solver", [None, two, REFINE, Changing().__call__, partial(two, hint="a")])
def test_functions_and_methods_have_no_state(solver: Any) -> None:
    assert public_state(solver) == {}
    check_unchanged(solver, {})


def test_the_solver_inside_partials_is_found() -> None:
    assert unwrap(partial(partial(two, hint="a"), hint="b")) is two
    assert unwrap(two) is two
    assert unwrap(None) is None


@pytest.mark.parametrize(
    ("solver", "reason"),
    [
        (hinting(object()), "hint is a object, which is not plain data"),
        (partial(two, hint=cast(Any, iter(()))), "hint is a tuple_iterator, which is not plain data"),
        (Hinting([1, {"a": object()}]), "hint is a object, which is not plain data"),
        (hinting(hinting(object())), "hint: hint is a object, which is not plain data"),
    ],
)
def test_what_cannot_be_distinguished_says_which_value_it_is(solver: Any, reason: str) -> None:
    assert reason in identify(solver).ambiguity
    with pytest.raises(BadInput, match=f"the gate must tell it from other solvers, but {reason}; give it an id"):
        require_identity(solver, "the gate")


def test_a_solver_that_captures_itself_is_ambiguous_and_not_endless() -> None:
    def make() -> Callable[..., Any]:
        async def again(ask: Ask, problem: Problem) -> Attempt:
            return await again(ask, problem)

        return again

    assert identify(make()).ambiguity == "what it captures refers to itself"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({1, 2, 3}, {3, 2, 1}, True),
        ((1, 2), [1, 2], True),
        ([1, 2], [2, 1], False),
        (1, 1.5, False),
        ("1", 1, False),
        (None, "", False),
        (Verdict.RIGHT, Verdict.WRONG, False),
        (Path("a"), Path("b"), False),
        (int, float, False),
        (Frozen("a"), Frozen("a"), True),
        (Frozen("a"), Frozen("b"), False),
    ],
)
def test_captured_values_decide_by_their_content(one: Any, other: Any, same: bool) -> None:
    assert (identify(hinting(one)).key == identify(hinting(other)).key) is same
    assert (identify(partial(two, hint=one)).label == identify(partial(two, hint=other)).label) is same
