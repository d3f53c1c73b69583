"""Methods: how they are found, and what they are not shown."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from selftaught.errors import BadInput
from selftaught.method import PAPER, REQUIRED, Option, find, methods, names, recipe, solver, study
from selftaught.models import Policy
from selftaught.records import Attempt, Problem, ReferenceHidden
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.tasks import Task
from selftaught.testing import make_run


def test_every_method_is_found_by_its_id_and_by_its_function_s_name() -> None:
    assert {"rest-em", "star", "lmsi", "self-consistency", "self-refine"} <= set(methods())
    assert all(find(m.id) is m and find(m.id.replace("-", "_")) is m for m in methods().values())


def test_finding_a_method_imports_its_file_alone() -> None:
    code = "import sys; from selftaught.method import find; find('rest-em')\n"
    code += "print([m for m in sys.modules if m.startswith('selftaught.methods.') and 'star' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- references are hidden from those who did not ask for them ---


@recipe(paper="2203.14465")
def peeker(run: Run, base: Policy, task: Task, *, how: str = "format") -> Policy:
    """Read a reference without saying so."""
    problem = run.attempt(base, task.train)[0].problem if how == "attempt" else task.train[0]
    if how in ("format", "attempt"):
        f"{problem.reference}"
    elif how == "equal":
        assert problem.reference == "1"
    elif how == "solver":
        run.attempt(base, task.train, solver=reading)
    return base


async def reading(ask: Ask, problem: Problem) -> Attempt:
    return await ask(f"{problem.question} Is it {problem.reference}?")


@pytest.mark.parametrize("how", ["format", "equal", "attempt", "solver"])
def test_a_method_that_did_not_declare_it_cannot_read_a_reference(tmp_path: Path, how: str) -> None:
    with make_run(tmp_path) as run, pytest.raises(ReferenceHidden, match="needs="):
        peeker(run, run.base, run.task, how=how)


# --- options ---


@solver()
async def answer_twice(
    ask: Ask, problem: Problem, *, turns: int = 2, how: Literal["short", "long"] | None = None, hint: str, bare=0.5
) -> Attempt:
    """Answer, and answer again.

    Two lines of text follow.

    Args:
        turns: number of answers,
            at least one.
        hint: appended to the question.
    """
    del turns, how, bare
    return await ask(f"{problem.question}{hint}")


@solver()
async def count_turns(ask: Any, problem: Any, *, turns: int = 2, deep: bool = False) -> Any:
    return ask, problem, turns, deep


def test_a_method_is_described_by_its_function() -> None:
    assert (answer_twice.id, answer_twice.shape, answer_twice.family) == ("answer-twice", "solver", "tests")
    assert answer_twice.summary == "Answer, and answer again."
    assert count_turns.summary == ""
    assert answer_twice.path == Path(__file__)
    assert answer_twice.options == (
        Option("turns", int, 2, "number of answers, at least one."),
        Option("how", Literal["short", "long"] | None, None, ""),
        Option("hint", str, REQUIRED, "appended to the question."),
        Option("bare", float, 0.5, ""),
    )


def test_options_given_win_over_those_of_the_copy_and_those_over_the_defaults() -> None:
    copy = answer_twice.with_options(turns=3, hint="a")
    assert answer_twice.bind({"hint": "b"}) == {"turns": 2, "how": None, "hint": "b", "bare": 0.5}
    assert copy.bind({}) == {"turns": 3, "how": None, "hint": "a", "bare": 0.5}
    assert copy.bind({"turns": 4}) == {"turns": 4, "how": None, "hint": "a", "bare": 0.5}
    assert answer_twice.overrides == {}


def test_a_copy_is_named_by_what_differs_from_the_defaults_alone() -> None:
    assert repr(count_turns.with_options(turns=3)) == "<solver count-turns(turns=3)>"
    assert repr(count_turns.with_options(turns=2)) == repr(count_turns) == "<solver count-turns>"
    assert repr(count_turns.with_options(turns=3).with_options(turns=2)) == "<solver count-turns>"
    assert count_turns.with_options(deep=0).overrides == {"deep": 0}  # equal to False, but of another type


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trns": 1, "hint": ""}, "--trns: answer-twice has no option 'trns'; did you mean 'turns'?"),
        ({}, "--hint: answer-twice needs option 'hint'; give it a value"),
        ({"hint": "", "how": "shrt"}, "how: must be one of 'short', 'long', None, got 'shrt'; did you mean 'short'?"),
        ({"hint": "", "how": 1}, "how: must be one of 'short', 'long', None, got 1"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        answer_twice.bind(options)
    assert str(refused.value) == message


def test_a_copy_with_an_unknown_option_is_refused_at_once() -> None:
    with pytest.raises(BadInput, match=r"answer-twice has no option 'trns'; did you mean 'turns'\?"):
        answer_twice.with_options(trns=1)


def test_positional_parameters_may_be_given_by_name() -> None:
    for call in (
        count_turns("ask", "problem", turns=5),
        count_turns("ask", problem="problem", turns=5),
        count_turns(problem="problem", ask="ask", turns=5),
        count_turns.with_options(turns=5)("ask", "problem"),
    ):
        with pytest.raises(StopIteration) as done:
            call.send(None)
        assert done.value.value == ("ask", "problem", 5, False)
    with pytest.raises(BadInput, match="count-turns needs problem; pass ask, problem by position or by name"):
        count_turns("ask")


def test_only_a_study_may_need_verdicts_on_dev() -> None:
    async def method(run: Any, base: Any, task: Any) -> Any:
        return run, base, task

    assert study(needs=("dev",))(method).needs == ("dev",)
    for decorator in (recipe, solver):
        with pytest.raises(BadInput, match='only studies may need verdicts on dev; remove "dev" from needs'):
            decorator(needs=("dev",))(method)


def test_an_annotation_that_does_not_resolve_is_told_with_its_place() -> None:
    def method(run: Any, base: Any, task: Any, *, rate: Unknown = 1.0) -> Any:  # pyright: ignore  # noqa: F821
        return run, base, task, rate

    with pytest.raises(BadInput, match=r"test_method\.py:\d+: cannot resolve the type 'Unknown' of option 'rate'"):
        _ = recipe()(method).options


def test_a_paper_is_an_arxiv_number_or_an_address() -> None:
    assert all(re.fullmatch(PAPER, source) for source in ("2203.14465", "1502.0794", "https://example.org/a?b=c#d"))
    assert not any(re.fullmatch(PAPER, source) for source in ("", "220.14465", "ftp://a", "https://a b", "https://<a>"))
    assert all(re.fullmatch(PAPER, method.paper) for method in methods().values() if method.paper)


# --- methods in files ---

OWN = """
from selftaught import Ask, Attempt, find_method, solver

