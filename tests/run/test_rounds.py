"""Rounds as data for the journal and as lines for the user."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from selftaught.control.gate import GateDecision
from selftaught.journal import Usage
from selftaught.measure import Interval, Measurement
from selftaught.run.rounds import metrics_line, round_key, round_lines, round_payload, truncation_line, wrong_ends_line

HALF = Measurement("p", "dev", "policy", 1, 4, 0.5, Interval(0.15, 0.85), scores={"a": 1, "b": 1, "c": 0, "d": 0})


def payload(**facts: Any) -> dict[str, Any]:
    return round_payload(2, {"policy": "p", "measurement": HALF, **facts}, Usage(1, 2, 3, 4))


def test_a_round_is_plain_data_and_survives_json() -> None:
    data = payload(records=7, decision=GateDecision(True, "promoted: dev +0.1"), pass_at={"1": 0.5})
    assert json.loads(json.dumps(data)) == data
    assert (data["round"], data["policy"], data["records"], data["n"]) == (2, "p", 7, 4)
    assert (data["accuracy"], data["ci95"], data["pass_at"]) == (0.5, [0.15, 0.85], {"1": 0.5})
    assert (data["promoted"], data["reason"]) == (True, "promoted: dev +0.1")
    assert data["tokens"] == {"prompt": 1, "generated": 2, "judge": 3, "trained": 4}


def test_a_round_without_a_gate_keeps_its_champion_and_one_without_training_has_no_records() -> None:
    data = payload()
    assert (data["promoted"], data["reason"], data["records"]) == (False, "it is the champion already", None)


def test_truncation_is_reported_only_where_some_answer_was_cut_off() -> None:
    assert "truncation" not in payload(truncation=Counter(truncated=0, answers=9))
    data = payload(truncation=Counter(truncated=1, answers=9))
    assert data["truncation"] == {"truncated": 1, "answers": 9}
    assert "1 of 9 answers were cut off at max_tokens" in round_lines(data)


def test_the_lines_of_a_round_are_its_accuracy_its_metrics_and_its_alarms() -> None:
    data = payload(metrics={"star": {"kept": 3, "loss_before": 0.12345}}) | {"alarms": ["length: twice as long"]}
    assert round_lines(data) == [
        "round 2: dev accuracy 0.500 [0.150, 0.850] (unknown 0%), it is the champion already",
        "star: kept 3, loss before 0.123",
        "alarm: length: twice as long",
    ]


def test_the_key_of_a_round_depends_on_its_number_and_policy_alone() -> None:
    one = payload()
    assert round_key(one) == round_key(one | {"accuracy": 0.9, "reason": "another"})
    assert len({round_key(one), round_key(one | {"round": 3}), round_key(one | {"policy": "q"})}) == 3


def test_metrics_and_counts_read_well() -> None:
    assert metrics_line({}) == ""
    assert metrics_line({"pass_at_k": 2 / 3, "kept": 1234, "why": "a b"}) == "pass at k 0.667, kept 1234, why a b"
    assert truncation_line({"truncated": 1500, "answers": 2000}) == "1,500 of 2,000 answers were cut off at max_tokens"
    assert wrong_ends_line({"wrong": 2, "records": 5}).startswith("2 of 5 records teach an end of sequence after")
