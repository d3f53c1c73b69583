"""A user's own function as a verifier."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal

from selftaught.errors import BadInput
from selftaught.feedback.rewards import (
    check_columns,
    check_reward,
    check_verl_reward,
    is_reward,
    is_verl_reward,
)
from selftaught.feedback.userfile import is_user_module, load_function
from selftaught.feedback.verifiers import ExtractedAnswer, unknown_reply, unknown_verdict
from selftaught.feedback.workers import Workers
from selftaught.records import Feedback, Problem, Verdict

MAX_EXPLANATION = 1_000_000
"""Characters of a reply passed to a function, counted from the end."""

CallForm = Literal["problem", "reference", "reward", "verl"]

_PROBLEM = {"problem", "item", "example", "question"}
_TEXT = {"text", "answer", "response", "completion", "output", "prediction", "pred", "reply", "attempt"}
_REFERENCE = {"reference", "gold", "target", "expected", "truth", "label"}


class UserFunction:
    """`fn(problem, text)`, `fn(text, reference)`, or a reward function of TRL or verl, run in a worker process.

    It returns a bool; a number, of which only a full score (>= 1) is RIGHT; a mapping with such a number as `score`; a
    `Feedback`; or None for UNKNOWN. A reward function of TRL's form (see `feedback.rewards`) returns a list of one such
    number. Each may be asynchronous.
    If it hangs, exits, raises or exhausts memory, the attempt is UNKNOWN and the run continues.

    Args:
        function: the function; pickled by cloudpickle with everything it refers to.
        source: hash of the file it came from; by default a hash of its own source or bytecode.
        timeout: seconds of wall clock per answer.

    Raises:
        BadInput: it takes other arguments, or cannot be pickled.
    """

    def __init__(self, function: Callable[..., Any], *, source: str = "", timeout: float = 30.0) -> None:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        self.form = call_form(function, name)
        self.needs_reference = self.form == "reference" or (
            self.form == "verl" and "ground_truth" in inspect.signature(function).parameters
        )
        self._function, self._name = function, name
        self.version = f"{name}@{source or _code_hash(function)}"
        self.workers = Workers(("user", _ship(function, name), self.form), timeout=timeout)

    def check(self, problems: Iterable[Problem]) -> None:
        """Raise BadInput if the function needs a column that the first problem lacks."""
        first = next(iter(problems), None)
        if self.form == "reward" and first is not None:
            check_columns(self._function, self._name, first)

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:  # noqa: ARG002
        """Run the function on the whole text of the reply."""
        import cloudpickle

        if self.needs_reference and problem.reference is None:
            return unknown_verdict("no reference", self.version)
        reply = self.workers.call((cloudpickle.dumps(problem), answer.text[-MAX_EXPLANATION:]))
        if reply.status != "ok":
            return unknown_reply(reply, self.version)
        verdict, score, text = reply.value
        return Feedback(Verdict(verdict), score, text, self.version)

    def close(self) -> None:
        """Stop the workers."""
        self.workers.close()


def user_verifier(verifier: Callable[..., Any] | str, problems: Iterable[Problem] = ()) -> UserFunction:
    """Make a verifier for these problems from a function or `my_file.py:function`.

    Raises:
        BadInput: see `UserFunction`, `UserFunction.check` and `load_function`.
    """
    if callable(verifier):
        made = UserFunction(verifier)
    else:
        function, digest = load_function(verifier, what="verifier")
        made = UserFunction(function, source=digest)
    made.check(problems)
    return made


def call_form(function: Callable[..., Any], name: str) -> CallForm:
    """Determine how to call a verifier from its parameter names.

    Returns:
        "problem" for `(problem, text)`, "reference" for `(text, reference)`, "reward" for TRL's
        `(prompts, completions, **columns)` and any other with `completions`, "verl" for verl's
        `(data_source, solution_str, ground_truth, extra_info)` and any other with `solution_str`.

    Raises:
        BadInput: it is none of them.
    """
    if not callable(function):
        raise BadInput(f"verifier {name} is a {type(function).__name__}, not a function")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return "reference"
    if is_reward(p.name for p in parameters):
        check_reward(function, name)
        return "reward"
    if is_verl_reward(p.name for p in parameters):
        check_verl_reward(function, name)
        return "verl"
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    fix = (
        "write it as (problem, text) or (text, reference), or as a reward function of TRL (prompts, completions,"
        " **kwargs) or verl (data_source, solution_str, ground_truth, extra_info)"
    )
    if len(positional) < 2 or len(required) > 2:
        raise BadInput(f"verifier {name} takes ({', '.join(p.name for p in parameters)})", fix=fix)
    first, second = positional[:2]
    if first in _REFERENCE or second in _PROBLEM:
        raise BadInput(f"verifier {name} takes ({first}, {second})", fix=fix)
    return "reference" if first not in _PROBLEM and (first in _TEXT or second in _REFERENCE) else "problem"


def _ship(function: Callable[..., Any], name: str) -> bytes:
    import cloudpickle

    module = sys.modules.get(getattr(function, "__module__", None) or "")
    by_value = module is not None and is_user_module(module.__name__)
    if by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(function)
    except Exception as e:  # the objects it refers to may raise anything
        raise BadInput(
            f"verifier {name} cannot be sent to a worker process: {type(e).__name__}: {e}",
            fix="open files, locks and connections inside the function",
        ) from e
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)


def _code_hash(function: Callable[..., Any]) -> str:
    """Hash of a function's source, or of its bytecode if there is no source, with plain closed-over values."""
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    try:
        text = inspect.getsource(function if code is getattr(function, "__code__", None) else type(function))
    except (OSError, TypeError):
        text = repr((code.co_code, code.co_consts, code.co_names)) if code else repr(type(function))
    values = [c.cell_contents for c in getattr(function, "__closure__", None) or ()]
    values += [*(getattr(function, "__defaults__", None) or ()), *vars(function).values()] if code else []
    plain = [repr(v) for v in values if isinstance(v, (str, int, float, bool, bytes, type(None), tuple))]
    return hashlib.sha256("\n".join([text, *plain]).encode()).hexdigest()[:12]