CLAIM = "none of the methods"

@solver()
async def my_own(ask, problem):
    return await ask(problem)

def plain(ask, problem):
    pass

brief = my_own.with_options()
"""


def test_a_method_of_a_file_is_found_by_either_spelling(tmp_path: Path) -> None:
    file = tmp_path / "own_file.py"
    file.write_text(OWN, "utf-8")
    assert find(f"{file}:my_own").id == find(f"{file}:my-own").id == "my-own"
    assert find(f"{file}:my_own").path == file


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}", "own_file.py: which function? in the method's file; write "),
        ("{}:my_on", "own_file.py: no function 'my_on' in the method's file; did you mean 'my_own'?"),
        ("{}:zzzz", "own_file.py: no function 'zzzz' in the method's file; known: brief, my_own"),
        ("{}:plain", "own_file.py: 'plain' is not a method; decorate it with @recipe or @solver"),
        ("{}x.py:f", "cannot read the method's file: No such file or directory; did you mean 'own_file.py'?"),
        ("../methods/star", "method: unknown method '../methods/star'; "),
        ("", "method: unknown method ''; known: "),
    ],
)
def test_what_is_no_method_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    file = tmp_path / "own_file.py"
    file.write_text(OWN, "utf-8")
    with pytest.raises(BadInput, match=re.escape(message)):
        find(name.format(file))


def test_a_file_without_methods_is_told_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text("from selftaught import solver\n\ndef plain(ask, problem): ...\n", "utf-8")
    with pytest.raises(BadInput, match=r"no function 'x' in the method's file; decorate one with @recipe or @solver"):
        find(f"{tmp_path / 'bare.py'}:x")


def test_an_unknown_method_is_answered_with_methods_without_aliases() -> None:
    with pytest.raises(BadInput) as told:
        find("qqqqqq")
    assert f"({len(methods())} in all)" in str(told.value)
    assert len(names()) > len(methods())
