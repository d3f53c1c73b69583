"""What each check says of synthetic outcomes, where it holds and where it does not."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from calibration_outcomes import RIGHT, attempt_of, problem_of, samples_with, scores

from selftaught.measure import expected_calibration_error
from selftaught.records import Problem, Verdict
from selftaught.run.solver import SolverResult
from selftaught.tasks import Task, load_task
from selftaught.testing import make_task
from selftaught.worlds.kit.calibration import base_model, controls, critics, judges, search_check, training
from selftaught.worlds.kit.calibration import training_data as data
from selftaught.worlds.kit.calibration.figures import Figure, Finding
from selftaught.worlds.kit.calibration.lab import NotApplicable
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS
from selftaught.worlds.kit.calibration.table import spec
from selftaught.worlds.kit.calibration.writer_check import Reading, writer_figures

N = 400


def holds(number: int, figures: dict[str, Figure]) -> bool:
    return Finding(spec(number), figures).holds


def failing(number: int, figures: dict[str, Figure]) -> list[str]:
    finding = Finding(spec(number), figures)
    return [name for name in spec(number).wanted if not finding.condition(name)]


def drawn(p_right: Sequence[float], count: int, wrong: int, seed: int = 0) -> list[list[str | None]]:
    """Answers of problems with these chances of a right one; wrong ones are one of `wrong` values."""
    rng = random.Random(seed)
    return [[RIGHT if rng.random() < p else f"w{rng.randrange(wrong)}" for _ in range(count)] for p in p_right]


def spread_out(n: int = N) -> list[float]:
    """Chances over problems as of a base model: from nearly never to nearly always."""
    return [(i + 0.5) / n for i in range(n)]


def greedily(answers: Sequence[Sequence[str | None]], share: float) -> list[float]:
    """Greedy scores that are right on this share of the problems, the easiest."""
    order = sorted(range(len(answers)), key=lambda i: -sum(a == RIGHT for a in answers[i]))
    easy = set(order[: round(share * len(answers))])
    return [float(i in easy) for i in range(len(answers))]


def readings(gap: float, off: float, count: int = 100) -> list[Reading]:
    return [Reading("result:sure", gap, off) for _ in range(count)] + [Reading("way", gap, math.nan)] * count


def test_1_a_model_is_its_writer_where_it_loses_little_and_no_skill_is_off() -> None:
    assert holds(1, writer_figures(readings(0.02, 0.01)))
    assert failing(1, writer_figures(readings(0.04, 0.01))) == ["KL(writer || model), nats a decision"]
    assert failing(1, writer_figures(readings(0.02, -0.03))) == ["accuracy by skill, largest difference"]


def test_1_the_worst_skill_counts_and_rare_ones_are_not_judged() -> None:
    blind, rare = [Reading("result:blind", 0.0, -0.05)] * 60, [Reading("rare", 0.0, 0.9)] * 9
    found = writer_figures([*readings(0.0, 0.0), *blind, *rare])
    assert found["accuracy by skill, largest difference"].value == pytest.approx(0.05)
    assert "accuracy, rare: model - writer" not in found
    assert found["KL, rare"].value == 0


def test_2_and_3_the_ladder_holds_where_errors_are_dispersed() -> None:
    answers = drawn(spread_out(), 16, wrong=50)
    good = samples_with(answers, greedily(answers, 0.55))
    assert holds(3, base_model.ladder_figures(good))
    assert base_model.ladder_figures(good)["pass@16 - majority@16"].value > 0.05


def test_2_and_3_the_ladder_fails_where_greedy_is_the_vote() -> None:
    likely = [0.2 + 0.8 * p for p in spread_out()]
    answers = drawn(likely, 16, wrong=1)  # one wrong answer takes all that is wrong
    voted = samples_with(answers).majority(16)
    same = samples_with(answers, list(voted.values()))
    assert failing(3, base_model.ladder_figures(same)) == ["majority@16 - greedy"]
    figure = {"majority@16 - greedy": base_model.ladder_figures(same)["majority@16 - greedy"]}
    assert not holds(2, figure)


def at_temperatures(p_right: Sequence[float], wrongs: Sequence[int]) -> list[base_model.Samples]:
    """Samples at rising temperatures: problems have a chance that spreads less, the hotter they are."""
    found = []
    for t, (mean, wrong) in enumerate(zip(p_right, wrongs, strict=True)):
        width = 0.48 - 0.08 * t
        chances = [min(1, max(0, mean + width * (2 * i / N - 1))) ** 1 for i in range(N)]
        found.append(samples_with(drawn(chances, 8, wrong, seed=t)))
    return found


def test_4_temperature_trades_accuracy_for_coverage() -> None:
    good = base_model.temperature_figures(at_temperatures((0.52, 0.50, 0.47, 0.43, 0.36), (1, 3, 9, 9, 9)))
    assert failing(4, good) == []
    flat = base_model.temperature_figures(at_temperatures((0.5,) * 5, (3,) * 5))
    assert "pass@1 at the lowest - at the highest" in failing(4, flat)
    turned = base_model.temperature_figures(at_temperatures((0.36, 0.43, 0.47, 0.50, 0.52), (9, 9, 9, 3, 1)))
    assert {"pass@1 at the lowest - at the highest", "largest step against the trend"} <= set(failing(4, turned))


def test_5_difficulty_is_spread_without_the_noise_of_sampling() -> None:
    wide = samples_with(drawn(spread_out(), 16, wrong=9))
    assert holds(5, base_model.difficulty_figures(wide))
    assert base_model.difficulty_figures(wide)["SD of p(right)"].value == pytest.approx(12**-0.5, abs=0.02)
    same = samples_with(drawn([0.5] * N, 16, wrong=9))
    assert base_model.difficulty_figures(same)["SD of p(right)"].value < 0.05  # 0.125 of the shares themselves
    assert "SD of p(right)" in failing(5, base_model.difficulty_figures(same))


def test_6_the_votes_calibration_is_that_of_its_winners() -> None:
    found = samples_with([["7", "7", "7", "8"], ["8", "8", "7", "7"], ["7", "7", "7", "7"], [None, "8", "9", "8"]])
    expected = expected_calibration_error([0.75, 0.5, 1.0, 0.5], [True, False, True, False])
    assert base_model.vote_calibration(found).value == pytest.approx(expected)


def gains(start: float, first: float, second: float, seeds: int = 3) -> list[list[dict[str, float]]]:
    rng = random.Random(4)
    luck = [[rng.random() for _ in range(N)] for _ in range(seeds)]
    return [[scores([float(u < p) for u in one]) for p in (start, first, second)] for one in luck]


def test_7_gains_of_rejection_sampling_diminish() -> None:
    assert holds(7, training.gain_figures(gains(0.40, 0.55, 0.60)))
    assert failing(7, training.gain_figures(gains(0.40, 0.45, 0.46))) == ["round 1 - start"]
    assert failing(7, training.gain_figures(gains(0.40, 0.55, 0.70))) == ["second gain / first gain"]
    assert failing(7, training.gain_figures(gains(0.40, 0.55, 0.50))) == ["round 2 - round 1"]


def of_training(before: Sequence[float], after: Sequence[float]) -> training.Trained:
    pair = samples_with(drawn(before, 32, 9)), samples_with(drawn(after, 32, 9, seed=1))
    return training.Trained([], samples=pair)


def test_8_rejection_sampling_sharpens_more_than_it_covers() -> None:
    halves = [0.0] * (N // 4) + [0.4] * (3 * N // 4)
    sharper = [0.0] * (N // 4) + [0.7] * (3 * N // 4)
    assert holds(8, training.sharpening_figures([of_training(halves, sharper)] * 2))
    wider = [0.3] * N  # what never was right now is
    assert len(failing(8, training.sharpening_figures([of_training(halves, wider)] * 2))) == 2


def changed(greedy: tuple[float, float], other: tuple[float, float], alarms: tuple[str, ...] = ()) -> data.Changed:
    (a, b), (c, d) = (gains(p, q, q, 1)[0][:2] for p, q in (greedy, other))
    return data.Changed((a, b), (c, d), alarms)


def test_9_majority_labels_help_up_to_the_vote_and_cost_coverage() -> None:
    vote = gains(0.60, 0.6, 0.6, 1)[0][0]
    assert holds(9, data.majority_figures([changed((0.4, 0.55), (0.8, 0.7))] * 3, vote))
    beyond = data.majority_figures([changed((0.4, 0.65), (0.8, 0.7))] * 3, vote)
    assert failing(9, beyond) == ["greedy, last round - start's majority@64"]
    useless = data.majority_figures([changed((0.4, 0.41), (0.8, 0.79))] * 3, vote)
    assert failing(9, useless) == ["greedy, last round - start", "pass@8, last round - start"]


def test_10_bad_filters_do_not_help() -> None:
    worse = [(old, new) for old, new in [gains(0.4, 0.3, 0.3, 1)[0][:2]] * 3]
    collapsed = [changed((0.4, 0.4), (0.6, 0.4), ("diversity: fell",))] * 3
    assert holds(10, data.filter_figures(collapsed, worse))
    improved = [changed((0.4, 0.5), (0.6, 0.6))] * 3
    assert len(failing(10, data.filter_figures(improved, [(b, a) for a, b in worse]))) == 4


def twice(first: Sequence[bool], second: Sequence[bool]) -> list[SolverResult]:
    found = []
    for number, both in enumerate(zip(first, second, strict=True)):
        turns = tuple(attempt_of(problem_of(number), RIGHT if ok else "8", i) for i, ok in enumerate(both))
        found.append(SolverResult(turns[1], 4, turns))
    return found


@pytest.mark.parametrize(("fixed", "spoiled", "expected"), [(10, 12, True), (40, 10, False), (10, 40, False)])
def test_11_blind_correction_changes_as_much_for_the_worse(fixed: int, spoiled: int, expected: bool) -> None:
    first = [False] * 200 + [True] * 200
    second = [i < fixed for i in range(200)] + [i >= spoiled for i in range(200)]
    found = critics.correction_figures(twice(first, second))
    assert holds(11, found) is expected
    assert found["second answer - first answer"].value == pytest.approx((fixed - spoiled) / 400)


def critiqued(own: float, trained: float, true: float, names: tuple[float, float] = (0.2, 0.8)) -> critics.Critiques:
    """Drafts of which 40 % are right, after revisions by three critics; critics name the first error this often."""
    drafts = [attempt_of(problem_of(i), RIGHT if i < 0.4 * N else "8", text=f"draft {i}") for i in range(N)]
    steps = {draft.id: 2 for draft in drafts if draft.verdict is Verdict.WRONG}
    texts = [["step 2) x" if i % 10 < 10 * share else "step 1) x" for i in range(N)] for share in names]
    written = {
        name: [attempt_of(draft.problem, None, text=text) for draft, text in zip(drafts, some, strict=True)]
        for name, some in zip(("own", "trained"), texts, strict=True)
    }
    shares = {"own": own, "trained": trained, "true": true}
    revised = {name: scores([float(i < p * N) for i in range(N)]) for name, p in shares.items()}
    return critics.Critiques(drafts, steps, written, revised)


def test_12_revision_is_as_good_as_its_critique() -> None:
    assert holds(12, critics.revision_figures(critiqued(0.42, 0.55, 0.75)))
    assert failing(12, critics.revision_figures(critiqued(0.42, 0.55, 0.60))) == ["true critique: revised - draft"]
    assert failing(12, critics.revision_figures(critiqued(0.55, 0.42, 0.75))) == ["trained - own critique"]
    found = critiqued(0.42, 0.55, 0.75)
    without = replace(found, revised={name: found.revised[name] for name in ("own", "trained")})
    assert len(failing(12, critics.revision_figures(without))) == 2  # not measured is not there


def test_13_locating_is_learned() -> None:
    assert holds(13, critics.location_figures(critiqued(0.4, 0.4, 0.4)))
    assert not holds(13, critics.location_figures(critiqued(0.4, 0.4, 0.4, (0.7, 0.8))))


def test_13_f1_of_locations() -> None:
    """Of three drafts with an error, one is located; one is missed, one misplaced; a sound one is accused."""
    assert critics.location_f1([(2, 2), (None, 3), (1, 4), (1, None)]) == pytest.approx(2 * 1 / (3 + 3))
    assert critics.location_f1([(None, None)]) == 0.0


def solved(right: int, tokens: int) -> list[SolverResult]:
    return [SolverResult(attempt_of(problem_of(i), RIGHT if i < right else "8"), tokens) for i in range(N)]


def solution_and_slip() -> tuple[Task, Problem, str, str]:
    """A task, a problem of it, its solution, and the solution with a wrong result in step 2."""
    task = load_task("tiny:level=3", train=1, dev=0, test=0, seed=CALIBRATION_SEEDS[0])
    problem = task.train[0]
    solution = str(problem.meta["solution"])
    first, second, *rest = solution.split("\n")
    kept, _, result = second.rpartition(" ")
    return task, problem, solution, "\n".join([first, f"{kept} {(int(result) + 1) % 61}", *rest])


def test_14_a_reward_model_learns_steps_up_to_the_first_wrong_one() -> None:
    task, problem, solution, slip = solution_and_slip()
    learned = [search_check.scored_steps(task, attempt_of(problem, RIGHT, text=text)) for text in (solution, slip)]
    assert [one and one.scores for one in learned] == [(1.0,) * len(task.steps.split(solution)), (1.0, 0.0)]
    assert learned[1]
    assert "".join(learned[1].steps).strip() == "\n".join(slip.split("\n")[:2])


def test_14_search_pays_on_long_problems_alone() -> None:
    long = search_check.search_figures("long", solved(220, 40), solved(180, 42))
    short = search_check.search_figures("short", solved(300, 20), solved(305, 20))
    assert holds(14, long | short)
    assert failing(14, long) == ["short: beam - best-of-N"]
    level = search_check.search_figures("long", solved(180, 40), solved(180, 40))
    assert failing(14, level | short) == ["long: beam - best-of-N"]
    pays = search_check.search_figures("short", solved(330, 20), solved(280, 20))
    assert failing(14, long | pays) == ["short: beam - best-of-N"]


def test_15_preferences_teach_as_much_as_demonstrations() -> None:
    assert holds(15, data.preference_figures([tuple(one) for one in gains(0.4, 0.5, 0.55)]))  # type: ignore[misc]
    assert not holds(15, data.preference_figures([tuple(one) for one in gains(0.4, 0.5, 0.45)]))  # type: ignore[misc]


def test_15_a_right_answer_is_preferred_to_a_wrong_step() -> None:
    task, problem, solution, slip = solution_and_slip()
    right, wrong = attempt_of(problem, RIGHT, text=solution), attempt_of(problem, "8", text=slip)
    (pair,) = data.step_pairs(task, [wrong, right])
    assert (pair.chosen, pair.rejected, pair.ends) == (solution, "\n".join(slip.split("\n")[:2]), False)
    assert pair.attempts == (right.id, wrong.id)
    head, _, _ = solution.rpartition(" ")  # only the answer is wrong, of which no step tells
    assert data.to_first_error(task, attempt_of(problem, "8", text=f"{head} 99")) == f"{head} 99"
    with pytest.raises(NotApplicable, match="no verdicts on steps"):
        data.step_pairs(make_task(), [attempt_of(problem, RIGHT), attempt_of(problem, "8")])


@pytest.mark.parametrize(("longer", "expected"), [(0.35, True), (0.25, False)])
def test_16_gains_transfer_to_longer_problems(longer: float, expected: bool) -> None:
    core, far = gains(0.4, 0.55, 0.6), gains(0.2, longer, longer)
    found = training.transfer_figures([training.Trained(a, b) for a, b in zip(core, far, strict=True)])
    assert holds(16, found) is expected


def judged(accept_right: float, accept_wrong: float) -> list[list[tuple[bool, bool]]]:
    rng = random.Random(2)
    rows = [rng.random() < 0.5 for _ in range(4 * N)]
    pairs = [(right, rng.random() < (accept_right if right else accept_wrong)) for right in rows]
    return [pairs[i : i + 4] for i in range(0, len(pairs), 4)]


def test_17_checking_is_easier_than_solving_where_it_can_be() -> None:
    knows, guesses = judged(0.9, 0.3), judged(0.7, 0.7)
    assert holds(17, judges.gap_figures("checkable", knows) | judges.gap_figures("look-up only", guesses))
    both = judges.gap_figures("checkable", guesses) | judges.gap_figures("look-up only", knows)
    assert len(failing(17, both)) == 2


def test_17_the_gap_is_of_what_is_accepted() -> None:
    assert judges.accepted_gap([(True, True), (False, True), (True, False), (False, False)]) == 0.0
    assert judges.accepted_gap([(True, True), (True, True), (False, False), (False, False)]) == 0.5
    assert judges.accepted_gap([(True, False), (False, False)]) == 0.0


def looked(fixed: float, spoiled: float) -> list[tuple[bool, bool]]:
    wrong = [(False, i < fixed * 200) for i in range(200)]
    return wrong + [(True, i >= spoiled * 200) for i in range(200)]


def test_18_a_second_look_fixes_more_than_it_spoils_if_the_text_has_any() -> None:
    good, control = judges.look_figures("", looked(0.45, 0.05)), "without it in the text: "
    assert holds(18, good | judges.look_figures(control, looked(0.1, 0.4)))
    assert len(failing(18, good | judges.look_figures(control, looked(0.4, 0.1)))) == 1
    bad = judges.look_figures("", looked(0.1, 0.4)) | judges.look_figures(control, looked(0.1, 0.4))
    assert failing(18, bad) == ["fixed of wrong - spoiled of right"]
    assert failing(18, good) == ["without it in the text: fixed - spoiled"]


def test_20_the_share_called_reproduced_is_counted() -> None:
    assert holds(20, controls.control_figures([True] * 10 + [False] * 190))
    assert not holds(20, controls.control_figures([True] * 11 + [False] * 189))


def test_20_a_true_effect_is_called_reproduced_and_none_is_not() -> None:
    same, better = gains(0.4, 0.4, 0.5, 6), gains(0.4, 0.4, 0.5, 6)
    assert controls.reproduced([one[2] for one in better], [one[0] for one in better])
    assert not controls.reproduced([one[1] for one in same], [one[0] for one in same])
    assert not controls.reproduced([one[0] for one in better], [one[2] for one in better])


def test_20_two_draws_are_of_different_samples() -> None:
    found = samples_with([["7", "8"]] * 300)
    new, old = controls.two_draws(found, random.Random(0))
    assert all({new[name], old[name]} == {0.0, 1.0} for name in new)
    assert 0.3 < sum(new.values()) / 300 < 0.7
