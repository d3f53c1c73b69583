"""What each method does, on scripted answers; what holds of all of them is in test_conformance.py."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scripted_world import Inverted, Learner, make_run, make_task, solve_sum, sums
from selftaught.engines import Request, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.method import Method, find, methods, recipe, solver
from selftaught.methods.improve.self_training.star import HINT
from selftaught.methods.solve.revision.self_refine import CRITIQUE, REVISE
from selftaught.models import Policy
from selftaught.records import Attempt, Credit, Message, Problem, ReferenceHidden, Verdict
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.tasks import Kind, Task

ALL = list(methods().values())
RECIPES = [m for m in ALL if m.shape == "recipe"]
SOLVERS = [m for m in ALL if m.shape == "solver"]


def named(method: Method) -> str:
    return method.id


def small(method: Method) -> dict[str, Any]:
    """Options that make a method quick."""
    wanted = {"rounds": 2, "samples": 3, "turns": 2}
    return {o.name: wanted[o.name] for o in method.options if o.name in wanted}


# --- what holds of every method ---


def test_the_methods_of_this_version_are_there() -> None:
    assert {"rest-em", "star", "lmsi", "self-consistency", "self-refine"} <= set(methods())
    assert all(find(m.id) is m and find(m.id.replace("-", "_")) is m for m in ALL)


@pytest.mark.parametrize("method", RECIPES, ids=named)
def test_a_recipe_improves_the_scripted_model_and_resumes_for_free(method: Method, tmp_path: Path) -> None:
    outcomes = []
    for _ in range(2):
        with make_run(tmp_path) as run:
            champion = method(run, run.base, run.task, **small(method))
            assert isinstance(run.engine, ScriptedEngine)
            outcomes.append((champion.version, run.journal.digest(), run.ledger.usage, run.history, run.gates))
            calls = run.engine.calls
    assert outcomes[0] == outcomes[1]
    assert calls == 0
    if method.id not in ("score", "star-corrections", "pair-sft"):  # judged by second answers, no better than the first
        assert outcomes[0][0] != "base-model"


# Of two rounds: where there is a critic it is trained besides; the scripted model finds none of its own answers right,
# as `self` asks it.
LEARNINGS = {"critique-in-the-loop": 3, "evolve": 3, "self": 1}


@pytest.mark.parametrize("method", RECIPES, ids=named)
def test_a_recipe_trains_on_from_the_base_on_train_problems_only(method: Method, tmp_path: Path) -> None:
    learner = Learner()
    with make_run(tmp_path, learner=learner) as run:
        method(run, run.base, run.task, **small(method))
        train = {p.question for p in run.task.train}
        sampled = {key for key, *_ in run.journal.effects("sample")}
    assert len(learner.given) == LEARNINGS.get(method.id, 2)
    for base, demos in learner.given:
        assert _beginning(base) == run.base
        assert demos
        for demo in (d for d in demos if not isinstance(d, Credit)):  # online, attempts are checked as they are made
            assert any(turn.content.startswith(question) for turn in demo.prompt for question in train)
            assert demo.attempts
            assert set(demo.attempts) <= sampled


def _beginning(policy: Any) -> Any:
    return _beginning(policy.base) if policy.base else policy


@pytest.mark.parametrize("method", SOLVERS, ids=named)
def test_a_solver_stands_wherever_solving_happens(method: Method, tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        tried = run.attempt(run.base, run.task.train, solver=method, n=2)
        assert [a.problem.id for a in tried] == [p.id for p in run.task.train for _ in range(2)]
        sampled = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
        assert all(sampled[a.id]["text"] == a.text[a.begun :] for a in tried)
        assert {a.verdict for a in tried} <= {Verdict.RIGHT, Verdict.WRONG}
        found = run.measure(run.base, solver=method)
        assert (found.solver, found.n) == (method.id, len(run.task.dev))
        assert found.tokens >= found.mean_tokens * found.n


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


def test_who_declares_what_it_reads() -> None:
    assert {m.id: m.needs for m in RECIPES if m.needs != ("verifier",)} == {
        "star": ("verifier", "reference"),
        "lmsi": (),
    }


# --- ReST-EM (2312.06585) ---


def test_rest_em_keeps_the_first_right_solutions_of_each_problem_up_to_its_cap(tmp_path: Path) -> None:
    learner = Learner()
    with make_run(tmp_path, learner=learner) as run:
        find("rest-em")(run, run.base, run.task, rounds=2, samples=8, per_problem=2)
        payloads = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
    answers = {p.prompt: p.reference for p in run.task.train}
    policies = ["base-model", run.history[0]["policy"]]
    for (_, demos), policy in zip(learner.given, policies, strict=True):
        counts = Counter(demo.prompt for demo in demos)
        right: Counter[str] = Counter()
        for payload in payloads.values():
            if payload["policy"] == policy and payload["sampling"]["temperature"] == 0.7:
                problem = next(p for p in run.task.train if p.id == payload["problem"])
                right[problem.prompt] += payload["text"].endswith(f"Answer: {problem.reference}")
        assert counts == {prompt: min(2, count) for prompt, count in right.items() if count}
        for demo in demos:
            (ident,) = demo.attempts
            assert demo.target == payloads[ident]["text"]
            assert payloads[ident]["policy"] == policy
            assert demo.target.endswith(f"Answer: {answers[demo.prompt]}")
            assert payloads[ident]["sampling"]["top_k"] == 40


def test_rest_em_has_nothing_to_learn_where_nothing_is_right(tmp_path: Path) -> None:
    with make_run(tmp_path, script=lambda *_: "Answer: 0") as run, pytest.raises(BadInput, match="nothing to learn"):
        find("rest-em")(run, run.base, run.task, rounds=1, samples=2)


# --- STaR (2203.14465) ---


@pytest.mark.parametrize("rationalization", [True, False])
def test_star_hints_at_failures_only_and_learns_them_without_the_hint(tmp_path: Path, rationalization: bool) -> None:
    learner, asked = Learner(), []

    def script(policy: Policy, request: Request) -> str:
        asked.append((policy.version, request.prompt[-1].content))
        return solve_sum(policy, request)

    with make_run(tmp_path, script=script, learner=learner) as run:
        find("star")(run, run.base, run.task, rounds=1, rationalization=rationalization)
        failed = [p for p in run.task.train if f"Answer: {p.reference}" not in solved_greedily(run.base, p)]
    assert 0 < len(failed) < len(run.task.train)
    hints = sorted(HINT.format(question=p.question, answer=p.reference) for p in failed)
    assert sorted(text for _, text in asked if "Hint" in text) == (hints if rationalization else [])
    ((base, demos),) = learner.given
    kept = run.task.train if rationalization else [p for p in run.task.train if p not in failed]
    assert base == run.base
    assert {demo.prompt for demo in demos} == {p.prompt for p in kept}
    assert len(demos) == len(kept)


def solved_greedily(policy: Policy, problem: Problem) -> str:
    from selftaught.engines import Sampling

    return solve_sum(policy, Request(problem.prompt, Sampling(temperature=0.0)))


# --- LMSI (2210.11610) ---


def test_lmsi_learns_the_majority_s_rationales_in_two_formats(tmp_path: Path) -> None:
    task = Task("one", sums(1), sums(4, 50), [], verifier=Exact(), kind=Kind.NUMBER)
    learner = Learner()
    texts = [f"path {i}\nAnswer: {a}" for i, a in enumerate("78878")] + ["no idea"]
    left = iter(texts)

    def script(policy: Policy, request: Request) -> str:
        return next(left) if request.prompt == task.train[0].prompt else "Answer: 1"

    with make_run(tmp_path, task=task, script=script, learner=learner) as run:
        find("lmsi")(run, run.base, run.task, rounds=1, samples=6)
    ((_, demos),) = learner.given
    *rationales, short = demos
    assert [demo.target for demo in rationales] == [texts[1], texts[2], texts[4]]
    assert all(demo.prompt == task.train[0].prompt for demo in rationales)
    assert short.target == "Answer: 8"
    assert short.prompt[-1].content == f"{task.train[0].question}\nGive only the answer, without steps."
    assert set(short.attempts) == {demo.attempts[0] for demo in rationales}


@pytest.mark.parametrize(("confidence", "learnt"), [(0.6, [4]), (4 / 6, [4]), (0.7, [])])
def test_lmsi_asks_for_the_confidence_it_is_told(tmp_path: Path, confidence: float, learnt: list[int]) -> None:
    task = Task("one", sums(1), sums(4, 50), [], verifier=Exact(), kind=Kind.NUMBER)
    learner, left = Learner(), iter("788878")

    def script(_: Policy, request: Request) -> str:
        return f"Answer: {next(left) if request.prompt == task.train[0].prompt else 1}"

    empty = pytest.raises(BadInput, match="nothing to learn") if not learnt else contextlib.nullcontext()
    with make_run(tmp_path, task=task, learner=learner, script=script) as run, empty:
        find("lmsi")(run, run.base, run.task, rounds=1, samples=6, confidence=confidence, direct=False)
    assert [len(demos) for _, demos in learner.given if demos] == learnt


def test_lmsi_learns_the_same_whatever_the_verifier_says(tmp_path: Path) -> None:
    versions = []
    for verifier in (Exact(), Inverted()):
        with make_run(tmp_path / verifier.version.replace("/", "-"), task=make_task(verifier=verifier)) as run:
            find("lmsi")(run, run.base, run.task, rounds=2, samples=4)
            versions.append([row["policy"] for row in run.history])
            accuracies = [row["accuracy"] for row in run.history]
    assert versions[0] == versions[1]
    assert len(set(versions[0])) == 2
    assert max(accuracies) < 0.5  # the inverted verifier did judge dev


def test_lmsi_needs_no_references_on_train_and_heats_up_later_rounds(tmp_path: Path) -> None:
    known = make_task()
    bare = [Problem(p.id, p.prompt) for p in known.train]
    task = Task("bare", bare, known.dev, known.test, verifier=Exact(), kind=Kind.NUMBER)
    with make_run(tmp_path, task=task) as run:
        find("lmsi")(run, run.base, run.task, rounds=2, samples=3)
        train = {p.id for p in bare}
        heat = {
            (payload["policy"] == "base-model", payload["sampling"]["temperature"])
            for _, _, payload, _ in run.journal.effects("sample")
            if payload["problem"] in train
        }
        judged = run.journal.count("verify")
    assert heat == {(True, 0.7), (False, 1.2)}
    assert 0 < judged <= 3 * len(task.dev)


# --- self-consistency (2203.11171) ---


@pytest.mark.parametrize(
    ("answers", "won", "score"),
    [("5 6 6 5 7", "5", 0.4), ("- 6 - 6 5", "6", 0.4), ("- - -", None, None), ("5", "5", 1.0)],
)
def test_self_consistency_returns_the_first_path_to_the_most_frequent_answer(
    tmp_path: Path, answers: str, won: str | None, score: float | None
) -> None:
    given = answers.split()
    words = ["zero", "one", "two", "three", "four"]
    texts = [f"path {words[i]}" + (f"\nAnswer: {a}" if a != "-" else "") for i, a in enumerate(given)]
    left = iter(texts)
    problem = sums(1)[0]
    with make_run(tmp_path, task=make_task(), script=lambda *_: next(left)) as run:
        (one,) = run.solve(
            run.base, [problem], "x", judged=False,
            solver=lambda ask, p: find("self-consistency")(ask, p, samples=len(given)),
        )  # fmt: skip
    (feedback,) = one.attempt.feedback
    if won is None:
        assert (feedback.verdict, feedback.score) == (Verdict.UNKNOWN, None)
        assert (
            feedback.text
            == "none of 3 samples has a final answer that can be read: the most probable of them, not a vote"
        )
    else:
        assert one.attempt.answer == won
        assert one.attempt.text == texts[given.index(won)]
        assert (feedback.verdict, feedback.score) == (Verdict.UNKNOWN, pytest.approx(score))
    assert one.tokens == sum(len(text.encode()) for text in texts)


# --- Self-Refine (2303.17651) ---


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


def test_finding_a_method_imports_its_file_alone() -> None:
    code = "import sys; from selftaught.method import find; find('rest-em')\n"
    code += "print([m for m in sys.modules if m.startswith('selftaught.methods.') and 'star' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
