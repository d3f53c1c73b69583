"""Models behind an endpoint: their policies name the model and have no weights."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from selftaught.errors import BadInput
from selftaught.models.policy import Policy
from selftaught.models.template_options import parse_options

PREFIX = "openai:"
URL_VARIABLE, KEY_VARIABLE = "OPENAI_BASE_URL", "OPENAI_API_KEY"  # the variables that OpenAI's own clients read
DEFAULT_URL = "https://api.openai.com/v1"


def base_url(given: str = "") -> str:
    """The base address for paths such as `/chat/completions`, without a trailing slash.

    Args:
        given: an address; by default the environment's `OPENAI_BASE_URL`, or OpenAI's own.

    Raises:
        BadInput: it is not an http address, or has a password or a query, which would appear in messages.
    """
    url = (given or os.environ.get(URL_VARIABLE, "") or DEFAULT_URL).strip().rstrip("/")
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine, parts = False, urlsplit("")
    if not fine:
        raise BadInput("not an http address", where=URL_VARIABLE, fix=f"give one such as {DEFAULT_URL}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadInput("it has more than an address", where=URL_VARIABLE, fix=f"put the key into {KEY_VARIABLE}")
    return url


def remote_policy(name: str, url: str = "") -> Policy:
    """The policy of the model `name` at an endpoint.

    Its version is name and address, all that is known of the weights; two endpoints never share one.

    Args:
        name: the model's name at the endpoint.
        url: see `base_url`.

    Raises:
        BadInput: no name, chat template options after it, or an invalid address.
    """
    if not name.strip() or not name.isprintable():
        raise BadInput("it names no model", where=PREFIX + name.strip(), fix=f"give one, as in {PREFIX}gpt-4o-mini")
    bare, options = parse_options(PREFIX + name)
    if options:
        said = "chat template options work only for local models: the endpoint renders the chat"
        raise BadInput(said, where=PREFIX + name, fix=f"give {bare}, and set {', '.join(options)} on its server")
    version = f"{PREFIX}{name}@{base_url(url).partition('://')[2]}"
    return Policy(version, Path(PREFIX + name), remote=name, url=url)


def require_trainable(policy: Policy) -> None:
    """Refuse to train a model whose weights are behind an endpoint.

    Raises:
        BadInput: its weights are behind an endpoint.
    """
    if policy.remote:
        raise BadInput(
            f"{PREFIX}{policy.remote} cannot be trained: its weights are behind an endpoint",
            where="learn",
            fix="train a folder or a Hugging Face id; an endpoint's model can be used by eval and solve",
        )
