"""Worlds for a user's own model and task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from selftaught.models.policy import Policy
from selftaught.models.remote import PREFIX, remote_policy
from selftaught.models.served import endpoint_policy, is_address
from selftaught.run.settings import Settings
from selftaught.worlds.world import BEST_ON_DEV, World, endpoint_world, find_world, worlds


def world_of(model: str, task: str = "") -> World:
    """The world to check a claim in.

    Args:
        model: a world's name; with a task also any model that `models.resolve` takes, or the http address of an
            endpoint that serves one model.
        task: a specification that `load_task` takes; empty for the world's own.

    Raises:
        BadInput: an unknown world, or an address at which no single model is served.
    """
    remote = _remote(model)
    if not task:
        return endpoint_world(remote) if remote else find_world(model)
    name = f"{slug(PREFIX + remote.remote if remote else model)}-{slug(task)}"
    if model in worlds():
        own = replace(worlds()[model], name=name, task=task, instruction=None)
        return replace(own, generalization="", variants={}, version="")
    return World(
        name, remote or model, task, Settings(gate=BEST_ON_DEV), train=256, dev=500, test=2000, solver_test=3500,
        looks=(3,), solver_seeds=1, champion="last", real=True, quick={"looks": (2,), "test": 200, "solver_test": 200},
    )  # fmt: skip


def _remote(model: str) -> Policy | None:
    """The policy of a model behind an endpoint, given by its name or address; None of any other."""
    if is_address(model):
        return endpoint_policy(model)
    return remote_policy(model.removeprefix(PREFIX)) if model.startswith(PREFIX) else None


def slug(text: str) -> str:
    """A model or a task as part of a file name, at most 40 characters of its last part."""
    last = Path(text.partition(":")[0] or text).name if "/" in text and not text.startswith(PREFIX) else text
    return "".join(c if c.isalnum() or c in "-." else "-" for c in last)[:40].strip("-.")
