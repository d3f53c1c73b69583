"""The suite on the tabular twin of the writer of `paths`: an exact model of its text, sampled through an engine."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftaught.console import Console
from selftaught.engines import Request, Sampling
from selftaught.engines.scripted import scripted_learner
from selftaught.learn import sft
from selftaught.records import Message
from selftaught.run.settings import Settings
from selftaught.tasks import Task
from selftaught.tasks.source import TaskRequest
from selftaught.worlds.kit.annotator import KitAnnotator
from selftaught.worlds.kit.calibration import suite
from selftaught.worlds.kit.calibration.kit_replies import kit_replies
from selftaught.worlds.kit.calibration.lab import SMOKE, Lab, Sizes, greedy, twin_policy
from selftaught.worlds.kit.calibration.table import spec
from selftaught.worlds.kit.twin import Twin
from selftaught.worlds.kit.twin_engine import TwinEngine
from selftaught.worlds.tiny.build import MIX, writer_of
from selftaught.worlds.tiny.calibration import PLAN, rejection_sampling
from selftaught.worlds.tiny.skills import BASE
from selftaught.worlds.tiny.task import FAMILIES, load
from selftaught.worlds.tiny.writer import paths_writer
from selftaught.worlds.world import World

FEW = replace(SMOKE, problems=120, some=120, test=60, few=40, train=40, dev=8, seeds=1, repeats=40)

READ = tuple(name for name, _ in MIX.family_weights)


def loaded(seed: int) -> Task:
    """Problems of four operations, with their annotator, enough for any check here."""
    task = load("tiny", TaskRequest(100, 10, 260, seed, ""))
    return task if task.annotator else task._copy(annotator=KitAnnotator(FAMILIES, "tiny"))


WORLD = World("tiny", "tiny", loaded, Settings(sampling=Sampling(max_tokens=96)))


def lab_in(folder: Path, engine: Any = None, sizes: Sizes = FEW, **plan: Any) -> Lab:
    policy = twin_policy("tiny", folder)
    offered = replace(PLAN, longer="", control_model="", **plan)  # the twin is of one writer
    made = engine or TwinEngine(Twin(writer_of("base")))
    return Lab(WORLD, offered, policy, folder, made, Console(quiet=True), sizes, scripted_learner)


def test_the_writer_is_itself_and_another_writer_is_not(tmp_path: Path) -> None:
    (found,) = suite.calibrate(lab_in(tmp_path / "same"), (1,))
    assert found.holds
    assert found.figures["KL(writer || model), nats a decision"].value == pytest.approx(0, abs=1e-9)
    assert found.figures["accuracy by skill, largest difference"].value == pytest.approx(0, abs=1e-9)
    other = TwinEngine(Twin(paths_writer(replace(BASE, shaky=0.05, blind=0.3), READ)))
    (found,) = suite.calibrate(lab_in(tmp_path / "other", other), (1,))
    assert not found.condition("KL(writer || model), nats a decision")


def test_the_divergence_of_another_writer_is_what_its_distributions_say(tmp_path: Path) -> None:
    """Against the exact divergence, from both writers' distributions before each choice of the same replies."""
    from selftaught.worlds.kit.language import tokenize
    from selftaught.worlds.kit.process import Choice, read

    mine, other = paths_writer(), paths_writer(replace(BASE, follows=0.6, corrects=0.7, prior=(0.65, 0.25, 0.1)))
    exact = []
    for reply, _ in zip(kit_replies(mine, 3), range(600), strict=False):
        sides = [read(writer.reply(reply.prompt), tokenize(reply.text)) for writer in (mine, other)]  # type: ignore[arg-type]
        for a, b in zip(*sides, strict=True):
            if isinstance(a, Choice) and isinstance(b, Choice):
                p, q = a.distribution(), b.distribution()
                exact.append(sum(x * math.log(x / q[t]) for t, x in p.items() if x > 0))
    plan = {"replies": lambda seed: kit_replies(mine, 3)}
    lab = lab_in(tmp_path, TwinEngine(Twin(other)), **plan)
    lab.sizes = replace(FEW, some=600)
    (found,) = suite.calibrate(lab, (1,))
    figure = found.figures["KL(writer || model), nats a decision"]
    low, high = figure.ci95
    assert low - 0.01 < sum(exact) / len(exact) < high + 0.01
    assert figure.value > 0.005


def test_the_ladder_of_base_models_comes_out(tmp_path: Path) -> None:
    found = {one.spec.number: one for one in suite.calibrate(lab_in(tmp_path), (2, 3, 5, 11, 20))}
    assert found[2].holds
    assert found[3].condition("pass@16 - majority@16")
    assert found[3].condition("majority@16 - greedy")
    assert found[5].condition("SD of p(right)")
    assert abs(found[11].figures["second answer - first answer"].value) < 0.05
    assert found[20].holds or found[20].figures["share of A/A comparisons called reproduced"].value < 0.15


