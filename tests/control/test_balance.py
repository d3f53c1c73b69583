"""The balance controller against brute force, closed forms and a synthetic policy whose best setting is known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from scripted_world import judged
from selftaught.control.balance import ScoredAttempt, balance_scores, dynamics, first_samples, group_by_problem, select
from selftaught.control.tuning import BalanceTuner, SamplingConfig, halving_grid, linspace
from selftaught.errors import BadInput
from selftaught.records import Problem, Verdict
from selftaught.testing import sums

PROBLEMS = sums(16)


def answer(problem: Problem, text: str, right: bool, reward: float, name: str = "") -> ScoredAttempt:
    attempt = judged(problem, "1", Verdict.RIGHT if right else Verdict.WRONG, name=name or f"{problem.id}/{text}")
    return ScoredAttempt(replace(attempt, text=text), reward)


Drawn = list[list[tuple[int, bool, float]]]  # for each problem: which text, whether it is right, its reward

drawn = some.lists(
    some.lists(some.tuples(some.integers(0, 3), some.booleans(), some.sampled_from([0.0, 0.5, 1.0])), max_size=6),
    min_size=1, max_size=4,
)  # fmt: skip


def groups_of(drawn: Drawn) -> dict[str, list[ScoredAttempt]]:
    """Equal texts at a problem share a verdict and a reward, as they would."""
    groups: dict[str, list[ScoredAttempt]] = {}
    for problem, answers in zip(PROBLEMS, drawn, strict=False):
        known: dict[int, tuple[bool, float]] = {}
        groups[problem.id] = [
            answer(problem, str(text), *known.setdefault(text, (right, reward)), name=f"{problem.id}/{i}")
            for i, (text, right, reward) in enumerate(answers)
        ]
    return groups


@given(drawn, some.sampled_from([-1.0, 0.0, 0.5, 0.99, 1.0]), some.integers(1, 4), some.integers(1, 3), some.booleans())
@settings(max_examples=200, deadline=None)
def test_scores_are_those_of_the_formula_by_brute_force(
    drawn: Drawn, threshold: float, target: int, size: int, reference: bool
) -> None:
    """The loop of the authors' code: take more and more of the best answers, equal ones included, then drop those."""
    groups = groups_of(drawn)
    chosen: dict[str, list[tuple[str, bool]]] = {}
    for cap in range(1, 9):
        chosen = {}
        for problem, group in groups.items():
            rows = [(one.reward, one.attempt.text, one.attempt.right) for one in group]
            rows += [(1.0, "the reference", True)] if reference else []
            taken = [row for row in sorted(rows, key=lambda row: -row[0]) if row[0] > threshold][:cap]
            chosen[problem] = list(dict.fromkeys((text, right) for _, text, right in taken))
        if sum(map(len, chosen.values())) >= size * len(groups):
            break
    for problem, score in balance_scores(groups, threshold, target, size, reference=reference).items():
        right = sum(good for _, good in chosen[problem])
        assert score == pytest.approx(min(right / target, 1) * right / len(chosen[problem]) if chosen[problem] else 0.0)
        assert 0 <= score <= 1
    found = select(groups, threshold, size, reference=reference)
    for problem, answers in found.items():
        assert [one.attempt.text for one in answers] == [t for t, _ in chosen[problem] if t != "the reference"]
    assert all(chosen.values()) or not reference or threshold >= 1  # never without a selection


def test_a_reference_makes_wrong_selections_cost_something_where_nothing_is_right() -> None:
    problem = PROBLEMS[0]
    wrong = [answer(problem, f"w{i}", False, 0.3) for i in range(3)]
    assert balance_scores({problem.id: wrong}, 0.2, 8, 6) == balance_scores({problem.id: wrong}, 0.5, 8, 6)
    assert balance_scores({problem.id: wrong}, 0.2, 8, 6, reference=True) == {problem.id: pytest.approx(1 / 8 / 4)}
    assert balance_scores({problem.id: wrong}, 0.5, 8, 6, reference=True) == {problem.id: pytest.approx(1 / 8)}
    seen = dynamics({problem.id: wrong}, 0.2, 8, 6, reference=True)
    assert (seen.selected, seen.precision, seen.pass_at_k) == (3, 0.0, 0.0)  # of the attempts alone


