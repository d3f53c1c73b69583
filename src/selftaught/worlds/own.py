"""Worlds for a user's own model and task."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from selftaught.errors import BadInput
from selftaught.models.remote import KEY_VARIABLE, PREFIX, URL_VARIABLE, base_url, remote_policy
from selftaught.run.settings import Settings
from selftaught.worlds.world import BEST_ON_DEV, World, find_world, worlds

CONNECT_SECONDS = 10.0


def world_of(model: str, task: str = "") -> World:
    """The world to check a claim in.

    Args:
        model: a world's name; with a task also any model that `models.resolve` takes, or the http address of an
            endpoint that serves one model.
        task: a specification that `load_task` takes; empty for the world's own.

    Raises:
        BadInput: an unknown world, or an address at which no single model is served.
    """
    if model.startswith(("http://", "https://")):
        model = endpoint_model(model)
    if not task:
        return find_world(model)
    name = f"{slug(model)}-{slug(task)}"
    if model in worlds():
        return replace(worlds()[model], name=name, task=task, instruction=None, generalization="", version="")
    if model.startswith(PREFIX):
        remote_policy(model.removeprefix(PREFIX))  # refuses a bad name or address
    return World(
        name, model, task, Settings(gate=BEST_ON_DEV), train=256, dev=500, test=2000, solver_test=3500, looks=(3,),
        solver_seeds=1, champion="last", real=True, quick={"looks": (2,), "test": 200, "solver_test": 200},
    )  # fmt: skip


def endpoint_model(address: str) -> str:
    """The one model that an endpoint serves, as `openai:NAME`; its address becomes this process's endpoint.

    Raises:
        BadInput: it cannot be reached, or does not list exactly one model.
    """
    url = base_url(address)
    found = _served(url)
    if found is None and not url.endswith("/v1"):
        url, found = f"{url}/v1", _served(f"{url}/v1")
    fix = f"set {URL_VARIABLE} to the address, and give the model as openai:NAME"
    if found is None:
        raise BadInput("no list of models is served there", where=address, fix=fix)
    if len(found) != 1:
        raise BadInput(f"it serves {len(found)} models: {', '.join(found[:5])}", where=address, fix=fix)
    os.environ[URL_VARIABLE] = url
    return PREFIX + found[0]


def slug(text: str) -> str:
    """A model or a task as part of a file name, at most 40 characters of its last part."""
    last = Path(text.partition(":")[0] or text).name if "/" in text and not text.startswith(PREFIX) else text
    return "".join(c if c.isalnum() or c in "-." else "-" for c in last)[:40].strip("-.")


def _served(url: str) -> list[str] | None:
    """Names in the list of models at a base address; None where there is no list.

    Raises:
        BadInput: nothing answers there.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    request = Request(f"{url}/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urlopen(request, timeout=CONNECT_SECONDS) as got:
            listed = json.loads(got.read())
        return [str(one["id"]) for one in listed["data"]]
    except URLError as error:
        if hasattr(error, "code"):  # it answers, but has no such page
            return None
        raise BadInput(f"it cannot be reached ({error.reason})", where=url, fix="start the server first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"its list of models cannot be read ({type(error).__name__})", where=url) from None
