"""The end of a run: test opened once, equal tokens for the baseline, and an outcome that is written whole."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripted_world import judged
from selftaught.control import Budget
from selftaught.engines import Request, RequestRefused, Sample, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import ExtractedAnswer, right_or_wrong
from selftaught.lineage import trace
from selftaught.measure import compare
from selftaught.method import find
from selftaught.models import Policy
from selftaught.records import Feedback, Problem, Verdict
from selftaught.report import render_page
from selftaught.report.collect import report_data, rounds_of
from selftaught.report.text import duration
from selftaught.run.conclusion import Conclusion, _link, _no_vote, conclude, summary, write
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task
from selftaught.testing import make_run, make_task, solve_sum
from selftaught.testing.sums import depth

KEYS = {
    "method", "model", "task", "n_test", "before", "after", "majority_at_equal_tokens", "paired_difference", "tokens",
    "seconds", "peak_rss_mb",
}  # fmt: skip


def taught(run: Run, **options: Any) -> Policy:
    return find("rest-em")(run, run.base, run.task, **{"rounds": 2, "samples": 4, **options})


def concluded(run: Run) -> Conclusion:
    taught(run)
    return conclude(run)


def test_before_and_after_are_the_same_questions_asked_greedily(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        found = concluded(run)
        asked = [(p, payload["problem"], payload["sampling"]) for _, _, payload, _ in run.journal.effects("sample")
                 for p in [payload["policy"]] if payload["problem"] in {t.id for t in run.task.test}]  # fmt: skip
    assert [s.attempt.prompt for s in found.answers_before] == [s.attempt.prompt for s in found.answers_after]
    assert [s.attempt.problem for s in found.answers_before] == list(run.task.test)
    greedy = {(policy, problem) for policy, problem, how in asked if how["temperature"] == 0.0}
    assert greedy == {(p, t.id) for p in (run.base.version, run.champion.version) for t in run.task.test}
    assert found.before.scores.keys() == found.after.scores.keys()
    assert found.paired == compare(found.before, found.after, seed=0)


def test_the_vote_gets_at_least_the_tokens_of_the_method_and_of_the_champion_s_answers(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        found = concluded(run)
    assert found.votes > 1
    assert found.majority.tokens >= found.spent.spent + found.after.tokens
    assert found.majority.tokens < 1.15 * (found.spent.spent + found.after.tokens)  # and hardly more
    assert found.sampled_before.samples == found.votes
    assert found.sampled_after.samples == 4


def test_it_comes_to_the_same_when_asked_again_and_on_a_rerun(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with make_run(tmp_path) as run:
            taught(run)
            seen += [conclude(run), conclude(run)]
    assert all(found == seen[0] for found in seen)


def test_the_test_split_is_opened_for_one_champion_only(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        concluded(run)
        run.champion = run.base
        with pytest.raises(BadInput, match="the test split was opened for policy"):
            conclude(run)


def test_a_method_that_never_promotes_ends_where_it_began(tmp_path: Path) -> None:
    def worse(policy: Policy, request: Request) -> str:
        return solve_sum(policy, request) if not depth(policy) else "Answer: 0"

    with make_run(tmp_path, script=worse) as run:
        found = concluded(run)
        outcome = write(run, found)
        assert run.notes == ["round 2 produced no training records; the run stops here"]
    assert (outcome["promoted"], outcome["champion"]) == (False, "base-model")
    assert found.before.scores == found.after.scores
    assert [s.attempt for s in found.answers_before] == [s.attempt for s in found.answers_after]
    assert outcome["paired_difference"] == {"mean": 0.0, "ci95": outcome["paired_difference"]["ci95"], "p_value": 1.0}


def test_a_run_that_the_budget_ends_is_concluded_and_says_so(tmp_path: Path) -> None:
    for _ in range(2):
        with make_run(tmp_path, settings=Settings(budget=Budget(6000))) as run:
            champion = taught(run)
            outcome = write(run, conclude(run))
            page = (run.folder / "report.html").read_text("utf-8")
            assert outcome["champion"] == champion.version == run.history[0]["policy"]
            assert "the budget of 6,000 tokens is spent" in page


def test_the_summary_has_every_field_and_adds_up(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        found = concluded(run)
        outcome = write(run, found)
        assert outcome["tokens"]["generated"] + outcome["tokens"]["trained"] == found.spent.spent
        assert outcome["tokens_measuring_test"] + found.spent.spent == run.journal.usage().spent
    assert outcome.keys() >= KEYS
    assert json.loads((tmp_path / "run" / "summary.json").read_text("utf-8")) == outcome
    assert outcome["n_test"] == 8
    for name in ("before", "after", "majority_at_equal_tokens"):
        low, high = outcome[name]["ci95"]
        assert 0 <= low <= outcome[name]["accuracy"] <= high <= 1
    assert outcome["paired_difference"]["mean"] == pytest.approx(
        outcome["after"]["accuracy"] - outcome["before"]["accuracy"]
    )
    assert 0 <= outcome["overhead"] <= 1
    assert outcome["seconds"] > 0
    assert outcome["peak_rss_mb"] > 10


def test_looking_at_a_finished_run_costs_nothing_and_leaves_its_cost_as_it_was(tmp_path: Path) -> None:
    outcomes = []
    for _ in range(2):
        with make_run(tmp_path) as run:
            outcomes.append(write(run, concluded(run)))
            assert isinstance(run.engine, ScriptedEngine)
            calls = run.engine.calls
    assert outcomes[0] == outcomes[1]
    assert calls == 0


def test_the_champion_link_leads_to_the_weights_and_moves_with_the_folder(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        write(run, concluded(run))
        version = run.champion.version
    link = tmp_path / "run" / "champion"
    assert link.is_symlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    manifest = json.loads((tmp_path / "moved" / "champion" / "selftaught.json").read_text("utf-8"))
    assert manifest["version"] == version
    assert not list((tmp_path / "moved").glob("*.draft"))


@pytest.mark.parametrize("inside", [True, False], ids=["a policy of the run", "the starting model, elsewhere"])
def test_the_champion_link_outlasts_a_move_of_the_run(tmp_path: Path, inside: bool) -> None:
    run = tmp_path / "here" / "run"
    target = (run / "policies" if inside else tmp_path / "models") / "m"
    target.mkdir(parents=True)
    (target / "weights").write_text("w")
    run.mkdir(exist_ok=True, parents=True)
    _link(run / "champion", target, run)
    moved = tmp_path / "far" / "away" / "there" / "run"
    moved.parent.mkdir(parents=True)
    run.rename(moved)
    assert (moved / "champion" / "weights").read_text() == "w"


def test_the_report_shows_what_the_run_went_through(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        found = concluded(run)
        data = report_data(run, found, summary(run, found), "selftaught run ...")
        zero, *rounds = data.rounds
        assert (zero.number, zero.policy) == (0, "base-model")
        assert [(r.number, r.policy, r.promoted) for r in rounds] == [
            (row["round"], row["policy"], row["promoted"]) for row in run.history
        ]
        assert len(data.champions) == 3
        assert data.champions[0].startswith("base-model: the starting model")
        assert [e.reference for e in data.examples] == [p.reference for p in run.task.test]
        assert data.config["method"] == "rest-em"
        assert data.config["option.samples"] == 4
        page = render_page(data)
    for row in run.history:
        assert row["policy"] in page


def test_what_a_model_says_is_escaped_in_the_report(tmp_path: Path) -> None:
    def script(policy: Policy, request: Request) -> str:
        return "<script>alert(1)</script>\x1b[31m" + solve_sum(policy, request)

    with make_run(tmp_path, script=script) as run:
        write(run, concluded(run))
        page = (run.folder / "report.html").read_text("utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "\x1b" not in page


class Refusing(ScriptedEngine):
    async def sample(self, policy: Policy, request: Request) -> Sample:
        raise RequestRefused("the prompt is too long")


def test_a_model_that_cannot_answer_at_all_still_comes_to_an_end(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Refusing(solve_sum)) as run:
        found = conclude(run)
        outcome = write(run, found)
    assert (found.votes, found.majority, found.no_vote) == (1, None, "no sample has a final answer to vote on")
    assert outcome["unknown_rate"] == {"before": 1.0, "after": 1.0}
    assert any("requests were refused" in note for note in run.notes)


class Polite:
    """Judges whole texts: no final answer is looked for."""

    version, needs_reference = "polite/1", False

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        return right_or_wrong("please" in answer.text, self.version)

    def close(self) -> None: ...


def test_texts_without_answers_have_no_vote_and_the_report_says_why(tmp_path: Path) -> None:
    def script(policy: Policy, request: Request) -> str:
        return "yes, please" if request.seed % 3 else "no"

    with make_run(tmp_path, task=make_task(verifier=Polite()), engine=ScriptedEngine(script)) as run:
        found = conclude(run)
        outcome = write(run, found)
        several = run.measurement_of(run.base, "test", "x", run.solve(run.base, run.task.test, "test", samples=2))
    assert several.majority_at == {}
    vote = outcome["majority_at_equal_tokens"]
    assert (found.majority, vote["accuracy"], vote["why"]) == (None, None, "no sample has a final answer to vote on")
    assert found.sampled_before.accuracy > 0
    page = (run.folder / "report.html").read_text("utf-8")
    assert "There is no majority vote to compare with: no sample has a final answer to vote on." in page
    assert "majority vote at equal tokens" not in page


def test_where_the_right_texts_have_no_answers_there_is_no_vote_either() -> None:
    problem = make_task().test[0]
    bare = replace(judged(problem, "1", Verdict.RIGHT), answer=None)
    wrong, right = judged(problem, "2", Verdict.WRONG), judged(problem, "1", Verdict.RIGHT)
    assert _no_vote([bare, wrong]) == "most of the samples that are right have no final answer to vote on"
    assert _no_vote([replace(wrong, answer=None)]) == "no sample has a final answer to vote on"
    assert _no_vote([wrong, replace(wrong, answer=None)]) == ""
    assert _no_vote([bare, right, wrong]) == ""


def test_the_rounds_have_their_time(tmp_path: Path) -> None:
    with make_run(tmp_path, delay=0.05) as run:
        outcome = write(run, concluded(run))
        start, first, second = rounds_of(run)
    assert 0.05 <= first.seconds < second.seconds - 0.05
    assert second.seconds <= outcome["seconds"] + 0.1
    assert start.seconds == 0
    page = (run.folder / "report.html").read_text("utf-8")
    assert f"{duration(second.seconds - first.seconds)}</td>" in page
    assert "0.0\N{NARROW NO-BREAK SPACE}s" not in page


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"champion": ', "[" * 100_000, "{}"])
def test_a_broken_summary_is_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    with make_run(tmp_path) as run:
        found = conclude(run)
        write(run, found)
        (run.folder / "summary.json").write_text(text)
        run.console.quiet = False
        outcome = write(run, found)
    assert json.loads((run.folder / "summary.json").read_text()) == outcome
    assert capsys.readouterr().err == f"  warning: {run.folder / 'summary.json'} cannot be read and is rewritten\n"


def test_a_folder_in_the_place_of_the_champion_is_one_line(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        found = conclude(run)
        (run.folder / "champion").mkdir()
        with pytest.raises(BadInput, match="champion: a folder is in the place of the link"):
            write(run, found)
        assert (run.folder / "report.html").is_file()
        (run.folder / "champion").rmdir()
        write(run, found)
        assert (run.folder / "champion").is_symlink()


def test_verdicts_of_an_earlier_version_with_half_a_surrogate_pair_are_read(tmp_path: Path) -> None:
    with make_run(tmp_path, task=make_task(verifier=Polite())) as run:
        conclude(run)
        bad = json.dumps(["unknown", None, "timeout: \ud83d", "", "polite/1"])  # as it was written
        run.journal._run("UPDATE effects SET payload = ? WHERE kind = 'verify'", (bad,))
    settings = Settings(failure_limit=1.0)
    with make_run(tmp_path, task=make_task(verifier=Polite()), settings=settings) as run:
        outcome = write(run, conclude(run))
    assert outcome["unknown_rate"]["before"] == 1.0
    assert any("timeout: " in note for note in run.notes)


def test_a_broken_configuration_is_one_line(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.journal.set_meta("config", '{"model": ')
    with pytest.raises(BadInput, match=r"journal\.sqlite: a damaged journal, its config is no JSON"):
        make_run(tmp_path)
    with pytest.raises(BadInput, match="its config is no JSON"):
        trace(tmp_path / "run")


def test_without_test_problems_there_is_nothing_to_conclude(tmp_path: Path) -> None:
    whole = make_task()
    task = Task("no test", whole.train, whole.dev, [], verifier=whole.verifier, kind=whole.kind)
    with make_run(tmp_path, task=task) as run, pytest.raises(BadInput, match="the task has no test problems"):
        conclude(run)


@pytest.mark.parametrize("name", ["summary.json", "report.html"])
def test_a_disk_that_fills_up_at_the_very_end_is_one_line_and_the_rerun_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise OSError(28, "No space left on device", str(target))
        whole(source, target)

    with make_run(tmp_path) as run:
        found = concluded(run)
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(BadInput, match="the disk is full"):
            write(run, found)
        monkeypatch.undo()
        outcome = write(run, found)
        assert outcome == replace_costs(outcome, write(run, found))
    assert (tmp_path / "run" / "report.html").is_file()


def replace_costs(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return new | {k: old[k] for k in ("seconds", "overhead", "peak_rss_mb")}


def test_the_settings_reach_the_conclusion(tmp_path: Path) -> None:
    with make_run(tmp_path, settings=replace(Settings(), seed=3)) as run:
        found = concluded(run)
        assert found.paired == compare(found.before, found.after, seed=3)
        assert run.task.name == make_task().name