def test_true_critiques_mend_and_a_second_look_fixes_more_than_it_spoils(tmp_path: Path) -> None:
    found = {one.spec.number: one for one in suite.calibrate(lab_in(tmp_path), (12, 13, 19))}
    assert found[12].condition("true critique: revised - draft")
    assert found[12].condition("true - trained critique")
    assert set(found[13].figures) >= set(spec(13).wanted)
    (look,) = suite.calibrate(lab_in(tmp_path / "look", sizes=replace(FEW, some=260)), (18,))
    assert look.condition("fixed of wrong - spoiled of right")
    assert "without it in the text: fixed - spoiled" not in look.figures
    assert not math.isnan(found[19].figures["with demonstrations - without"].value)


def test_training_counts_and_resumes(tmp_path: Path) -> None:
    lab = lab_in(tmp_path)
    with lab.run("learning", lab.trained(1)) as run:
        tried = run.attempt(run.base, run.task.train, samples=16, temperature=0.7)
        from selftaught import keep_right

        policy = run.learn(run.base, sft(), keep_right(tried))
        before, after = (greedy(run, one, run.task.train) for one in (run.base, policy))
    assert sum(after.values()) > sum(before.values())
    fresh = lab_in(tmp_path, TwinEngine(Twin(writer_of("base"))))
    with fresh.run("again", lab.trained(1), model=policy) as run:
        assert greedy(run, policy, run.task.train) == after


def test_reward_models_are_not_read_by_the_twin(tmp_path: Path) -> None:
    (found,) = suite.calibrate(lab_in(tmp_path), (14,))
    assert found.reason == "engine twin reads no reward models"


def ask(engine: TwinEngine, lab: Lab, question: str, seed: int = 0, **how: Any) -> Any:
    more = {name: how.pop(name) for name in ("prefix", "prefix_tokens") if name in how}
    sampling = Sampling(**({"max_tokens": 96, "temperature": 1.0} | how))
    return asyncio.run(engine.sample(lab.policy, Request((Message("user", question),), sampling, seed, **more)))


def test_the_engine_samples_what_the_writer_writes(tmp_path: Path) -> None:
    engine = TwinEngine(Twin(writer_of("base")))
    lab = lab_in(tmp_path, engine)
    question = "paths 2: 27 1) *4 2) +3"
    ways = Counter(ask(engine, lab, question, seed).text[3] for seed in range(600))
    usual = FAMILIES[0].table.facts[" *4", 27].ways
    assert all(abs(ways[way] / 600 - p) < 0.07 for way, p in usual.items())
    one = ask(engine, lab, question, 5)
    assert one == ask(engine, lab, question, 5)
    assert one.finish_reason == "stop"
    assert len(one.token_ids) == len(one.logprobs)
    whole = asyncio.run(engine.loglikelihood(lab.policy, (Message("user", question),), one.text))
    assert whole.total == pytest.approx(sum(one.logprobs[:-1]))  # all but the end


def test_the_engine_stops_continues_and_is_cut_off(tmp_path: Path) -> None:
    engine = TwinEngine(Twin(writer_of("base")))
    lab = lab_in(tmp_path, engine)
    step = ask(engine, lab, "paths 2: 27 1) *4 2) +3", stop=("\n",))
    assert step.stop_text == "\n"
    assert step.text.startswith(("1) A 27 *4", "1) B 27 *4", "1) C 27 *4"))
    rest = ask(engine, lab, "paths 2: 27 1) *4 2) +3", prefix_tokens=step.token_ids)
    going_on = next(line for line in (step.text + rest.text).splitlines() if line.startswith(("2) ", "wait")))
    assert going_on == "wait" or going_on[5:].startswith(step.text.split(" ")[-1])  # goes on from what was reached
    assert "Answer:" in rest.text
    reached = FAMILIES[0].table.facts[" *4", 27].right
    forced = ask(engine, lab, "paths 2: 27 1) *4 2) +3", prefix=f"1) A 27 *4{reached}\n")
    assert forced.text[4:].startswith(f"{reached} +3") or forced.text.startswith("wait")
    cut = ask(engine, lab, "paths 2: 27 1) *4 2) +3", max_tokens=3)
    assert (cut.finish_reason, len(cut.token_ids)) == ("length", 3)
    assert ask(engine, lab, "What is love?").text == ""


def test_the_good_way_is_the_writers() -> None:
    facts = FAMILIES[0].table.facts
    blind = {way: sum(fact.kinds[way] == "blind" for fact in facts.values()) for way in "ABC"}
    assert min(blind, key=lambda way: blind[way]) == FAMILIES[0].table.good


def test_a_run_on_the_twin_is_repeatable_and_differs_by_seed() -> None:
    assert rejection_sampling(900_001) == rejection_sampling(900_001)
    assert rejection_sampling(900_001) != rejection_sampling(900_002)