def test_the_best_are_taken_before_equal_ones_are_dropped() -> None:
    a, b = PROBLEMS[:2]
    groups = {
        a.id: [answer(a, "x", True, 1.2, name=f"x{i}") for i in range(3)] + [answer(a, "y", True, 1.0)],
        b.id: [answer(b, str(i), True, 1.0) for i in range(4)],
    }
    assert [[one.attempt.text for one in found] for found in select(groups, 0.5, 1.5).values()] == [["x"], ["0", "1"]]
    assert [len(found) for found in select(groups, 0.5, 2).values()] == [1, 3]
    assert [len(found) for found in select(groups, 0.5, 3).values()] == [2, 4]


def test_wrong_selections_lower_the_score_and_wanting_more_does_too() -> None:
    problem = PROBLEMS[0]
    right = [answer(problem, f"r{i}", True, 1.0) for i in range(2)]
    wrong = answer(problem, "w", False, 0.2)
    assert balance_scores({problem.id: right}, 0.0, 2) == {problem.id: 1.0}
    assert balance_scores({problem.id: [*right, wrong]}, 0.0, 3) == {problem.id: pytest.approx(2 / 3 * 2 / 3)}
    assert balance_scores({problem.id: right}, 0.0, 4) == {problem.id: 0.5}
    assert balance_scores({problem.id: [right[0], right[0]]}, 0.0, 2) == {problem.id: 0.5}  # the same text twice
    assert balance_scores({problem.id: [wrong]}, 0.5, 2) == {problem.id: 0.0}


def test_easy_problems_do_not_crowd_out_hard_ones() -> None:
    easy, hard = PROBLEMS[:2]
    groups = {easy.id: [answer(easy, str(i), True, 1.0) for i in range(10)], hard.id: [answer(hard, "a", True, 1.0)]}
    assert [len(answers) for answers in select(groups, 0.5, 2).values()] == [3, 1]  # 4 wanted: 2 would make 3


def test_dynamics_of_a_small_example() -> None:
    a, b = PROBLEMS[:2]
    groups = {
        a.id: [
            answer(a, "x", True, 1.0),
            answer(a, "x", True, 1.0),
            answer(a, "y", True, 0.9),
            answer(a, "z", False, 0),
        ],
        b.id: [
            answer(b, "x", True, 0.4),
            answer(b, "y", False, 0.6),
            answer(b, "y", False, 0.6),
            answer(b, "z", False, 0),
        ],
    }
    seen = dynamics(groups, 0.5, 2)
    assert (seen.pass_at_k, seen.pass_at_k_s, seen.distinct_right) == (1.0, 0.5, 1.5)
    assert seen.diversity == 3 / 4
    assert seen.precision == pytest.approx(2 / 3)  # x and y of the first, y of the second
    assert (seen.best_of_k, seen.reward_gap) == (0.5, 0.5)
    assert seen.selected == 1.5
    # the best three are taken: twice x and y of the first, twice y of the second
    assert seen.balance_score == pytest.approx((1.0 + 0.0) / 2)


class Synthetic:
    """A policy that is right less often the hotter it is, and says different things more often: best in between."""

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.draws = seed, 0

    def __call__(self, problems: Sequence[Problem], temperature: float, n: int) -> list[ScoredAttempt]:
        found = []
        for problem in problems:
            rng = random.Random(f"{self.seed}/{problem.id}/{temperature}")
            for i in range(n):
                right = rng.random() < 1.1 - temperature
                text = f"{right}{rng.randrange(max(1, round(8 * temperature**2)))}"
                found.append(answer(problem, text, right, float(right), name=f"{problem.id}/{temperature}/{i}"))
        self.draws += len(problems) * n
        return found


GRID = linspace(0.1, 0.8, 8)


