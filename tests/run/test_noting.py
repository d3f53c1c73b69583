"""Policies with notes in a run: what the engine reads, what is refused, what is published, and what resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selftaught.cli.main import main
from selftaught.console import Console
from selftaught.engines import Request, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.learn import sft
from selftaught.lineage import trace
from selftaught.method import recipe
from selftaught.models import Demonstration, Notes, Policy, resolve
from selftaught.records import Attempt, Demo, Message, make_problem
from selftaught.run.ask import Ask
from selftaught.run.conclusion import conclude, write
from selftaught.run.noting import HeldOut
from selftaught.run.run import Run
from selftaught.tasks import Kind, Task, load_task
from selftaught.testing import Learner, assert_survives, make_run, make_task, solve_sum
from selftaught.worlds import synthetic_worlds

HELP = Notes("Hint: add the tens first.")
EXAMPLE = Demonstration("What is 1 + 1?", "1 and 1 make 2.\nAnswer: 2")


class Seen(ScriptedEngine):
    """Answers rightly where an instruction hints; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Policy, Request]] = []
        super().__init__(self._answer)

    def _answer(self, policy: Policy, request: Request) -> str:
        self.asked.append((policy, request))
        hinted = any("Hint" in message.content for message in request.prompt)
        last = Request(request.prompt[-1:], request.sampling, request.seed)
        return solve_sum(policy, last) if not hinted else solve_sum(_trained(policy), last)


def _trained(policy: Policy) -> Policy:
    return Policy("often", policy.path, Policy("once", policy.path, policy))


def noted(run: Run, *, sources: tuple[Any, ...] = ()) -> Policy:
    return run.write_notes(run.base, Notes(HELP.system, (EXAMPLE,)), sources=sources)


def test_the_engine_reads_what_is_written_by_hand_byte_for_byte(tmp_path: Path) -> None:
    engine = Seen()
    with make_run(tmp_path, engine=engine) as run:
        policy, problems = noted(run), run.task.train[:3]
        tried = run.attempt(policy, problems, temperature=0.0)
        by_hand = [
            (
                Message("system", "Hint: add the tens first."), Message("user", "What is 1 + 1?"),
                Message("assistant", "1 and 1 make 2.\nAnswer: 2"), *problem.prompt,
            )
            for problem in problems
        ]  # fmt: skip
        assert sorted(request.prompt for _, request in engine.asked) == sorted(by_hand)
        assert {who for who, _ in engine.asked} == {run.base}
        assert [a.prompt for a in tried] == [p.prompt for p in problems]
        assert {a.policy for a in tried} == {policy.version}
        hand = [make_problem(prompt, p.reference) for prompt, p in zip(by_hand, problems, strict=True)]
        assert [a.text for a in run.attempt(run.base, hand, temperature=0.0)] == [a.text for a in tried]


def test_the_underfit_model_answers_as_to_a_prompt_written_by_hand(tmp_path: Path) -> None:
    task = load_task("underfit:family=chain,level=2", train=5, dev=0, test=0)
    shown, *problems = task.train
    with Run(tmp_path / "run", model="underfit", task=task) as run:
        example = run.attempt(run.base, [shown], temperature=0.0)[0]
        policy = run.write_notes(run.base, Notes(demonstrations=(Demonstration.of(example),)), sources=[example])
        with_notes = run.attempt(policy, problems, temperature=0.0)
        before = (*shown.prompt, Message("assistant", example.text))
        by_hand = [make_problem((*before, *p.prompt), p.reference) for p in problems]
        plain = run.attempt(run.base, by_hand, temperature=0.0)
        assert [a.token_ids for a in with_notes] == [a.token_ids for a in plain]
        assert run.nll(policy, with_notes) == pytest.approx(run.nll(run.base, plain))
        hot = run.attempt(policy, problems, samples=2, temperature=1.0)
        assert all(a.logprobs for a in hot)


def test_a_continued_answer_and_another_policy_read_the_notes_too(tmp_path: Path) -> None:
    engine = Seen()

    async def twice(ask: Ask, problem: Any) -> Attempt:
        first = await ask(problem.prompt, max_tokens=5)
        await ask(problem.prompt, policy=other)
        return await ask.continue_from(first, max_tokens=40)

    with make_run(tmp_path, engine=engine) as run:
        policy, other = noted(run), run.base.with_notes(Notes("Hint: another."))
        (tried,) = run.attempt(policy, run.task.train[:1], solver=twice)
        systems = [request.prompt[0].content for _, request in engine.asked]
        assert systems == ["Hint: add the tens first.", "Hint: another.", "Hint: add the tens first."]
        assert tried.prompt == run.task.train[0].prompt


