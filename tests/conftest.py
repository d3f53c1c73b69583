"""Fixtures shared by all tests: a cache of their own, and tiny models made once."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

USERS_CACHE = os.environ.get("SELFTAUGHT_CACHE")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell, which hands this down
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow and not config.getoption("--slow"):
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing the tests do lands in the user's cache; few threads, as tests may run side by side."""
    import torch

    torch.set_num_threads(int(os.environ.get("TEST_THREADS", "2")))
    os.environ["SELFTAUGHT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if USERS_CACHE is None:
        del os.environ["SELFTAUGHT_CACHE"]
    else:
        os.environ["SELFTAUGHT_CACHE"] = USERS_CACHE


FROZEN = [0]


@pytest.fixture(scope="module", autouse=True)
def _imports_are_frozen() -> None:
    """Exempt what is imported from garbage collection: each training collects, and need not walk all of that."""
    if len(sys.modules) > FROZEN[0] + 100:
        gc.collect()
        gc.freeze()
        FROZEN[0] = len(sys.modules)


@pytest.fixture(autouse=True)
def _runs_are_closed() -> Iterator[None]:
    """Tells of a run left open where it happens; elsewhere, its thread would be a riddle."""
    before = set(threading.enumerate())
    yield
    assert not [t for t in set(threading.enumerate()) - before if t.name == "selftaught-run"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`tiny("qwen2", seed=1)`: the policy of a tiny random model, made once a session."""
    from tiny_models import make_policy

    made: dict[tuple[str, int, int], Any] = {}

    def get(kind: str = "llama", seed: int = 0, context: int = 256) -> Any:
        key = (kind, seed, context)
        if key not in made:
            made[key] = make_policy(tmp_path_factory.mktemp("tiny") / kind, kind, seed=seed, context=context)
        return made[key]

    return get


@pytest.fixture
def users_cache(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache that the user has, for tests with a real model."""
    if USERS_CACHE is None:
        monkeypatch.delenv("SELFTAUGHT_CACHE", raising=False)
    else:
        monkeypatch.setenv("SELFTAUGHT_CACHE", USERS_CACHE)
    from selftaught.models.cache import cache_dir

    return cache_dir()
