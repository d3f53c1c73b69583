"""Reward functions in the forms of TRL and verl, which are called with keyword arguments only.

TRL: `reward(prompts, completions, **kwargs)` returns a list of floats. Its arguments are `prompts`, `completions` and
every other column of the data, each a list with one entry per completion; here always one. In a conversational data set
a prompt is a list of messages and a completion a list of one message; otherwise both are strings. What it logs by
`log_metric(name, value)` and `log_extra(name, values)` becomes the text of the feedback.

verl: `compute_score(data_source, solution_str, ground_truth, extra_info)` returns a float, or a mapping with `score`.

Sources: https://huggingface.co/docs/trl/grpo_trainer, "Using a custom reward function";
https://verl.readthedocs.io/en/latest/preparation/reward_function.html
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from selftaught.errors import BadInput
from selftaught.records import Problem

TRL_PARAMETERS = ("prompts", "completions")
VERL_PARAMETERS = ("data_source", "solution_str", "ground_truth", "extra_info")
LOGGING_PARAMETERS = ("log_extra", "log_metric")
TRAINER_PARAMETERS = ("completion_ids", "trainer_state", "environments")
"""Arguments that only a trainer can provide."""

REFERENCE_COLUMNS = ("answer", "solution", "ground_truth", "reference", "target", "label", "gold")
"""Columns filled with the reference if the data lacks them."""

RESERVED_PARAMETERS = {
    *TRL_PARAMETERS,
    *TRAINER_PARAMETERS,
    *LOGGING_PARAMETERS,
    "prompt",
    "completion",
    "messages",
    "where",
    "source",
}


def is_reward(names: Iterable[str]) -> bool:
    """Whether these parameter names are those of a reward function in TRL's form."""
    return "completions" in names


def is_verl_reward(names: Iterable[str]) -> bool:
    """Whether these parameter names are those of a reward function in verl's form."""
    return "solution_str" in names


def check_verl_reward(function: Callable[..., Any], name: str) -> None:
    """Refuse a reward function in verl's form that needs other arguments.

    Raises:
        BadInput: it does; the message names the argument.
    """
    for p in inspect.signature(function).parameters.values():
        if _required(p) and p.name not in VERL_PARAMETERS:
            fix = f"give it a default; verl's form has {', '.join(VERL_PARAMETERS)}"
            raise BadInput(f"reward function {name} takes {p.name!r}, which verl's form does not have", fix=fix)


def check_reward(function: Callable[..., Any], name: str) -> None:
    """Refuse a reward function that needs arguments no verifier can provide.

    Raises:
        BadInput: it does; the message names the argument.
    """
    needed = [p.name for p in inspect.signature(function).parameters.values() if _required(p)]
    for parameter in needed:
        if parameter in TRAINER_PARAMETERS:
            fix = "give it a default, and read the texts in `completions`"
            raise BadInput(f"reward function {name} takes {parameter!r}, which only a trainer can provide", fix=fix)


def check_columns(function: Callable[..., Any], name: str, problem: Problem) -> None:
    """Refuse a reward function that needs a column missing from the data.

    Raises:
        BadInput: it does; the message names the column and the existing ones.
    """
    columns = _columns(problem)
    known = {
        *TRL_PARAMETERS,
        *LOGGING_PARAMETERS,
        *columns,
        *(REFERENCE_COLUMNS if problem.reference is not None else ()),
    }
    for p in inspect.signature(function).parameters.values():
        if _required(p) and p.name not in known:
            raise BadInput(
                f"reward function {name} takes {p.name!r}, which is not a column of the data",
                where=str(problem.meta.get("where", "")),
                fix=f"its columns are {', '.join(sorted(columns)) or 'none'}",
            )


def call_verl_reward(function: Callable[..., Any], problem: Problem, text: str) -> Any:
    """What the function returns for one reply: a number, or a mapping with `score`."""
    meta = {str(name): value for name, value in problem.meta.items()}
    given = {
        "data_source": meta.get("data_source", meta.get("source", "")), "solution_str": text,
        "ground_truth": problem.reference, "extra_info": meta.get("extra_info", meta),
    }  # fmt: skip
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return awaited(function(**given))
    return awaited(function(**{name: value for name, value in given.items() if name in parameters}))


def call_reward(function: Callable[..., Any], problem: Problem, text: str) -> tuple[Any, str]:
    """The reward of one completion: the number, or None, that the function returns for it; and what it logs.

    Raises:
        ValueError: it returns anything but a list of one entry.
    """
    logged: dict[str, Any] = {}
    given = _arguments(function, problem, text, logged)
    result = awaited(function(**given))
    found = result.tolist() if hasattr(result, "tolist") else result
    if not isinstance(found, (list, tuple)) or len(found) != 1:
        shown = f"{len(found)} rewards" if isinstance(found, (list, tuple)) else f"a {type(found).__name__}"
        raise ValueError(f"the reward function returned {shown} for one completion, expected a list of one number")
    return found[0], ", ".join(f"{name}: {value}" for name, value in logged.items())


def awaited(result: Any) -> Any:
    """The result of a call, also of an asynchronous one: in one event loop for all, as a function may keep a client."""
    return _runner().run(_await(result)) if inspect.isawaitable(result) else result


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


async def _await(result: Any) -> Any:
    return await result


def _arguments(function: Callable[..., Any], problem: Problem, text: str, logged: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a reward function in TRL's form; what it logs comes into `logged`."""
    conversational = _is_conversational(problem)
    messages = [{"role": m.role, "content": m.content} for m in problem.prompt]
    given: dict[str, Any] = {name: [value] for name, value in _columns(problem).items()}
    given["log_metric"] = logged.__setitem__
    given["log_extra"] = lambda name, values: logged.update({name: values[0] if len(values) == 1 else values})
    given["prompts"] = [messages if conversational else problem.prompt[-1].content]
    given["completions"] = [[{"role": "assistant", "content": text}] if conversational else text]
    parameters = inspect.signature(function).parameters
    for name in REFERENCE_COLUMNS:
        if name in parameters and name not in given and problem.reference is not None:
            given[name] = [problem.reference]
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return given
    return {name: value for name, value in given.items() if name in parameters}


def _columns(problem: Problem) -> dict[str, Any]:
    return {str(name): value for name, value in problem.meta.items() if name not in RESERVED_PARAMETERS}


def _is_conversational(problem: Problem) -> bool:
    """Whether the question was given as messages, which makes a data set conversational in TRL."""
    asked: Mapping[str, Any] = {str(k).lower(): v for k, v in problem.meta.items()}
    given = any(isinstance(asked.get(name), (list, tuple)) for name in ("messages", "prompt"))
    return given or len(problem.prompt) > 1


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind in (
        parameter.KEYWORD_ONLY,
        parameter.POSITIONAL_OR_KEYWORD,
    )
