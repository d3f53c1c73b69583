"""Fixtures of the engines' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from selftaught.engines.openai import sender as sender_module
from selftaught.testing.endpoint import SECRET
from selftaught.testing.endpoint import Endpoint as Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that the environment points to, and waits between tries that tests have time for."""
    made = Server()
    monkeypatch.setenv("OPENAI_BASE_URL", made.url)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sender_module, "INITIAL_BACKOFF", 0.01)
    yield made
    made.close()