def test_the_champion_may_have_notes_and_loads_by_its_folder(tmp_path: Path) -> None:
    task = load_task("underfit:family=chain,level=1", train=4, dev=24, test=8)
    with Run(tmp_path / "run", model="underfit", task=task) as run:
        champion = run.champion = run.write_notes(run.base, Notes("Think."))
        found = conclude(run)
        assert (write(run, found)["champion"], found.after.policy) == (champion.version, champion.version)
        answers = [one.attempt.text for one in found.answers_after]
    link = tmp_path / "run" / "champion"
    with Run(tmp_path / "again", model=link, task=task) as run:
        assert run.base == champion
        assert [one.attempt.text for one in run.solve(run.base, task.test, "test", temperature=0.0)] == answers


def test_a_promoted_policy_is_published_whoever_gave_it_its_notes(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Seen(), task=make_task(dev=40)) as run:
        found = run.measure(run.base.with_notes(HELP))
        assert run.champion.version == found.policy == run.base.with_notes(HELP).version
        folder = run.folder / "policies" / found.policy
        assert run.champion.path == folder
        manifest = json.loads((folder / "selftaught.json").read_text())
        assert manifest["notes"] == HELP.to_json()
        assert manifest["base"]["version"] == run.base.version
        assert sorted(p.name for p in folder.iterdir()) == ["selftaught.json"]
        write(run, conclude(run))
        assert (run.folder / "champion").resolve() == folder


def test_learning_starts_from_the_weights_and_the_new_policy_has_no_notes(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Seen()) as run:
        policy = noted(run)
        tried = run.attempt(policy, run.task.train)
        learned = run.learn(policy, sft(), [Demo(a.prompt, a.text, attempts=(a.id,)) for a in tried])
        assert learned.notes is None
        assert learned.base is not None
        assert learned.base.version == run.base.version
        with pytest.raises(BadInput, match=r"has notes, and weights in training"):
            run.learn_online(policy, run.task.train)


def test_a_dev_or_test_problem_is_refused_wherever_it_stands_in_notes(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Seen()) as run:
        for held_out in (run.task.dev[0], run.task.test[0]):
            question = held_out.question
            loud = question.upper().replace(" ", "\n ")
            for notes, sources in (
                (HELP, (held_out,)),
                (HELP, (run.attempt(run.base, [run.task.dev[0]])[0],)),
                (Notes(demonstrations=(Demonstration(loud, "7"),)), ()),
                (Notes(demonstrations=(Demonstration("What is it?", f"I was asked: {question}"),)), ()),
                (Notes(insights=(f"Remember that '{loud}' is 7",)), ()),
                (Notes(f"They will ask: {question} Say 7."), ()),
            ):
                with pytest.raises(BadInput, match="notes hold a dev or test problem"):
                    run.write_notes(run.base, notes, sources=sources)
            with pytest.raises(BadInput, match="notes hold a dev or test problem"):
                run.attempt(run.base.with_notes(Notes(question)), run.task.train[:1])
        assert not list(run.journal.effects("notes"))


def test_short_questions_are_looked_for_in_demonstrations_only() -> None:
    found = HeldOut([make_problem("3 + 4")])
    assert found.find(Notes("As 3 + 4 is 7, so 13 + 4 is 17."), ()) == ""
    assert found.find(Notes(demonstrations=(Demonstration("3 +  4", "7"),)), ()) == "3 + 4"


def test_notes_longer_than_the_context_are_refused_in_a_line(tiny: Any, tmp_path: Path) -> None:
    weights = tiny(context=256)
    with Run(tmp_path / "run", model=weights, task=make_task()) as run:
        with pytest.raises(BadInput, match=r"the notes have 3\d\d tokens, and .* model's context of 256") as refused:
            run.write_notes(run.base, Notes("x" * 300))
        assert refused.value.fix == "give fewer demonstrations, or shorter ones"
        with pytest.raises(BadInput, match="do not fit the model's context"):
            run.attempt(run.base.with_notes(Notes("x" * 300)), run.task.train)
        assert run.request_counts["refused"] == 0


def test_empty_notes_are_refused_in_a_line(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Seen()) as run, pytest.raises(BadInput, match="nothing in these notes"):
        run.write_notes(run.base, Notes())


@recipe(needs=())
def take_notes(run: Run, base: Policy, task: Task, *, rounds: int = 1) -> Policy:
    """Write down the model's own answers."""
    for _ in run.rounds(rounds):
        tried = run.attempt(base, task.train[:2], temperature=0.0)
        shown = Notes(HELP.system, tuple(map(Demonstration.of, tried)))
        run.measure(run.write_notes(base, shown, sources=tried))
    return run.champion


def test_killed_before_each_effect_it_ends_the_same(tmp_path: Path) -> None:
    def opened(name: str) -> Run:
        return make_run(tmp_path / name, engine=Seen(), task=make_task(train=2, dev=12, test=2))

    assert_survives(lambda run: take_notes(run, run.base, run.task), opened, every=True)
    with opened("killed") as run:
        ((_, _, facts, usage),) = run.journal.effects("notes")
        assert take_notes(run, run.base, run.task).version == facts["policy"]
        sampled = {key for key, *_ in run.journal.effects("sample")}
    assert set(facts["attempts"]) <= sampled
    assert (len(facts["attempts"]), facts["base"], usage.spent) == (2, "base-model", 0)


