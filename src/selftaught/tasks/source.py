"""The request to a source of problems, and the choice of its verifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from selftaught.errors import BadInput, suggest
from selftaught.feedback.tests import CodeTests
from selftaught.feedback.user import user_verifier
from selftaught.feedback.userfile import is_userfile
from selftaught.feedback.verifiers import Exact, Math, Verifier
from selftaught.records import Problem
from selftaught.tasks.extract import Kind

if TYPE_CHECKING:
    from selftaught.tasks.rows import FieldNames

INSTRUCTION = "Think step by step, then finish with 'Answer:' and the result."
"""Appended to every question unless another instruction is given."""

MATH_KINDS = (Kind.NUMBER, Kind.MATH)
VERIFIERS = ("exact", "math", "rg", "tests")


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A request to a source: sizes of the splits, seed of the choice, instruction, verifier, names of fields."""

    train: int
    dev: int
    test: int
    seed: int
    instruction: str
    verifier: Callable[..., Any] | Verifier | str | None = None
    naming: FieldNames | None = None


def choose_verifier(
    wanted: Callable[..., Any] | Verifier | str | None, kind: Kind, problems: Iterable[Problem] = ()
) -> Verifier:
    """The requested verifier, or the default for the kind of the answers.

    Raises:
        BadInput: no such verifier, or a reference that only a user's function can judge.
    """
    if wanted is not None and not isinstance(wanted, str):
        if hasattr(wanted, "judge"):
            return cast(Verifier, wanted)
        return user_verifier(cast(Callable[..., Any], wanted), problems)
    if wanted and is_userfile(wanted):
        return user_verifier(wanted, problems)
    if wanted == "rg":
        raise BadInput("verifier 'rg' scores reasoning-gym tasks only", fix="use exact or math")
    if kind is Kind.CODE and wanted in (None, "tests"):
        return CodeTests()
    if wanted == "tests":
        fix = "give each row a field `tests` (or `test` and `entry_point`, or `test_list`)"
        raise BadInput("verifier 'tests' runs tests, and not every row has some", fix=fix)
    if wanted not in (None, "exact", "math"):
        raise BadInput(f"no verifier {wanted!r}", fix=f"{suggest(wanted, VERIFIERS)} or my_file.py:function")
    for problem in problems:
        if not isinstance(problem.reference, (str, int, float, type(None))):
            raise BadInput(
                f"the answer is a {type(problem.reference).__name__}, expected text or a number",
                where=str(problem.meta.get("where", "")),
                fix="judge it with a verifier of your own: verifier=my_file.py:function",
            )
    return Math() if wanted == "math" or (wanted is None and kind in MATH_KINDS) else Exact()
