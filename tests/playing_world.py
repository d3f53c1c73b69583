"""A toy environment: two rooms, a key and a door, with an exact reward for each action; and who plays it."""

from __future__ import annotations

import re
from typing import Any

from selftaught.engines import Request
from selftaught.models import Policy
from selftaught.records import Problem, make_problem
from selftaught.tasks import Kind, Task, Turn
from selftaught.testing.sums import draw

RULES = "You are in the hall of house {}. Say: go north, go south, take key, or open door."


class Rooms:
    """The key lies in the north; with it the door in the hall opens. The key earns 0.5, the door 1, a bump -0.25."""

    version, max_turns = "rooms-1", 6

    def __init__(self) -> None:
        self.calls: list[tuple[Any, str]] = []  # for tests alone: nothing depends on it

    def start(self, problem: Problem) -> dict[str, Any]:
        self.calls.append((problem.id, "start"))
        return {"at": "hall", "key": False}

    def act(self, state: dict[str, Any], text: str) -> Turn:
        self.calls.append((dict(state), text))
        at, key = state["at"], state["key"]
        if text == "go north" and at == "hall":
            return Turn("You are in the north.", state={"at": "north", "key": key})
        if text == "go south" and at == "north":
            return Turn("You are in the hall.", state={"at": "hall", "key": key})
        if text == "take key" and at == "north" and not key:
            return Turn("You have the key.", 0.5, state={"at": at, "key": True})
        if text == "open door" and at == "hall" and key:
            return Turn("The door opens.", 1.0, True, state)
        if text == "break" and not key:
            raise RuntimeError("the house fell down")
        return Turn("That does not work.", -0.25, state=state)


WAY = ("go north", "take key", "go south", "open door")


def houses(count: int, start: int = 0) -> list[Problem]:
    return [make_problem(RULES.format(i + start)) for i in range(count)]


def rooms_task(train: int = 2, dev: int = 2, test: int = 2, environment: Any = None) -> Task:
    splits = houses(train), houses(dev, 1000), houses(test, 2000)
    return Task("rooms", *splits, kind=Kind.STRING, environment=environment or Rooms())


def next_on_the_way(request: Request) -> str:
    """What to do next, by what the observations say."""
    seen = [m.content for m in request.prompt if m.role == "user"][1:]
    done = [text for text in seen if "not work" not in text]
    return WAY[min(len(done), 3)]


def walker(policy: Policy, request: Request) -> str:
    """Go the way to the door, but now and then bump into a wall."""
    del policy
    lucky = draw(request.prompt, request.seed if request.sampling.temperature else 0) < 0.7
    return next_on_the_way(request) if lucky else "go west"


def stubborn(policy: Policy, request: Request) -> str:
    """Walk into a wall for ever."""
    del policy, request
    return "go west"


def digits_of(text: str) -> str:
    """The first number of a text."""
    found = re.search(r"-?\d+", text)
    return found[0] if found else ""