@pytest.mark.parametrize("seed", range(5))
def test_halving_finds_nearly_the_best_of_the_whole_grid_at_half_the_cost(seed: int) -> None:
    probe, target = sums(64), 4
    balance = BalanceTuner(GRID, (16,), (0.5,), target)
    policy = Synthetic(seed)
    choice = balance.choose(probe, policy)
    cost = policy.draws
    whole = {t: fmean(balance_scores(group_by_problem(policy(probe, t, 16)), 0.5, target).values()) for t in GRID}
    assert cost == 4 * 64 * 16
    assert whole[choice.config.temperature] >= max(whole.values()) - 0.05
    assert choice.score == whole[choice.config.temperature]  # on the whole probe
    assert {problems for problems, _ in choice.tried.values()} == {16, 32, 64}
    assert list(choice.groups) == [problem.id for problem in probe]


def test_near_an_earlier_choice_only_neighbours_take_part() -> None:
    policy = Synthetic()
    choice = BalanceTuner(GRID, (8,), (0.5,), 4).choose(PROBLEMS, policy, SamplingConfig(0.5, 8, 0.5))
    assert sorted(choice.tried) == pytest.approx([0.4, 0.5, 0.6])
    assert policy.draws == 2.5 * len(PROBLEMS) * 8
    assert sorted(BalanceTuner(GRID, (1,), (0.5,), 4).choose(PROBLEMS, policy, SamplingConfig(0.1, 1, 0.5)).tried) == [
        0.1,
        0.2,
    ]


def test_more_samples_are_drawn_only_where_they_help() -> None:
    def same(problems: Sequence[Problem], temperature: float, n: int) -> list[ScoredAttempt]:
        return [
            answer(p, str(min(i, 1)), True, 1.0, name=f"{p.id}{temperature}{i}") for p in problems for i in range(n)
        ]

    balance = BalanceTuner((1.0,), halving_grid(16, 2), (0.5,), 2)
    assert balance.choose(PROBLEMS, same).config.samples == 2

    def late(problems: Sequence[Problem], temperature: float, n: int) -> list[ScoredAttempt]:
        return [
            answer(p, str(i), i >= 8, float(i >= 8), name=f"{p.id}{temperature}{i}") for p in problems for i in range(n)
        ]

    assert balance.choose(PROBLEMS, late).config.samples == 16


def test_of_equal_thresholds_the_strictest_is_taken_and_impure_ones_are_not() -> None:
    def graded(problems: Sequence[Problem], temperature: float, n: int) -> list[ScoredAttempt]:
        del temperature, n
        return [answer(p, str(i), i > 0, (0.1, 0.9, 1.2, 1.2)[i]) for p in problems for i in range(4)]

    balance = BalanceTuner((1.0,), (4,), (0.0, 0.5, 1.0, 1.5), 2)
    assert balance.choose(PROBLEMS, graded).config.threshold == 1.0  # two are enough: only the best of the right
    assert replace(balance, target=3).choose(PROBLEMS, graded).config.threshold == 0.5


def test_small_cases_and_wrong_uses() -> None:
    policy = Synthetic()
    assert BalanceTuner((0.3,), (2,), (0.5,), 1).choose(PROBLEMS[:1], policy).config == SamplingConfig(0.3, 2, 0.5)
    assert halving_grid(64, 8) == (8, 16, 32, 64)
    assert halving_grid(3, 8) == (3,)
    assert linspace(0.5, 1.2, 8) == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2])
    assert linspace(0.5, 1.2, 1) == (0.5,)
    assert first_samples({"a": [1, 2, 3]}, 2) == {"a": [1, 2]}  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match="nothing to choose from"):
        BalanceTuner((), (1,), (0.5,))
    with pytest.raises(BadInput, match="at least 1, got target=0"):
        BalanceTuner((1.0,), (1,), (0.5,), 0)
    with pytest.raises(BadInput, match="no problems to probe"):
        BalanceTuner((1.0,), (1,), (0.5,)).choose([], policy)
