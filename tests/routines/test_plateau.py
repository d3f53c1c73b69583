"""Figures of a plateau, from a finished run on scripted sums."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftaught.check.baselines import run_system
from selftaught.method import find
from selftaught.routines.plateau import late_gain, pass_at_k_change
from selftaught.testing import make_run, make_task


def test_late_gain_and_the_change_of_pass_at_k_are_those_of_the_policies_samples(tmp_path: Path) -> None:
    with make_run(tmp_path, task=make_task(train=8, dev=4, test=40)) as run:
        system = run_system(run, find("rest-em"), {"rounds": 2, "samples": 4})
        gain, change = late_gain(system, 1), pass_at_k_change(system, 3, 30)
        whole = late_gain(system, 9)
        samples = [p for _, _, p, _ in run.journal.effects("sample")]
        answers = {p.id: p.reference for p in run.task.test}
        names = [run.base.version, *(row["policy"] for row in run.history)]

    def right(policy: str, temperature: float) -> dict[str, bool]:
        found: dict[str, bool] = {}
        for p in samples:
            if p["policy"] == policy and p["problem"] in answers and p["sampling"]["temperature"] == temperature:
                hit = p["text"].endswith(f"Answer: {answers[p['problem']]}")
                found[p["problem"]] = found.get(p["problem"], False) or hit
        return found

    accuracy = [sum(right(name, 0.0).values()) / 40 for name in names]
    assert gain == pytest.approx(accuracy[2] - accuracy[1])
    assert whole == pytest.approx(accuracy[2] - accuracy[0])
    assert whole > 0.1
    last, middle = right(names[2], 1.0), right(names[1], 1.0)
    assert len(last) == len(middle) == 30
    assert change == pytest.approx((sum(last.values()) - sum(middle.values())) / 30)
