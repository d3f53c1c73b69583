"""The request to a source of problems, and the choice of its verifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from selftaught.errors import BadInput, suggest
from selftaught.feedback.http import HttpVerifier
from selftaught.feedback.tests import CodeTests
from selftaught.feedback.user import user_verifier
from selftaught.feedback.userfile import is_userfile
from selftaught.feedback.verifiers import Exact, Math, Verifier
from selftaught.feedback.weighted import WeightedVerifiers
from selftaught.records import Problem
from selftaught.tasks.extract import Kind
from selftaught.tasks.verifier_spec import ADDRESSES, VERIFIERS, AnyVerifier, parts_of

if TYPE_CHECKING:
    from selftaught.tasks.rows import FieldNames

INSTRUCTION = "Think step by step, then finish with 'Answer:' and the result."
"""Appended to every question unless another instruction is given."""

MATH_KINDS = (Kind.NUMBER, Kind.MATH)


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A request to a source: sizes of the splits, seed of the choice, instruction, verifier, names of fields."""

    train: int
    dev: int
    test: int
    seed: int
    instruction: str
    verifier: AnyVerifier = None
    naming: FieldNames | None = None


def choose_verifier(wanted: AnyVerifier, kind: Kind, problems: Iterable[Problem] = ()) -> Verifier:
    """The requested verifier, or the default for the kind of the answers.

    Raises:
        BadInput: no such verifier, or a reference that only a user's function can judge.
    """
    problems, parts = tuple(problems), parts_of(wanted)
    if len(parts) > 1 or parts[0][1] != 1:
        return WeightedVerifiers([(choose_verifier(one, kind, problems), weight) for one, weight in parts])
    wanted = parts[0][0]
    if isinstance(wanted, str) and wanted.startswith(ADDRESSES):
        return HttpVerifier(wanted)
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
