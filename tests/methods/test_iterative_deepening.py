"""Iterative deepening: the schedule, when a chain ends, how chains are combined, and what doubts do to answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from selftaught.check.claim import SystemResult
from selftaught.curate import keep_right
from selftaught.engines import Request, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.measure.chains import chain_metrics, chains_cut
from selftaught.measure.flips import flips
from selftaught.method import find
from selftaught.methods.solve.budget.iterative_deepening import TRIGGER, token_budgets
from selftaught.models import Policy
from selftaught.records import Attempt
from selftaught.run.run import Run
from selftaught.tasks import Task
from selftaught.testing import make_run, make_task

METHOD = find("iterative-deepening")


def test_intervals_are_the_geometric_series_up_to_the_budget() -> None:
    assert token_budgets(64, 2.0, 448) == [64, 128, 256]
    assert sum(token_budgets(10, 1.5, 1000)) == 1000
    for ratio in (1.2, 1.5, 3.0):
        *spans, _ = token_budgets(7, ratio, 5000)
        count = len(spans)
        assert sum(spans) == pytest.approx(7 * (ratio**count - 1) / (ratio - 1), abs=count)  # closed form
        late = pairwise(spans[8:])
        assert [b / a for a, b in late] == pytest.approx([ratio] * max(0, count - 9), rel=0.02)
    assert token_budgets(16, 1.0, 50) == [16, 16, 16, 2]


@pytest.mark.parametrize(
    ("wrong", "name"),
    [((0, 2.0, 10), "initial_budget"), ((5, 0.9, 10), "growth_factor"), ((5, 2.0, 0), "max_chain_tokens")],
)
def test_a_schedule_that_never_grows_up_is_refused(wrong: tuple[int, float, int], name: str) -> None:
    with pytest.raises(BadInput, match=f"{name} must be at least 1, got"):
        token_budgets(*wrong)


class Thinker:
    """Says its answers one after the other, the next one behind each doubt; wants a number of bytes for each."""

    def __init__(self, answers: Sequence[Sequence[str]], thought: int = 0) -> None:
        self.answers, self.thought = answers, thought

    def __call__(self, policy: Policy, request: Request) -> str:
        """What comes after what was given; the seed chooses a chain."""
        del policy
        said = b"".join(p.encode() if isinstance(p, str) else bytes([p]) for p in request.prefix_tokens).decode()
        if "right, or: wrong" in request.prompt[-1].content:
            return "right" if "Answer: 21" in request.prompt[-2].content else "wrong"
        doubts = said.count(TRIGGER)
        chain = next((c for c in self.answers if said.startswith(f"[{c[0]}]")), None)
        chain = chain or self.answers[request.seed % len(self.answers)]
        answer = chain[min(doubts, len(chain) - 1)]
        whole = f"[{chain[0]}]" + "." * self.thought + f"Answer: {answer}\n"
        part = said.rpartition(TRIGGER)[2]
        return whole.removeprefix(part) if part and whole.startswith(part) else whole


def played(folder: Path, script: Any, **options: Any) -> tuple[Attempt, Run]:
    with make_run(folder, engine=ScriptedEngine(script)) as run:
        solver = METHOD.with_options(**{"samples": 1, "initial_budget": 30, "max_chain_tokens": 210, **options})
        (attempt,) = run.attempt(run.base, run.task.train[:1], solver=solver)
        return attempt, run


def test_an_answer_stands_once_it_is_given_twice_in_a_row(tmp_path: Path) -> None:
    attempt, run = played(tmp_path, Thinker([["4", "21", "21", "9"]]))
    assert attempt.text.count(TRIGGER) == 2
    assert attempt.answer == "21"
    assert attempt.num_tokens < run.ledger.usage.generated
    assert attempt.text.startswith("[4]Answer: 4\n" + TRIGGER)


def test_without_doubt_an_answer_that_ends_is_final(tmp_path: Path) -> None:
    attempt, _ = played(tmp_path, Thinker([["4", "21"]]), recheck_finished=False)
    assert (attempt.answer, attempt.text.count(TRIGGER)) == ("4", 0)


def test_each_interval_is_as_long_as_its_budget(tmp_path: Path) -> None:
    attempt, run = played(tmp_path, Thinker([["21"]], thought=1000))
    spent = [usage.generated for _, _, _, usage in _effects(tmp_path)]
    assert spent == [30, 60, 120]
    assert sum(spent) == run.ledger.usage.generated == 210
    assert attempt.text.count(TRIGGER) == 2


def test_chains_vote_or_the_most_believed_wins(tmp_path: Path) -> None:
    script = Thinker([["4"], ["4"], ["5"], ["21"]])
    voted, _ = played(tmp_path / "vote", script, samples=24)
    believed, run = played(tmp_path / "judge", script, samples=24, aggregation="p_true")
    assert voted.answer == "4"
    assert believed.answer == "21"
    assert run.ledger.usage.judge > 0
    with pytest.raises(BadInput, match="vote"):
        played(tmp_path / "odd", script, aggregation="voted")


def test_flips_are_counted_as_they_happened(tmp_path: Path) -> None:
    task = make_task(train=1, dev=1, test=1)
    right = task.test[0].reference
    script = Thinker([["4", right, right], [right, "4", "4"]])
    with make_run(tmp_path, engine=ScriptedEngine(script), task=task) as run:
        solver = METHOD.with_options(samples=40, initial_budget=40, max_chain_tokens=280)
        solved = run.solve(run.base, task.test, "test", solver=solver)
        found = flips(SystemResult(run, run.base, solved, 0))
    begun = [payload for _, _, payload, _ in _effects(tmp_path) if payload["parent"] is None]
    mended = sum(p["text"].startswith("[4]") for p in begun) / 40
    assert found["revisions"] == 80  # each chain doubts its first answer, and the second
    assert found["wrong to right"] == pytest.approx(mended / 2)
    assert found["right to wrong"] == pytest.approx((1 - mended) / 2)
    assert found["right to right"] == pytest.approx(mended / 2)
    assert sum(share for name, share in found.items() if name != "revisions") == pytest.approx(1)


def _effects(folder: Path) -> Any:
    from selftaught.journal import Journal

    journal = Journal(folder / "run")
    try:
        return list(journal.effects("sample"))
    finally:
        journal.close()


def test_a_chain_that_comes_out_right_is_a_trace_to_learn_from(tmp_path: Path) -> None:
    attempt, _ = played(tmp_path, Thinker([["4", "21", "21"]]))
    with make_run(tmp_path, engine=ScriptedEngine(Thinker([["4", "21", "21"]]))) as run:
        judged = run.solve(run.base, [attempt.problem], "train", solver=METHOD.with_options(samples=1))
    (demo,) = keep_right([one.attempt for one in judged])
    assert demo.prompt == attempt.problem.prompt
    assert TRIGGER in demo.target
    assert demo.target.rstrip().endswith("Answer: 21")
    assert set(demo.attempts) <= {key for key, *_ in _effects(tmp_path)}


# --- in line ---


class Reckoner:
    """Two steps, and an answer that is wrong until the doubt in line has come `needed` times."""

    def __init__(self, needed: int) -> None:
        self.needed = needed

    def __call__(self, policy: Policy, request: Request) -> str:
        """The whole answer, or what follows the text given."""
        del policy
        said = "".join(p if isinstance(p, str) else bytes([p]).decode() for p in request.prefix_tokens)
        lines = ["one 1\n", "two 2\n"][len([x for x in said.splitlines() if x.split()[0] in ("one", "two")]) :]
        return "".join(lines) + f"Answer: {21 if said.count('hm') >= self.needed else 4}"


def in_line(folder: Path, script: Any, **options: Any) -> tuple[Attempt, list[dict[str, Any]], list[dict[str, Any]]]:
    """The answer, the samples in order, and the records of the chains, in a task whose model doubts in line."""
    sums = make_task(train=2, dev=2, test=2)
    task = Task(
        "sums", sums.train, sums.dev, sums.test, verifier=sums.verifier, kind=sums.kind, phrases={"reflect": "again"},
        inline={"reflect": "hm\n"},
    )  # fmt: skip
    with make_run(folder, engine=ScriptedEngine(script), task=task) as run:
        (attempt,) = run.attempt(run.base, run.task.train[:1], solver=METHOD.with_options(**options))
        effects = [[payload for _, _, payload, _ in run.journal.effects(kind)] for kind in ("sample", "chains")]
        return attempt, effects[0], effects[1]


def test_the_doubt_is_put_into_the_reasoning_after_the_last_whole_step(tmp_path: Path) -> None:
    attempt, samples, (chains,) = in_line(tmp_path, Reckoner(2), samples=1)
    first = len("one 1\ntwo 2\nAnswer: 4") // 2  # tokens of the scripted engine are bytes
    budgets = [first, 2 * first, 4 * first]
    assert samples[0]["sampling"]["temperature"] == 0  # whose length sets the first budget
    assert [s["sampling"]["max_tokens"] for s in samples[1:]] == chains["budgets"][: len(samples) - 1] == budgets
    texts = [s["injected"] for s in samples if s.get("prefix_chars")]
    assert texts == ["hm\n", "hm\n"]
    assert attempt.text == "one 1\nhm\ntwo 2\nhm\nAnswer: 21"  # cut in "two 2", then ended, and doubted again
    assert attempt.answer == "21"
    assert len(attempt.prompt) == 1  # one turn
    assert (chains["cut"], chains["triggers"]) == ([True], [2])


def test_with_a_first_budget_beyond_the_answer_no_chain_is_cut(tmp_path: Path) -> None:
    attempt, samples, (chains,) = in_line(tmp_path, Reckoner(1), samples=3, initial_budget=64)
    assert chains == {
        "budgets": [64, 128, 256], "cut": [False] * 3, "triggers": [2] * 3, "problem": attempt.problem.id,
        "policy": "base-model",
    }  # fmt: skip
    assert attempt.text == "one 1\ntwo 2\nhm\nhm\nAnswer: 21"  # 4, doubted: 21, doubted: 21, final
    assert len(samples) == 9


def test_the_share_of_chains_that_were_cut_is_read_off_a_finished_system(tmp_path: Path) -> None:
    task = make_task(train=1, dev=1, test=4)
    with make_run(tmp_path, engine=ScriptedEngine(Thinker([["4"], ["21"]], thought=20)), task=task) as run:
        assert chains_cut(SystemResult(run, run.base, [], 0)) is None
        solved = run.solve(run.base, task.test[:1], "test", solver=METHOD.with_options(samples=4, initial_budget=10))
        solved += run.solve(run.base, task.test[1:], "test", solver=METHOD.with_options(samples=4, initial_budget=90))
        run.solve(run.base, task.dev, "dev", solver=METHOD.with_options(samples=9, initial_budget=10))
        result = SystemResult(run, run.base, solved, 0)
        assert chains_cut(result) == 1 / 4
        found = chain_metrics(result)
    assert (found["chains cut"], found["first budget"]) == (1 / 4, (10 + 3 * 90) / 4)
    assert found["triggers"] == pytest.approx(found["revisions"] / 4)


def test_vote_and_best_of_n_without_doubts_choose_as_the_chains_do(tmp_path: Path) -> None:
    script = Thinker([["4"], ["4"], ["5"], ["21"]])
    plain = find("best-of-n").with_options(samples=24, self_eval=True)
    with make_run(tmp_path, engine=ScriptedEngine(script)) as run:
        (best,) = run.attempt(run.base, run.task.train[:1], solver=plain)
        (other,) = run.attempt(run.base, run.task.train[:1], solver=find("best-of-n").with_options(samples=24))
        assert run.ledger.usage.judge > 0
    assert best.answer == "21"
    assert best.feedback[0].source == "p_true"
    assert other.feedback[0].source == "reward"
