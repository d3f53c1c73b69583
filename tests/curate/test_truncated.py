"""Answers cut off at `max_tokens`: dropped, or learned without an end where that is asked for; counted and told."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripted_world import judged, with_facts
from search_world import by_steps
from selftaught import routines
from selftaught.console import Console
from selftaught.control.balance import ScoredAttempt, select
from selftaught.curate import AnswerPool, finished, keep, keep_right, pairs
from selftaught.engines import Request, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.learn import sft
from selftaught.method import find
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Pair, Verdict, as_json, content_hash
from selftaught.search import MCTSConfig, MCTSSolver
from selftaught.search.preferences import Preference, to_pair
from selftaught.search.tree import Node
from selftaught.testing import Learner, make_run, make_task, solve_sum, sums

(ONE,) = sums(1)
R, W = Verdict.RIGHT, Verdict.WRONG


def said(name: str, verdict: Verdict = R, *, cut: bool = False) -> Attempt:
    return with_facts(judged(ONE, name, verdict, name=name), finish_reason="length" if cut else "stop")


def test_what_was_cut_off_is_no_demonstration() -> None:
    tried = [said("a", cut=True), said("b"), said("c", W, cut=True), said("d", W)]
    assert [a.id for a in finished(tried)] == ["b", "d"]
    assert [demo.attempts for demo in keep_right(tried)] == [("b",)]
    assert [demo.attempts for demo in keep_right(tried, per_problem=1)] == [("b",)]
    assert [demo.attempts for demo in keep(tried)] == [("b",), ("d",)]
    assert all(demo.ends for demo in keep(tried))


def test_it_is_learned_without_an_end_where_that_is_asked_for() -> None:
    demos = keep_right([said("a", cut=True), said("b")], truncated="open")
    assert [(demo.target, demo.ends) for demo in demos] == [("Answer: a", False), ("Answer: b", True)]
    with pytest.raises(BadInput, match="truncated: unknown 'keep'"):
        keep([], truncated="keep")  # pyright: ignore[reportArgumentType]


def test_it_is_no_side_of_a_pair_and_not_selected() -> None:
    tried = [said("a", cut=True), said("b"), said("c", W, cut=True), said("d", W)]
    gathered = AnswerPool()
    gathered.add(tried)
    for (pair,) in (gathered.pairs(4), pairs(tried)):
        assert (pair.chosen, pair.rejected) == ("Answer: b", "Answer: d")
    rewarded = {ONE.id: [ScoredAttempt(one, 1.0) for one in tried]}
    assert [one.attempt.id for one in select(rewarded, 0.5, 4)[ONE.id]] == ["b", "d"]


def test_it_is_no_critique_and_no_revision_to_learn() -> None:
    note = replace(said("step 1 is wrong"), role="critique")
    lessons = [
        routines.CritiqueExample(
            said("draft", W), with_facts(note, finish_reason=finish), (said("x", cut=True), said("y"))
        )
        for finish in ("length", "stop")
    ]
    assert routines.filter_verified(lessons) == lessons[1:]
    assert len(routines.critique_demos(lessons)) == 1
    assert [demo.target for demo in routines.revision_demos(lessons)] == ["Answer: y"] * 2
    assert routines.right_revisions([routines.CritiqueExample(said("draft", W), note, (said("x", cut=True),))]) == []


@pytest.mark.parametrize("record", [Demo(ONE.prompt, "7"), Pair(ONE.prompt, "7", "8")])
def test_a_record_that_ends_has_the_identity_it_always_had(record: Any) -> None:
    rare = ("ends", "masked")
    fields = {f.name: as_json(getattr(record, f.name)) for f in dataclasses.fields(record) if f.name not in rare}
    assert as_json(record) == {"kind": record.kind, **fields}
    assert content_hash(replace(record, ends=False)) != content_hash(record)


def test_pairs_of_steps_have_an_end_where_both_answers_are_whole(tmp_path: Path) -> None:
    root = Node()
    for text, ended, cut in (("x", True, False), ("y", True, False), ("z", False, False), ("w", True, True)):
        root.children.append(Node(text, text, parent=root, ended=ended, truncated=cut))
    x, y, z, w = root.children
    found = [to_pair(ONE, Preference(*two, 0.1)).ends for two in ((x, y), (x, z), (z, x), (x, w))]
    assert found == [True, False, False, False]
    grower = MCTSSolver(MCTSConfig(iterations=4, depth=2, self_eval=False))
    for cut, limit in ((False, 256), (True, 8)):
        with make_run(tmp_path / str(cut), engine=ScriptedEngine(by_steps())) as run:
            (line,) = run.attempt(run.base, run.task.train[:1], solver=grower, max_tokens=limit)
            assert line.truncated is cut


def long_winded(policy: Policy, request: Request) -> str:
    """A third of the answers goes on behind the result until it is cut off."""
    text = solve_sum(policy, request)
    return text + " and so on" * 40 if request.seed % 3 == 0 else text


def never_ending(policy: Policy, request: Request) -> str:
    return solve_sum(policy, request) + " and so on" * 40


LINE = "{truncated:,} of {answers:,} answers were cut off at max_tokens"


B_STAR = {"samples": 4, "probe": 8, "num_temperatures": 1, "step_reward": "none", "steps": 2}


@pytest.mark.parametrize("name", ["rest-em", "star", "lmsi", "b-star"])
def test_a_method_drops_them_and_says_so_each_round_and_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    learner, task = Learner(), make_task(train=12, dev=4, test=2)
    options = {"star": {"samples": 4, "temperature": 1.0}, "b-star": B_STAR}
    with make_run(tmp_path, script=long_winded, learner=learner, task=task) as run:
        run._context.console = Console(lines=True, every=1e9)
        find(name)(run, run.base, run.task, rounds=2, **options.get(name, {"samples": 4}))
        for _, records in learner.given:
            assert records
            assert not any("and so on" in demo.target for demo in records)
        counts = [payload["truncation"] for payload in run.history]
        assert len(counts) == 2
        assert all(0 < cut["truncated"] < cut["answers"] for cut in counts)
        total = {key: sum(cut[key] for cut in counts) for key in ("truncated", "answers")}
        assert LINE.format(**total) in run.notes
        said_ = capsys.readouterr().err
        assert all(LINE.format(**cut) in said_ for cut in counts)


def test_where_nothing_else_is_left_the_cause_is_named(tmp_path: Path) -> None:
    says = "nothing to learn from: 48 of 48 answers were cut off at max_tokens"
    with make_run(tmp_path, script=never_ending) as run, pytest.raises(BadInput, match=says):
        find("rest-em")(run, run.base, run.task, rounds=1, samples=4)


def test_records_made_by_hand_of_cut_off_answers_are_told(tmp_path: Path) -> None:
    with make_run(tmp_path, script=long_winded) as run:
        tried = run.attempt(run.base, run.task.train, samples=2)
        cut = sum(a.truncated for a in tried)
        demos = [Demo(a.problem.prompt, a.text, attempts=(a.id,)) for a in tried]
        run.learn(run.base, sft(), keep(tried, truncated="open"))
        assert not any("teach an end" in note for note in run.notes)
        run.learn(run.base, sft(), demos)
        learned = 24 + len(keep(tried, truncated="open"))
        assert (
            f"{cut} of {learned} records teach an end of sequence after an answer that was cut off; drop"
            in " ".join(run.notes)
        )
        pair = Pair(tried[0].problem.prompt, "yes", next(a for a in tried if a.truncated).text)
        ids = tuple(a.id for a in tried if a.truncated)
        run.learn(run.base, sft(), [replace(pair, attempts=ids)])
        ends = [note for note in run.notes if "teach an end" in note]  # one line for all calls
        assert [note.split(";")[0] for note in ends] == [
            f"{cut + 1} of {learned + 1} records teach an end of sequence after an answer that was cut off"
        ]
