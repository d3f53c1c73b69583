import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from selftaught.errors import BadInput
from selftaught.measure import (
    Measurement,
    compare,
    describe_comparison,
    mcnemar_exact,
    measure_attempts,
    measure_majority,
    paired_bootstrap,
    sign_flip,
    wilson,
)
from selftaught.records import Attempt, Feedback, Verdict, as_prompt
from selftaught.samples import Sample

RIGHT, WRONG, UNKNOWN = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def attempt(problem, number, answer, verdict, tokens=3):
    return Attempt(
        id=f"{problem}-{number}",
        problem=problem,
        prompt=as_prompt("2 + 2?"),
        text=f"Answer: {answer}",
        answer=answer,
        sample=Sample(f"Answer: {answer}", tuple(range(tokens)), (-0.1,) * tokens, policy="policy-0"),
        feedback=(Feedback(verdict, source="test"),),
    )


def greedy(verdicts, name="old"):
    """One attempt for each problem."""
    tried = {f"p{i}": [attempt(f"p{i}", 0, "4", v)] for i, v in enumerate(verdicts)}
    return measure_attempts(name, "dev", "sample", tried, tokens=100)


SAMPLED = {
    "p0": [attempt("p0", i, "4", RIGHT, 2) for i in range(4)],
    "p1": [*(attempt("p1", i, "5", WRONG, 4) for i in range(3)), attempt("p1", 3, "6", RIGHT, 4)],
    "p2": [*(attempt("p2", i, None, UNKNOWN, 6) for i in range(2)), *(attempt("p2", i, "7", RIGHT) for i in (2, 3))],
}


def test_greedy_has_wilsons_interval_and_no_curves():
    m = greedy([RIGHT] * 3 + [WRONG] * 6 + [UNKNOWN])
    assert (m.n, m.samples, m.accuracy, m.unknown_rate) == (10, 1, 0.3, 0.1)
    assert m.ci95 == wilson(3, 10)
    assert m.pass_at == m.majority_at == {}
    assert (m.tokens, m.mean_tokens) == (100, 3)


def test_sampled_by_hand():
    m = measure_attempts("policy-0", "test", "sample", SAMPLED, tokens=999)
    assert m.scores == {"p0": 1.0, "p1": 0.25, "p2": 0.5}
    assert m.accuracy == pytest.approx((1 + 0.25 + 0.5) / 3)
    assert m.pass_at == pytest.approx({1: 1.75 / 3, 2: (1 + 1 / 2 + 5 / 6) / 3, 4: 1.0})
    # p1, two votes: 3 of 6 draws hold the right answer, tied with the wrong one; p2: only a silent pair loses.
    assert m.majority_at == pytest.approx({1: 1.75 / 3, 2: (1 + 1 / 4 + 5 / 6) / 3, 4: 2 / 3})
    assert m.unknown_rate == 2 / 12
    assert m.mean_tokens == (4 * 2 + 4 * 4 + 2 * 6 + 2 * 3) / 12
    assert m.ci95[0] < m.accuracy < m.ci95[1]


@pytest.mark.parametrize(("samples", "ks"), [(2, {1, 2}), (6, {1, 2, 4, 6}), (8, {1, 2, 4, 8})])
def test_curves_are_at_powers_of_two_and_at_all_samples(samples, ks):
    tried = {p: [attempt(p, i, str(i % 3), RIGHT if i % 3 == 0 else WRONG) for i in range(samples)] for p in "ab"}
    m = measure_attempts("p", "dev", "sample", tried, 1)
    assert set(m.pass_at) == set(m.majority_at) == ks


def test_a_measurement_survives_json():
    m = measure_attempts("policy-0", "test", "sample", SAMPLED, tokens=999)
    assert Measurement.from_json(json.loads(json.dumps(m.to_json()))) == m


def test_what_is_no_measurement_is_refused():
    good = greedy([RIGHT]).to_json()
    with pytest.raises(BadInput, match="fields accuracy"):
        Measurement.from_json({k: v for k, v in good.items() if k != "accuracy"})
    for broken in ({"ci95": 3}, {"pass_at": {"x": 1}}, {"majority_at": []}):
        with pytest.raises(BadInput, match="not a measurement"):
            Measurement.from_json({**good, **broken})


