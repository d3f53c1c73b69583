"""Self-Refine: its history, and when it stops, on scripted answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftaught.engines import Request, ScriptedEngine
from selftaught.method import find, solver
from selftaught.methods.solve.revision.self_refine import CRITIQUE, REVISE
from selftaught.models import Policy
from selftaught.records import Attempt, Message, Problem
from selftaught.run.ask import Ask
from selftaught.testing import make_run, make_task


@solver(paper="2303.17651")
async def twice(ask: Ask, problem: Problem, *, turns: int = 3) -> Attempt:
    """Refine with fewer turns."""
    return await find("self-refine")(ask, problem, turns=turns)


def test_self_refine_sees_its_whole_history_and_stops_when_satisfied(tmp_path: Path) -> None:
    said = ["draft 0 Answer: 1", "It is too small.", "draft 1 Answer: 2", "Well: NO MISTAKES.", "never said"]
    left, asked = iter(said), []

    def script(_: Policy, request: Request) -> str:
        asked.append(request.prompt)
        return next(left)

    problem = make_task().train[0]
    with make_run(tmp_path, script=script) as run:
        (last,) = run.attempt(run.base, [problem], solver=twice)
        samples = {payload["role"]: (key, payload) for key, _, payload, _ in run.journal.effects("sample")}
        usage = run.ledger.usage
    assert last.text == said[2]
    assert last.role == "revise"
    me = problem.prompt
    turn = (*me, Message("assistant", said[0]), Message("user", CRITIQUE))
    second = (*turn, Message("assistant", said[1]), Message("user", REVISE))
    third = (*second, Message("assistant", said[2]), Message("user", CRITIQUE))
    assert asked == [me, turn, second, third]
    assert usage.generated == len(said[0]) + len(said[2])
    assert usage.judge == len(said[1]) + len(said[3])
    assert samples["revise"][1]["parent"] is not None
    assert samples["solve"][1]["parent"] is None


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_self_refine_stops_after_its_turns(tmp_path: Path, turns: int) -> None:
    with make_run(tmp_path, script=lambda *_: "still wrong") as run:
        (last,) = run.attempt(run.base, run.task.train[:1], solver=lambda ask, p: twice(ask, p, turns=turns))
        assert isinstance(run.engine, ScriptedEngine)
        assert run.engine.calls == 1 + 2 * turns
    assert last.role == ("revise" if turns else "solve")
