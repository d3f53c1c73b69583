"""A method that uses every verb touches one file, passes conformance, and pays for each part in the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftaught.method import Method, find
from selftaught.run.guarded import ALLOWED
from selftaught.testing import assert_survives
from selftaught.testing.checks import checks_of, opened, play
from selftaught.testing.survival import KILLS

TEXT = '''"""Everything at once."""

from selftaught import (
    Ask, Attempt, Claim, Demo, Feedback, Label, Notes, Observation, Policy, Problem, Run, Solution, Task,
    RolloutGroup, Verdict, by_problem, credit_by_turn, dpo, grpo, judge, keep_right, orm, p_ik, pairs,
    recipe, sft, solver, vote,
)


@judge()
async def grader(ask: Ask, attempt: Attempt) -> Feedback:
    """Ask whether an answer is right."""
    said = await ask(f"{attempt.problem.question}\\n{attempt.text}\\nIs it right? Answer yes or no.", role="judge")
    sure = await ask.choose(said.prompt, ["yes", "no"])
    return Feedback(Verdict.UNKNOWN, sure.probabilities[0], said.text)


@solver(needs=("env",))
async def player(ask: Ask, problem: Problem, *, reward_model: Policy | None = None) -> Solution:
    """Answer, act, look at what the environment says, and answer again; read everything that can be read.

    Args:
        reward_model: scores the last answer.
    """
    first, *others = await ask.sample(problem.prompt, 3, top_logprobs=2)
    seen: Observation = await ask.act(first, None)
    likelihood = await ask.loglikelihood(problem.prompt, first.text)
    shown = await ask.verify_shown(first)
    longer = await ask.continue_from(first, "\\n", max_tokens=8)
    hinted = await ask.inject(longer, "reflect", "\\nWait.", max_tokens=8)
    quick = await ask.tuned([Demo(problem.prompt, first.text, attempts=(first.id,))], sft(), 1)
    last = await ask(problem.prompt, policy=quick, parent=hinted)
    chosen = vote([first, *others, last])
    ask.log("note", {"chosen": chosen.answer if chosen else ""})
    score = await ask.score(last, reward_model) if reward_model else 0.0
    read = {"nats": likelihood.total, "entropy": sum(first.entropies), "score": score}
    data = {**read, "shown": shown.verdict, "seen": seen.text}
    return Solution(chosen.voters[0] if chosen else last, data)


def rate(attempt: Attempt) -> float:
    """1 if it is right."""
    return float(attempt.right)


@recipe(
    paper="2501.00001",
    needs=("verifier", "env", "teacher"),
    claim=Claim("All parts together beat the model they began with.", baselines=("greedy",)),
)
def every_verb(run: Run, base: Policy, task: Task, *, rounds: int = 1, samples: int = 6) -> Policy:
    """Use every verb of a run, once a round.

    Source: 2501.00001.

    Differs from the paper: there is none.

    Costs everything.

    Args:
        rounds: how often.
        samples: answers to each problem.
    """
    for _ in run.rounds(rounds):
        tried = run.attempt(run.champion, task.train, samples=samples, temperature=1.0)
        judged = run.judge(run.champion, tried, grader)
        reward_model = run.learn(base, orm(), [Label(a.prompt, a.text, a.right, (a.id,)) for a in tried])
        groups = [RolloutGroup(tuple(g), tuple(map(rate, g))) for g in by_problem(tried).values()]
        knows = run.learn(base, p_ik(), groups)
        scores = run.score(reward_model, judged)
        run.score(reward_model, judged[:2], at="steps")
        run.score(knows, task.train, at="question")
        found = run.search(run.champion, task.train, solver=player.with_options(reward_model=reward_model))
        posed = run.new_problems([task.pose(f"What is 5{i} + 4{i}?", str(90 + 2 * i)) for i in range(2)])
        tried += run.attempt(run.champion, posed, temperature=1.0)
        expert = run.annotate(task.train, "solve")
        notes = run.annotate(tried[:2], "critique")
        expert += run.annotate(notes, "revise")
        surprise = run.nll(run.champion, tried[:2])
        policy = run.learn(base, sft(), keep_right([*expert, *tried], per_problem=2))
        chosen = pairs(tried, per_problem=1)
        rival = run.learn(policy, dpo(), chosen) if chosen else policy
        online = run.learn_online(
            policy, [*task.train, *posed], objective=grpo(), credit=credit_by_turn(), steps=1, samples=samples
        )
        noted = run.write_notes(online, Notes(insights=("Add the tens first.",)), sources=tried[:1])
        for made in (policy, online, noted):
            run.measure(made)
        run.measure(rival, champion="rival")
        run.measure_ensemble([policy, run.champions["rival"]])
        mean = sum(scores) / len(scores)
        run.log_metrics("all", {"reward": mean, "nats": sum(surprise), "trees": len(found)})
    return run.champion
'''
VERBS = {
    "annotate", "attempt", "search", "judge", "learn", "score", "new_problems", "nll", "learn_online", "write_notes",
    "measure", "measure_ensemble", "log_metrics", "rounds",
}  # fmt: skip
FACTS = {
    "base", "champion", "champions", "config", "console", "cost_line", "ensembles", "folder", "gate_decisions",
    "history", "ledger", "method_scope", "model", "notes", "round", "seconds", "settings",
}  # fmt: skip
EFFECTS = {
    "sample", "verify", "env", "solution", "note", "tune", "loglikelihood", "judgment", "learn", "score", "problems",
    "nll", "live", "online", "notes", "gate", "round",
}  # fmt: skip


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> Method:
    file = tmp_path_factory.mktemp("own") / "own.py"
    file.write_text(TEXT, "utf-8")
    return find(f"{file}:every_verb")


def test_it_uses_every_verb_that_methods_may_use() -> None:
    assert VERBS | FACTS == ALLOWED
    assert all(f"run.{verb}(" in TEXT for verb in VERBS)


def test_it_passes_conformance(method: Method, tmp_path: Path) -> None:
    for check in checks_of(method):
        check(method, tmp_path / check.__name__)
    assert [path.name for path in method.path.parent.iterdir() if path.suffix == ".py"] == ["own.py"]


@pytest.mark.slow
def test_killed_before_each_effect_it_ends_the_same(method: Method, tmp_path: Path) -> None:
    def open_run(name: str):
        return opened(tmp_path, name, method=method, train=2)

    assert assert_survives(lambda run: play(method, run), open_run, every=True) > 100


def test_killed_before_the_first_effect_of_each_kind_it_ends_the_same(method: Method, tmp_path: Path) -> None:
    def open_run(name: str):
        return opened(tmp_path, name, method=method, train=2)

    assert assert_survives(lambda run: play(method, run), open_run) == KILLS


def test_each_part_stands_in_journal_and_ledger(method: Method, tmp_path: Path) -> None:
    with opened(tmp_path, method=method) as run:
        play(method, run)
        usage = {kind: [row[-1] for row in run.journal.effects(kind)] for kind in EFFECTS}
        assert {kind for kind, rows in usage.items() if not rows} == set()
        assert run.ledger.usage.judge > 0
        assert run.ledger.environment_steps > 0
        assert sum(u.trained for u in usage["tune"]) > 0
        assert sum(u.prompt for u in usage["score"]) > 0
        assert sum(u.prompt for u in usage["loglikelihood"]) > 0
        assert run.journal.usage() == run.ledger.usage
