"""Auto-CoT: what it demonstrates, on scripted answers and on the underfit model."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftaught.console import Console
from selftaught.control import Gate
from selftaught.engines import Request
from selftaught.engines.base import Sampling
from selftaught.feedback.verifiers import Exact
from selftaught.method import find
from selftaught.models import Policy
from selftaught.records import make_problem
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Kind, Task, load_task
from selftaught.testing import Inverted, make_run

GATE = Settings(gate=Gate(max_p_value=1.0))
APPLES = [f"How many apples are {n} apples and {n} apples?" for n in (1, 2, 3)]
TRAINS = [f"A train drives {n} km each hour, how far in two?" for n in (1, 2, 3)]
LONG = "How many apples " + "and apples " * 30


def task_of(verifier: Exact | None = None) -> Task:
    train = [make_problem(text, "?") for text in (*APPLES, *TRAINS, LONG)]
    dev = [make_problem(f"What is {n} and {n}?", str(2 * n)) for n in range(10, 18)]
    return Task("two kinds", train, dev, [], verifier=verifier or Exact(), kind=Kind.NUMBER)


class Script:
    """Six steps to the first question asked of apples, no answer to the first of trains; right with demonstrations."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.temperatures: set[float] = set()

    def __call__(self, policy: Policy, request: Request) -> str:
        texts = tuple(message.content for message in request.prompt)
        fresh = texts not in self.asked
        if fresh:
            self.asked.append(texts)
        self.temperatures.add(request.sampling.temperature)
        question = texts[-1]
        if question.startswith("What is"):
            number = int(question.split()[2])
            return f"Answer: {2 * number if len(texts) == 5 else 0}"
        kinds = [text[0] for text in self.asked if text[0][0] == question[0]]
        if kinds[0] == question:  # the first of its kind
            return "one\ntwo\nthree\nfour\nfive\nsix\nAnswer: 1" if question[0] == "H" else "I do not know."
        return f"think of it: {question}\nAnswer: 2"


def test_one_short_rationale_of_each_cluster_is_shown(tmp_path: Path) -> None:
    script = Script()
    with make_run(tmp_path, task=task_of(), script=script, settings=GATE) as run:
        champion = find("auto-cot")(run, run.base, run.task, clusters=2)
        samples = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
        ((_, number, facts, _),) = run.journal.effects("notes")
        (row,) = run.history
    train = [texts[0] for texts in script.asked if len(texts) == 1 and not texts[0].startswith("What")]
    assert [text[0] for text in train] == ["H", "A", "H", "A"]  # the second of each kind is accepted
    assert LONG not in train
    assert champion.notes is not None
    shown = champion.notes.demonstrations
    assert [one.prompt[0].content for one in shown] == train[2:]
    assert [one.answer for one in shown] == [f"think of it: {text}\nAnswer: 2" for text in train[2:]]
    assert (row["promoted"], row["policy"], row["accuracy"], number) == (True, champion.version, 1.0, 1)
    assert [samples[id]["text"] for id in facts["attempts"]] == [one.answer for one in shown]
    assert script.temperatures == {0.0}


@pytest.mark.parametrize(("selection", "of_apples"), [("clusters", 1), ("random", 0)])
def test_random_questions_are_the_rival(tmp_path: Path, selection: str, of_apples: int) -> None:
    """Chance draws two questions of trains, of which clusters show one."""
    with make_run(tmp_path, task=task_of(), script=lambda *_: "I think.\nAnswer: 2", settings=GATE) as run:
        find("auto-cot")(run, run.base, run.task, clusters=2, selection=selection)
        ((_, _, facts, _),) = run.journal.effects("notes")
    shown = {one["prompt"][0]["content"] for one in facts["notes"]["demonstrations"]}
    assert (len(shown & {*APPLES}), len(shown & {*TRAINS})) == (of_apples, 2 - of_apples)


def test_without_a_rationale_that_is_accepted_the_model_stays_as_it_is(tmp_path: Path) -> None:
    with make_run(tmp_path, task=task_of(), script=lambda *_: "I do not know.", settings=GATE) as run:
        assert find("auto-cot")(run, run.base, run.task, clusters=2) == run.base
        assert not list(run.journal.effects("notes"))


def test_verdicts_do_not_matter(tmp_path: Path) -> None:
    versions = []
    for verifier in (Exact(), Inverted()):
        place = tmp_path / verifier.version.replace("/", "-")
        with make_run(place, task=task_of(verifier), script=Script(), settings=GATE) as run:
            find("auto-cot")(run, run.base, run.task, clusters=2)
            versions.append([facts["policy"] for _, _, facts, _ in run.journal.effects("notes")])
    assert versions[0] == versions[1] != []


@pytest.mark.parametrize("selection", ["clusters", "random"])
def test_on_the_underfit_world(tmp_path: Path, selection: str) -> None:
    task = load_task("underfit:family=chain|add,level=1", train=12, dev=6, test=2, seed=3)
    settings = Settings(sampling=Sampling(max_tokens=96))
    with Run(tmp_path / "run", model="underfit", task=task, settings=settings, console=Console(quiet=True)) as run:
        find("auto-cot")(run, run.base, run.task, clusters=2, selection=selection)
        ((_, _, facts, _),) = run.journal.effects("notes")
        (row,) = run.history
        spent = run.ledger.usage
    assert (len(facts["notes"]["demonstrations"]), row["policy"]) == (2, facts["policy"])
    assert spent.trained == spent.judge == 0