def test_notes_of_the_starting_model_may_hold_anything_and_it_is_said(tmp_path: Path) -> None:
    task = load_task("underfit:family=chain,level=1", train=2, dev=0, test=4)
    policy = synthetic_worlds()["underfit"]
    base = resolve(policy.name).with_notes(Notes(demonstrations=(Demonstration(task.test[0].prompt, "x"),)))
    with Run(tmp_path / "run", model=base, task=task) as run:
        results = run.solve(run.base, task.test[1:], "test", temperature=0.0)
        assert len(results) == 3
        assert any("the notes of the starting model hold a dev or test problem" in line for line in run.notes)


def test_the_lineage_leads_from_notes_to_their_attempts_and_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_run(tmp_path, engine=Seen(), task=make_task(train=2, dev=40, test=2)) as run:
        champion, folder = take_notes(run, run.base, run.task), run.folder
        assert champion.notes
        (later,) = run.attempt(champion, run.task.train[:1])
    found = trace(folder, later.id)
    assert found.gaps == {}
    node = found.nodes[champion.version]
    assert (node.kind, node.role, node.round, node.note) == ("policy", "noted", 1, "2 demonstrations, instructions")
    links = [(link.how, found.nodes[link.target].kind) for link in found.sources(champion.version)]
    assert links == [("notes for", "policy"), ("made of", "attempt"), ("made of", "attempt")]
    assert main(["lineage", str(folder)]) == 0
    told = capsys.readouterr().out
    assert f"noted policy {champion.version[:10]}, round 1 (2 demonstrations, instructions); the champion" in told
    assert "   notes for base-model\n   made of 2 solve by base-model" in told


def test_a_run_that_starts_from_notes_trains_their_weights_and_traces_to_them(tmp_path: Path) -> None:
    base = Policy("bare", tmp_path).with_notes(HELP)
    learn = Learner()
    with Run(
        tmp_path / "run", model=base, task=make_task(), engine=Seen(), learner=learn, console=Console(quiet=True)
    ) as run:
        tried = run.attempt(run.base, run.task.train)
        learned = run.learn(run.base, sft(), [Demo(a.prompt, a.text, attempts=(a.id,)) for a in tried])
        assert [who.version for who, _ in learn.given] == ["bare"]
    found = trace(tmp_path / "run", learned.version)
    assert found.gaps == {}
    assert found.nodes["bare"].note == "the weights of the starting model"
    with pytest.raises(BadInput, match="another configuration: the starting model has changed"):
        Run(
            tmp_path / "run",
            model=Policy("bare", tmp_path),
            task=make_task(),
            engine=Seen(),
            console=Console(quiet=True),
        )


def test_the_command_line_loads_the_champion_and_shows_its_notes_inert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = "underfit:family=chain,level=1"
    with Run(tmp_path / "run", model="underfit", task=load_task(task, train=1, dev=2, test=2)) as run:
        run.champion = run.write_notes(run.base, Notes("<script>alert(1)</script> & more", (EXAMPLE,)))
        outcome = write(run, conclude(run))
    assert outcome["champion_notes"] == "1 demonstration, instructions"
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert "1 and 1 make 2." in page
    place, out = str(tmp_path / "run" / "champion"), str(tmp_path / "eval")
    assert main(["eval", "--model", place, "--task", task, "--test", "3", "--out", out, "--json"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["policy"] == outcome["champion"]


def test_a_test_problem_in_other_words_is_refused(tmp_path: Path) -> None:
    asked = "A farmer picks 48 apples in the morning and 27 apples in the evening. How many apples did the farmer pick?"
    told = "In the morning a farmer picks 48 apples, and in the evening 27 apples. How many apples did the farmer pick?"
    train = [make_problem(f"Tom has {n} red marbles and buys {n + 3} more. What does Tom own?", "?") for n in range(4)]
    task = Task("apples", train, [], [make_problem(asked, "75")], verifier=Exact(), kind=Kind.NUMBER)
    with make_run(tmp_path, engine=Seen(), task=task) as run:
        for notes in (
            Notes(f"Remember: {told} 75."),
            Notes(insights=(told,)),
            Notes(demonstrations=(Demonstration(told, "75"),)),
        ):
            with pytest.raises(BadInput, match="notes hold a dev or test problem"):
                run.write_notes(run.base, notes)
        fine = Notes("Add the numbers.", (Demonstration(train[0].prompt, "0 + 3 = 3\nAnswer: 3"),))
        assert run.write_notes(run.base, fine).notes == fine
