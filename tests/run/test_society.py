"""Several learners in one run: a gate and a champion for each, and for ensembles by their vote."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selftaught.curate import keep_right
from selftaught.errors import BadInput
from selftaught.learn import sft
from selftaught.lineage import trace
from selftaught.method import recipe
from selftaught.models import Notes, Policy
from selftaught.models.policy import load_policy
from selftaught.records import Attempt, Problem
from selftaught.run.ask import Ask
from selftaught.run.conclusion import conclude, write
from selftaught.run.run import Run
from selftaught.tasks import Task
from selftaught.testing import assert_survives, make_run, make_task


def taught(run: Run, policy: Policy, who: str) -> Policy:
    """A policy trained on right answers, with a learning rate of its own for each learner."""
    tried = run.attempt(policy, run.task.train, samples=4)
    return run.learn(policy, sft(), keep_right(tried), lr_scale={"a": 1.0, "b": 0.5}[who])


def debating(run: Run, base: Policy, task: Task, *, rounds: int = 2) -> Policy:
    """Two learners, each from its own champion; then their vote."""
    for _ in run.rounds(rounds):
        for who in ("a", "b"):
            run.measure(taught(run, run.champions[who], who), champion=who)
        run.measure_ensemble([run.champions["a"], run.champions["b"]])
    run.measure(run.champions["a"])
    return run.champion


RECIPE = recipe(needs=("verifier",))(debating)


def opened(folder: Path, name: str = "run", **more: Any) -> Run:
    return make_run(folder / name, task=make_task(dev=12), **more)


def test_each_learner_has_its_own_gate_and_the_main_champion_is_returned(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        champion = RECIPE(run, run.base, run.task)
        gates = run.gate_decisions
        promoted = {
            who: [g["policy"] for g in gates if g.get("learner") == who and g["promoted"]] for who in ("a", "b")
        }
        assert all(promoted.values())
        assert {who: run.champions[who].version for who in ("a", "b")} == {w: p[-1] for w, p in promoted.items()}
        assert run.champions["a"] != run.champions["b"]
        assert champion == run.champion == run.champions["main"] == run.champions["a"]
        assert run.champions["never measured"] == run.base
        assert set(run.champions) == {"main", "a", "b"}
        first = [g["champion"] for g in gates if g.get("learner") in ("a", "b")][:2]
        assert first == ["base-model"] * 2  # each is compared with its own champion
        ensemble = [g for g in gates if g.get("learner") == "ensemble"]
        assert ensemble[0]["promoted"]
        assert [p.version for p in run.ensembles["ensemble"]] == [g for g in ensemble if g["promoted"]][-1]["members"]
        shown = run.history[0]["learners"]
        assert set(shown) == {"a", "b", "ensemble"}
        assert shown["a"]["policy"] == promoted["a"][0]
        assert shown["a"]["promoted"] is True
        assert run.history[0]["policy"] == shown["ensemble"]["policy"]  # the last one, where there is no main one
        assert set(run.measurements) >= {run.champions["a"].version, run.champions["b"].version}


def test_the_others_stand_in_the_summary_the_report_and_the_folder(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        RECIPE(run, run.base, run.task)
        outcome = write(run, conclude(run))
        assert outcome["champion"] == run.champion.version
        assert outcome["champions"] == {who: run.champions[who].version for who in ("a", "b")}
        assert outcome["ensembles"] == {"ensemble": [p.version for p in run.ensembles["ensemble"]]}
        page = (run.folder / "report.html").read_text("utf-8")
        assert f"b: {run.champions['b'].version} (round" in page
        assert json.loads((run.folder / "summary.json").read_text("utf-8"))["champions"] == outcome["champions"]
        assert (run.folder / "champions" / "b").resolve() == run.champions["b"].path.resolve()
        assert (run.folder / "champion").resolve() == run.champion.path.resolve()
        assert trace(run.folder).start == run.champion.version


def test_with_the_main_learner_alone_nothing_changes(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        policy = taught(run, run.base, "a")
        run.measure(policy)
        (gate,) = run.gate_decisions
        assert "learner" not in gate
        assert dict(run.champions) == {"main": policy}
        outcome = write(run, conclude(run))
        assert not {"champions", "ensembles"} & set(outcome)
        assert not (run.folder / "champions").exists()


def test_killed_before_each_effect_it_ends_the_same(tmp_path: Path) -> None:
    kills = assert_survives(lambda run: RECIPE(run, run.base, run.task), partial(opened, tmp_path))
    assert kills == 12


def test_an_ensemble_is_measured_by_the_vote_of_all_answers(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        a, b = taught(run, run.base, "a"), taught(run, run.base, "b")
        members = [a, b, run.base, run.base]
        found = run.measure_ensemble(members, samples=2, temperature=1.0, champion="four")
        assert (found.solver, found.n, found.samples) == ("majority@8", 12, 1)
        right = 0.0
        for problem in run.task.dev:
            tried = []
            for policy in dict.fromkeys(members):
                samples = 2 * members.count(policy)
                tried += [one.attempt for one in run.solve(policy, [problem], "dev", temperature=1.0, samples=samples)]
            assert len(tried) == 8
            assert len({one.id for one in tried}) == 8  # the base model's four are different samples
            counts = Counter(one.answer for one in tried)
            winners = [answer for answer, count in counts.items() if count == max(counts.values())]
            right += sum(answer == problem.reference for answer in winners) / len(winners)
        assert found.accuracy == pytest.approx(right / 12)
        assert run.journal.count("gate") == 1
        assert run.champion == run.base


def test_the_gate_compares_with_the_reigning_set(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        a, b = taught(run, run.base, "a"), taught(run, run.base, "b")
        run.measure_ensemble([run.base, run.base])
        assert run.journal.count("gate") == 0  # it reigns already
        run.measure_ensemble([a, b])
        run.measure_ensemble([run.base, a])
        first, second = run.gate_decisions
        assert first["promoted"]
        assert second["champion"] == first["policy"]
        assert not second["promoted"]
        assert run.ensembles["ensemble"] == (a, b)


CLOSED: dict[str, tuple[Any, str]] = {
    "no member": (lambda run: run.measure_ensemble([]), "an ensemble needs a policy"),
    "main": (lambda run: run.measure_ensemble([run.base], champion="main"), '"main" is a single policy'),
    "a path": (lambda run: run.measure(run.base, champion="../x"), "unsuitable name '../x'"),
    "samples": (lambda run: run.measure_ensemble([run.base], samples=0), "samples must be at least 1"),
}


@pytest.mark.parametrize(("deed", "message"), CLOSED.values(), ids=CLOSED)
def test_bad_input_is_one_line(tmp_path: Path, deed: Any, message: str) -> None:
    with opened(tmp_path) as run, pytest.raises(BadInput) as refused:
        deed(run)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_method_reads_champions_and_cannot_set_them(tmp_path: Path) -> None:
    def promote(run: Run, base: Policy, task: Task) -> Policy:
        assert run.champions["b"] == base
        assert run.measure_ensemble([base]).scores == {}
        run.champions["b"] = Policy("mine", tmp_path)  # pyright: ignore
        return base

    with opened(tmp_path) as run, pytest.raises(TypeError, match="does not support item assignment"):
        recipe()(promote)(run, run.base, run.task)


async def brief(ask: Ask, problem: Problem) -> Attempt:
    """Answer in few tokens."""
    return await ask(problem.prompt, max_tokens=3)


def test_each_way_to_measure_has_its_own_decision_in_the_journal(tmp_path: Path) -> None:
    for _ in range(2):  # rerun, nothing is added
        with opened(tmp_path) as run:
            policy = taught(run, run.base, "a")
            for _ in run.rounds(1):
                run.measure(policy, solver=brief, gated=True)
                run.measure(policy)
            told = [payload for _, _, payload, _ in run.journal.effects("gate")]
            assert told == run.gate_decisions
            assert [gate["promoted"] for gate in told] == [False, True]
            solver = {"solver": "brief", "samples": 1, "temperature": 0.0}
            assert told[0]["measured"].items() > solver.items()
            assert "measured" not in told[1]  # greedy answers


def test_an_ensemble_measured_in_two_ways_has_two_decisions(tmp_path: Path) -> None:
    with opened(tmp_path, script=lambda policy, request: "Answer: 0") as run:
        policy = Policy("other", tmp_path, run.base)
        run.measure_ensemble([policy])
        run.measure_ensemble([policy], samples=3, temperature=1.0)
        first, second = (payload for _, _, payload, _ in run.journal.effects("gate"))
        assert "measured" not in first
        assert second["measured"] == {"samples": 3, "temperature": 1.0}


@pytest.mark.parametrize("first", ["a learner", "an ensemble"])
def test_a_learner_and_an_ensemble_share_no_name(tmp_path: Path, first: str) -> None:
    with opened(tmp_path) as run:

        def learner() -> object:
            return run.measure(run.base, champion="a")

        def ensemble() -> object:
            return run.measure_ensemble([run.base], champion="a")

        one, other = (learner, ensemble) if first == "a learner" else (ensemble, learner)
        one()
        one()
        with pytest.raises(BadInput, match=f"champion: 'a' is the name of {first} in this run; give"):
            other()


def test_a_round_tells_the_decision_on_the_policy_that_it_tells(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        better = taught(run, run.base, "a")
        worse = Policy("worse", tmp_path)
        for number in run.rounds(3):
            run.measure(worse)
            run.measure(worse, champion="b")
            for who in ("main", "b"):
                run.measure(better, champion=who) if number == 1 else None
                run.measure(run.champions[who], champion=who)
        first, second, _ = run.history
        for row in (first, first["learners"]["b"]):
            assert (row["policy"], row["promoted"]) == (better.version, True)
        for row in (second, second["learners"]["b"]):
            assert (row["policy"], row["reason"]) == (better.version, "it is the champion already")


def test_members_with_notes_are_published_and_reign(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        policy = taught(run, run.base, "a").with_notes(Notes(insights=("Add the tens first.",)))
        run.measure_ensemble([policy, policy])
        (published, _) = run.ensembles["ensemble"]
        assert published.path == run.folder / "policies" / policy.version
        assert load_policy(published.path).version == policy.version
        count = run.journal.count("sample")
        run.measure_ensemble([policy, published])  # the same two
        assert (run.journal.count("gate"), run.journal.count("sample")) == (1, count)
