"""The jobs of a worker process, by name. Imported only in workers, so heavy imports are fine."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any

WorkerJob = Callable[[Any], Any]


def make_job(name: str, *args: Any) -> WorkerJob:
    """Build the job called `name`: "math", "rg", "items" or "user"."""
    return {"math": math_job, "rg": rg_job, "items": items_job, "user": user_job}[name](*args)


def math_job() -> WorkerJob:
    """`(gold, answer) -> True | False | None`: whether two mathematical expressions are equal; None: undecided.

    math-verify's own timeouts are off, since they need SIGALRM; the caller kills this process instead.
    """
    from selftaught.feedback.guard import forbid_side_effects, guard_expressions

    guard_expressions()
    import logging

    from selftaught.feedback.algebra import same_mathematics

    logging.disable(logging.CRITICAL)
    same_mathematics("\\frac{1}{2}x", "0.5x")  # imports and builds the parsers
    forbid_side_effects()
    return lambda payload: same_mathematics(*payload)


def _rg_dataset(name: str, config: dict[str, Any], size: int, seed: int) -> Any:
    from selftaught.feedback.guard import guard_expressions, guard_scorer

    guard_expressions()
    import reasoning_gym

    dataset = reasoning_gym.create_dataset(name, size=size, seed=seed, **config)
    guard_scorer(dataset)
    return dataset


def rg_job(name: str, config: dict[str, Any], size: int, seed: int) -> WorkerJob:
    """`(entry, answers) -> score`: the best of the answers' scores by a reasoning-gym dataset's scorer."""
    from selftaught.feedback.guard import forbid_side_effects

    dataset = _rg_dataset(name, config, size, seed)

    def score(payload: tuple[bytes, list[str]]) -> float:
        blob, answers = payload
        return max(float(dataset.score_answer(answer=a, entry=pickle.loads(blob))) for a in answers)

    forbid_side_effects()
    return score


def items_job() -> WorkerJob:
    """Generate items of reasoning-gym datasets.

    `("catalog",) -> {name: {key: default}}`: all datasets and their configuration.
    `("rows", name, config, size, seed, start, stop) -> {"rows", "base_scorer"}`: items, each (question, answer,
    difficulty, entry), the entry pickled for `rg_job`, and whether answers are scored by the base class.

    A process of its own, with a fixed hash seed and freshly seeded global generators, because a few datasets
    depend on them and a specification must always give the same problems.
    """
    import reasoning_gym  # noqa: F401

    made: dict[str, Any] = {}

    def answer(payload: tuple[Any, ...]) -> dict[str, Any]:
        what, *args = payload
        return _rg_catalog() if what == "catalog" else _rg_rows(made, *args)

    return answer


def _rg_catalog() -> dict[str, dict[str, Any]]:
    import dataclasses

    from reasoning_gym.factory import DATASETS

    def default(f: dataclasses.Field[Any]) -> Any:
        value = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        return value if _is_plain(value) else None

    return {
        name: {f.name: default(f) for f in dataclasses.fields(config) if f.name not in ("seed", "size")}
        for name, (_, config) in DATASETS.items()
    }


def _is_plain(value: Any) -> bool:
    """Whether the parent can unpickle `value`: exactly these types, no subclasses such as enumerations."""
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) in (bool, int, float, str, type(None))


def _rg_rows(
    made: dict[str, Any], name: str, config: dict[str, Any], size: int, seed: int, start: int, stop: int
) -> dict[str, Any]:
    import random

    import numpy
    import reasoning_gym
    from reasoning_gym.dataset import ProceduralDataset

    if start == 0:
        random.seed(seed)
        numpy.random.seed(seed % 2**32)
        made["dataset"] = reasoning_gym.create_dataset(name, size=size, seed=seed, **config)
    rows = []
    for i in range(start, stop):
        entry = made["dataset"][i]
        texts = [entry["question"], entry["answer"], entry.get("metadata", {}).get("difficulty")]
        rows.append((*(None if t is None else str(t) for t in texts), pickle.dumps(entry)))
    return {"rows": rows, "base_scorer": type(made["dataset"]).score_answer is ProceduralDataset.score_answer}


def user_job(blob: bytes, form: str) -> WorkerJob:
    """`(problem, text) -> (verdict, score, text)`: a user's function; it and the problem shipped by cloudpickle."""
    import cloudpickle

    from selftaught.feedback.rewards import awaited, call_reward, call_verl_reward
    from selftaught.feedback.verdicts import NOT_APPLICABLE, parse_verifier_result

    function = cloudpickle.loads(blob)
    sys.stdout = sys.stderr  # both are discarded

    def judge(payload: tuple[bytes, str]) -> tuple[str, float | None, str]:
        problem, text = pickle.loads(payload[0]), payload[1]
        if form == "reward":
            result, logged = call_reward(function, problem, text)
            verdict, score, why = parse_verifier_result(result)
            return verdict, score, (NOT_APPLICABLE if result is None else why) or logged
        if form == "verl":
            return parse_verifier_result(call_verl_reward(function, problem, text))
        arguments = (text, problem.reference) if form == "reference" else (problem, text)
        return parse_verifier_result(awaited(function(*arguments)))

    return judge