def test_ragged_or_no_attempts_are_refused():
    with pytest.raises(ValueError, match="got 2 to 4"):
        measure_attempts("p", "dev", "s", {**SAMPLED, "p2": SAMPLED["p2"][:2]}, 1)
    for nothing in ({}, {"p0": []}):
        with pytest.raises(ValueError, match="no attempts"):
            measure_attempts("p", "dev", "s", nothing, 1)


def test_majority_is_a_system_of_its_own():
    vote = measure_majority("policy-0", "test", SAMPLED, tokens=50)
    assert vote.scores == {"p0": 1.0, "p1": 0.0, "p2": 1.0}
    assert (vote.solver, vote.samples, vote.tokens) == ("majority@4", 1, 50)
    assert vote.ci95 == wilson(2, 3)
    two = measure_majority("policy-0", "test", SAMPLED, tokens=25, k=2)
    assert two.scores == pytest.approx({"p0": 1.0, "p1": 0.25, "p2": 5 / 6})
    against = compare(two, vote)
    assert (against.old, against.new) == ("policy-0 · majority@2", "policy-0 · majority@4")


def test_comparison_of_single_answers_is_mcnemars():
    old = greedy([RIGHT] * 20 + [WRONG] * 80)
    new = greedy([RIGHT] * 14 + [WRONG] * 6 + [RIGHT] * 25 + [UNKNOWN] * 55, "new")
    c = compare(old, new)
    assert (c.old, c.new, c.n, c.wins, c.losses) == ("old", "new", 100, 25, 6)
    assert c.difference == pytest.approx(0.19)
    assert (c.p_value, c.p_one_sided) == (mcnemar_exact(25, 6), mcnemar_exact(25, 6, one_sided=True))
    assert c.ci95[0] > 0
    assert (
        describe_comparison(c)
        == f"+0.190 [{c.ci95[0]:+.2f}, {c.ci95[1]:+.2f}] on 100 problems (25 won, 6 lost, p=0.00088)"
    )
    back = compare(new, old)
    assert back.difference == pytest.approx(-0.19)
    assert back.p_value == c.p_value
    assert back.p_one_sided > 0.99


def test_comparison_of_sampled_answers_flips_signs():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 40) / 4, rng.integers(1, 5, 40) / 4
    old = replace(greedy([WRONG]), samples=4, scores={f"p{i}": float(x) for i, x in enumerate(a)})
    new = replace(old, policy="new", scores={f"p{i}": float(x) for i, x in enumerate(b)})
    c = compare(old, new, seed=7)
    assert c.p_value == pytest.approx(sign_flip((b - a).tolist(), seed=1), abs=0.01)
    assert c.ci95 == pytest.approx(paired_bootstrap(a.tolist(), b.tolist()), abs=0.01)
    assert (c.wins, c.losses) == (int((b > a).sum()), int((b < a).sum()))


def test_the_order_of_problems_does_not_matter():
    m = measure_attempts("p", "dev", "s", SAMPLED, 1)
    turned = measure_attempts("p", "dev", "s", dict(reversed(SAMPLED.items())), 1)
    other = replace(m, policy="q", scores={"p0": 0.5, "p1": 0.75, "p2": 0.5})
    assert compare(m, other) == compare(turned, other)


def test_a_clear_win_is_not_reported_as_certain():
    c = compare(greedy([WRONG] * 300), greedy([RIGHT] * 300, "new"))
    assert describe_comparison(c).endswith("(300 won, 0 lost, p<0.0001)")


def test_different_problems_are_refused():
    with pytest.raises(ValueError, match="2 problems are in one of them only"):
        compare(greedy([RIGHT] * 5), greedy([RIGHT] * 3))
    with pytest.raises(ValueError, match="without scores"):
        compare(replace(greedy([RIGHT]), scores={}), replace(greedy([RIGHT]), scores={}))


def test_import_is_light():
    heavy = "numpy scipy torch transformers sympy jinja2"
    code = f"import selftaught.measure, sys; print([m for m in {heavy.split()} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
