"""Killed and run again, a method must end as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from selftaught.models.policy import Policy
from selftaught.records import content_hash
from selftaught.run.run import Run

KILLS = 12
"""How often one run is killed, unless before every effect."""


class Killed(BaseException):
    """Stands for the end of the process."""


class Nonconformance(AssertionError):
    """What a method does that no method may do."""


def expect(holds: bool, what: str) -> None:
    """Raise Nonconformance with `what` unless `holds`."""
    if not holds:
        raise Nonconformance(what)


def value_of(result: Any) -> Any:
    """Return what a method returned in a form that does not depend on the run's folder."""
    return result.version if isinstance(result, Policy) else result


def assert_survives(work: Callable[[Run], Any], opened: Callable[[str], Run], *, every: bool = False) -> int:
    """Kill one run again and again, each time later, and compare its end with an undisturbed run's.

    Args:
        work: what is done with a run; must depend on nothing else.
        opened: opens the run of a name, the same one each time.
        every: kill before every effect, where else at most `KILLS` of them are chosen: the first of each kind, the
            first of each round, and others spread over all.

    Returns:
        How often it was killed.

    Raises:
        Nonconformance: the results or the journals differ.
    """
    kinds: list[str] = []
    with opened("undisturbed") as run:
        _watch(run, kinds.append)
        expected = value_of(work(run)), run.journal.digest()
    moments = range(len(kinds)) if every else choose(kinds, salt=expected[1])
    committed = 0
    for moment in (*moments, len(kinds)):

        def fuse(_: str, moment: int = moment) -> None:
            nonlocal committed
            if committed == moment:
                raise Killed
            committed += 1

        with opened("killed") as run, suppress(Killed):
            _watch(run, fuse)
            found = value_of(work(run)), run.journal.digest()
            expect(moment == len(kinds), f"run again, it made {committed} effects where it made {len(kinds)} before")
            expect(found == expected, "killed and run again, it ends otherwise than undisturbed")
            return len(moments)
    raise Nonconformance(f"run again, it went on beyond the {len(kinds)} effects that it made undisturbed")


def choose(kinds: Sequence[str], *, salt: str = "", most: int = KILLS) -> list[int]:
    """Choose positions in the sequence of effects: firsts of kinds, firsts after rounds, and others in between."""
    firsts = {kind: i for i, kind in reversed(list(enumerate(kinds)))}.values()
    rounds = [i + 1 for i, kind in enumerate(kinds) if kind == "round" and i + 1 < len(kinds)]
    chosen = dict.fromkeys([*sorted(firsts), *rounds])
    wanted = most - len(chosen)
    if wanted > 0:
        step = len(kinds) / wanted
        start = int(content_hash(salt, "kills"), 16) / 2**64
        chosen |= dict.fromkeys(int((i + start) * step) for i in range(wanted))
    return sorted(list(chosen)[:most])


def _watch(run: Run, before: Callable[[str], None]) -> None:
    """Call `before` with the kind of each effect that a run is about to commit."""
    put = run.journal.put

    def watched(key: str, kind: str, payload: Any, usage: Any = None, *, settles: int | None = None) -> None:
        before(kind)
        put(key, kind, payload, usage, settles=settles)

    run.journal.put = watched
