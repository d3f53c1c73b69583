"""The one model that is served at an http address, and teachers, which may be given so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from selftaught.errors import BadInput
from selftaught.models.policy import Policy
from selftaught.models.remote import KEY_VARIABLE, URL_VARIABLE, base_url, remote_policy
from selftaught.models.resolve import resolve

CONNECT_SECONDS = 10.0
MAX_LIST_BYTES = 1 << 20


def resolve_teacher(teacher: str | Path | Policy, say: Callable[[str], None]) -> Policy:
    """The policy of a teacher: what `resolve` takes, or the http address of an endpoint that serves one model.

    Raises:
        BadInput: as `resolve` and `endpoint_policy`.
    """
    if isinstance(teacher, str) and is_address(teacher):
        return endpoint_policy(teacher)
    return resolve(teacher, say, where="--teacher")


def is_address(model: str) -> bool:
    """Whether a model is given by the http address of the endpoint that serves it."""
    return model.startswith(("http://", "https://"))


def endpoint_policy(address: str) -> Policy:
    """The policy of the one model that an endpoint serves.

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
    return remote_policy(found[0], url)


def _served(url: str) -> list[str] | None:
    """Names in the list of models at a base address; None where there is no list.

    Raises:
        BadInput: nothing answers there.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    request = Request(f"{url}/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urlopen(request, timeout=CONNECT_SECONDS) as got:
            listed = json.loads(got.read(MAX_LIST_BYTES))
        return [str(one["id"]) for one in listed["data"]]
    except URLError as error:
        if hasattr(error, "code"):  # it answers, but has no such page
            return None
        raise BadInput(f"it cannot be reached ({error.reason})", where=url, fix="start the server first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"its list of models cannot be read ({type(error).__name__})", where=url) from None
