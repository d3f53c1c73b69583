"""The tabular twin plays known effects of self-improvement, as `python -m selftaught.worlds.tiny.simulate`, small."""

from __future__ import annotations

import random

import pytest

from selftaught.records import Message
from selftaught.worlds.kit.play import mean
from selftaught.worlds.kit.process import Choice
from selftaught.worlds.kit.twin import Twin
from selftaught.worlds.tiny.simulate import Simulation, flips, forced_waits, location_f1, searched
from selftaught.worlds.tiny.skills import BASE
from selftaught.worlds.tiny.writer import paths_writer

PROMPT = (Message("user", "paths 1: 54 1) +8"),)
REPLY = "1) C 54 +8 5\nAnswer: 5"


def simulation(problems: int = 200) -> Simulation:
    return Simulation(BASE, problems, seed=900_500)


def test_learning_is_a_dirichlet_posterior() -> None:
    base = Twin(paths_writer(), strength=4.0)
    (way, _), (result, _), *_ = base.decisions(PROMPT, REPLY)
    learned = base.learn([(PROMPT, REPLY)] * 3)
    (way2, _), (result2, _), *_ = learned.decisions(PROMPT, REPLY)
    assert way2.distribution()["C"] == pytest.approx((4 * way.distribution()["C"] + 3) / 7)
    assert result2.distribution()[" 5"] == pytest.approx((4 * result.distribution()[" 5"] + 3) / 7)
    assert sum(result2.distribution().values()) == pytest.approx(1.0)
    assert base.decisions(PROMPT, REPLY)[0][0].distribution() == way.distribution()  # the base is as it was


def test_what_is_learned_in_one_problem_counts_in_another() -> None:
    base = Twin(paths_writer())
    longer = (Message("user", "paths 2: 46 1) +8 2) +8"),)  # 46 + 8 = 54
    text = "1) A 46 +8 54\n2) C 54 +8 1\nAnswer: 1"

    def of(twin: Twin) -> float:
        choices = [choice for choice, _ in twin.decisions(PROMPT, "1) C 54 +8 1\nAnswer: 1")]
        return dict(choices[1].distribution())[" 1"]

    assert of(base.learn([(longer, text)] * 5)) > of(base) or of(base) > 0.9


def test_decisions_stop_where_a_text_leaves_the_language() -> None:
    base = Twin(paths_writer())
    assert len(base.decisions(PROMPT, "1) C 54 banana")) == 1
    assert base.decisions((Message("user", "hello"),), "x") == []
    with pytest.raises(ValueError, match="hello"):
        base.answer((Message("user", "hello"),), random.Random(0))


def test_votes_beat_greedy_and_coverage_beats_votes() -> None:
    sim = simulation()
    found = sim.player.ladder(sim.base, sim.test(), 12)
    assert found.passed > found.majority + 0.05 > found.greedy + 0.05
    assert found.majority > found.greedy + 0.03
    assert mean(rate < 0.1 for rate in found.rates) > 0.05


def test_right_answers_teach_and_wrong_ones_harm() -> None:
    sim = simulation(400)

    def greedy(policy: Twin) -> float:
        return mean(sim.player.right(p, policy.answer(p.prompt, sim.player.rng, 0.0)) for p in sim.test())

    train = sim.train(400)
    (right,) = sim.player.self_train(sim.base, train)
    (wrong,) = sim.player.self_train(sim.base, train, label="wrong")
    assert greedy(right) > greedy(sim.base) + 0.02
    assert greedy(wrong) < greedy(sim.base) - 0.02


def test_labels_of_the_majority_narrow_what_is_found() -> None:
    sim = simulation(400)
    *_, last = sim.player.self_train(sim.base, sim.train(150), label="majority", rounds=3, carry=True)
    before, after = (sim.player.ladder(policy, sim.test(), 8) for policy in (sim.base, last))
    assert after.passed < before.passed
    assert after.sample > before.sample - 0.02


def test_only_a_critique_that_knows_helps() -> None:
    sim = simulation(2000)
    drafts = sim.drafts()
    blind = flips(sim, drafts, "none", sim.base)
    true = flips(sim, drafts, "true", sim.base)
    assert abs(blind[0]) < 0.05
    assert true[0] > 0.25
    trained = sim.base.learn(sim.player.critic_lessons(sim.base, sim.train(500)))
    assert location_f1(sim.player, trained, drafts) > location_f1(sim.player, sim.base, drafts) + 0.03


def test_a_forced_wait_fixes_more_than_it_spoils() -> None:
    fixed, spoiled = forced_waits(simulation(400))
    assert 0.25 < fixed < 0.65
    assert spoiled < 0.12


def test_marks_of_steps_guide_a_beam_where_problems_are_long() -> None:
    sim = simulation()
    sample, best, vote, beam = searched(sim, sim.test(8)[:120])
    assert beam > sample
    assert best > sample - 0.05
    assert vote > 0


def test_a_demonstration_of_good_ways_raises_samples() -> None:
    sim = simulation()
    shown = sim.family.good_example()
    rng = random.Random(0)

    def accuracy(*before: Message) -> float:
        return mean(
            sim.player.right(p, sim.base.answer((*before, *p.prompt), rng)) for p in sim.test() for _ in range(2)
        )

    assert accuracy(*shown) > accuracy()


def test_a_choice_of_a_twin_is_a_choice() -> None:
    reply = Twin(paths_writer()).reply(PROMPT)
    assert reply is not None
    assert next(reply) == "1) "
    assert isinstance(reply.send("1) "), Choice)
