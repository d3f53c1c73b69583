"""Models that are given by the address of the endpoint that serves them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from selftaught.engines import Request, Sampling, create_engine
from selftaught.errors import BadInput
from selftaught.models.notes import Notes
from selftaught.models.served import endpoint_policy, resolve_teacher
from selftaught.records import as_prompt
from selftaught.testing.endpoint import Endpoint, Reply


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Two endpoints, neither of them the environment's."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    first, second = Endpoint(), Endpoint()
    yield first, second
    first.close()
    second.close()


def test_each_model_is_asked_at_its_own_address_and_the_environment_stays(servers: tuple[Endpoint, Endpoint]) -> None:
    before = dict(os.environ)
    policies = [resolve_teacher(server.url, lambda _: None) for server in servers]
    for policy, server in zip(policies, servers, strict=True):
        assert (policy.remote, policy.url) == ("tiny", server.url)
        with closing(create_engine(policy)) as engine:
            found = asyncio.run(engine.sample(policy, Request(as_prompt("2 + 3"), Sampling())))
        assert (found.text, found.policy) == ("Answer: 5", policy.version)
    assert [len(server.got) for server in servers] == [1, 1]
    assert policies[0] != policies[1]
    assert dict(os.environ) == before


def test_notes_do_not_change_where_a_model_is(servers: tuple[Endpoint, Endpoint]) -> None:
    policy = endpoint_policy(servers[0].url)
    assert policy.with_notes(Notes(system="Be brief.")).url == policy.url == servers[0].url


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}]}, "it serves 2 models: a, b"),
        ({"data": []}, "it serves 0 models"),
        ({"other": 1}, "its list of models cannot be read"),
    ],
)
def test_an_address_has_one_model(servers: tuple[Endpoint, Endpoint], listed: object, says: str) -> None:
    servers[0].models = Reply(body=listed)
    with pytest.raises(BadInput, match=says):
        endpoint_policy(servers[0].url)
