"""Freezing a world under a version, and when that version no longer stands."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftaught.errors import BadInput
from selftaught.models import Policy, resolve
from selftaught.worlds import SyntheticWorld, synthetic_worlds
from selftaught.worlds.kit.calibration import freeze as module
from selftaught.worlds.kit.calibration.freeze import FILE, freeze, identity_of, text_hash, world_version
from selftaught.worlds.kit.calibration.plan import CalibrationPlan, plan_of
from selftaught.worlds.underfit import world as underfit

GOOD = [{"name": "a vote beats greedy", "holds": True, "value": 0.1}]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SyntheticWorld:
    """The underfit world, its folder copied so that it can be frozen and changed."""
    folder = tmp_path / "underfit"
    shutil.copytree(synthetic_worlds()["underfit"].folder, folder)
    copied = SyntheticWorld("underfit", folder)
    monkeypatch.setattr(module, "synthetic_worlds", lambda: {"underfit": copied})
    return copied


@pytest.fixture(scope="module")
def policy() -> Policy:
    return resolve("underfit")


def test_a_world_that_passed_has_a_version(world: SyntheticWorld, policy: Policy) -> None:
    assert world_version("underfit") == ""
    assert freeze(world, policy, GOOD) == "underfit/1"
    assert world_version("underfit") == "underfit/1"
    kept = json.loads((world.folder / FILE).read_text("utf-8"))
    assert kept["models"] == {policy.version: GOOD}
    assert kept["identity"] == identity_of(world)
    assert kept["seeds"] == [900_000, 900_999]


def test_other_worlds_and_other_models_have_none(world: SyntheticWorld, policy: Policy) -> None:
    freeze(world, policy, GOOD)
    assert world_version("smollm2-135m") == ""
    assert world_version("underfit", replace(policy, version="another build")) == ""


def test_builds_join_a_version_and_a_changed_text_begins_the_next(world: SyntheticWorld, policy: Policy) -> None:
    second = replace(policy, version="second build")
    assert freeze(world, policy, GOOD) == freeze(world, second, GOOD) == "underfit/1"
    assert world_version("underfit", second) == "underfit/1"
    with (world.folder / "text.py").open("a") as file:
        file.write("\n# other rates\n")
    assert world_version("underfit") == ""  # changed since
    assert freeze(world, policy, GOOD) == "underfit/2"
    assert world_version("underfit", second) == ""  # it passed on the text before


def test_another_rate_of_training_ends_a_version(
    world: SyntheticWorld, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze(world, policy, GOOD)
    settings = underfit.WORLD.settings
    faster = replace(settings, training=replace(settings.training, learning_rate=0.5))
    monkeypatch.setattr(underfit, "WORLD", replace(underfit.WORLD, settings=faster))
    assert world_version("underfit") == ""


def test_a_world_that_failed_is_not_frozen(world: SyntheticWorld, policy: Policy) -> None:
    bad: list[dict[str, Any]] = [*GOOD, {"name": "search pays", "holds": False}]
    with pytest.raises(BadInput, match="'search pays'"):
        freeze(world, policy, bad)
    assert not (world.folder / FILE).exists()


def test_a_damaged_record_is_named(world: SyntheticWorld) -> None:
    (world.folder / FILE).write_text('{"number": 1}', "utf-8")
    with pytest.raises(BadInput, match="not a record of a calibration"):
        world_version("underfit")


def test_the_text_of_a_plan_is_hashed_and_not_its_code(world: SyntheticWorld) -> None:
    one, same, other = (CalibrationPlan(text=lambda t=t: iter(t)) for t in (["a", "b"], ["a", "b"], ["a", "c"]))
    assert text_hash(world, one) == text_hash(world, same) != text_hash(world, other)
    assert text_hash(world, one) != text_hash(world, CalibrationPlan())


def test_what_the_plan_offers_does_not_change_the_text(world: SyntheticWorld) -> None:
    before = text_hash(world, CalibrationPlan())
    with (world.folder / "calibration.py").open("a") as file:
        file.write("\n# another task for a check\n")
    assert text_hash(world, CalibrationPlan()) == before
    assert plan_of(replace(world, folder=world.folder / "nowhere")) == CalibrationPlan()
