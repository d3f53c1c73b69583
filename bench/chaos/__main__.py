"""Disturb runs of every method, and check what must hold of them: `python -m bench.chaos`, or `make chaos`.

In each round a run is killed, stopped, starved, moved or lied to, up to three times at random moments, and then ends
undisturbed. Nothing that was in its journal may be lost or changed. It must come to what an undisturbed run comes to:
on the scripted engine to the same digest of the journal. Answers are begun twice only if they were in progress when a
process was killed; an endpoint is never paid beyond the limit; a process ends with the status and the one line that are
promised; and on the tiny model `selftaught audit` finds nothing. Exit status 1 if anything does not hold.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from bench.chaos.faults import FAULTS
from bench.chaos.rounds import Round, play_round
from bench.chaos.runs import ENGINES, Disturbed, all_runs
from bench.report import machine

SHARES = {"scripted": 0.6, "endpoint": 0.25, "tiny": 0.15}
"""Of the rounds, by engine: those on the tiny model take longest."""


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500, help="number of rounds (default %(default)s)")
    parser.add_argument("--seed", type=int, help="of everything that is random (default: a new one, which is printed)")
    parser.add_argument("--engines", default=",".join(ENGINES), help="whose runs are disturbed (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="rounds at a time (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="begin no round after this (default %(default)s)")
    parser.add_argument("--round", type=int, help="play this one again, of this --seed, --rounds and --engines")
    parser.add_argument("--keep", type=Path, help="folder for the runs of rounds that fail (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    return parser


def planned(rounds: int, seed: int, engines: Sequence[str]) -> list[Disturbed]:
    """What each round disturbs: every run in turn, in a random order."""
    luck, plan = random.Random(seed), list[Disturbed]()
    whole = sum(SHARES[engine] for engine in engines)
    for engine in engines:
        runs = all_runs((engine,))
        count = max(1, round(rounds * SHARES[engine] / whole))
        plan += [one for _ in range(-(-count // len(runs))) for one in luck.sample(runs, len(runs))][:count]
    luck.shuffle(plan)
    return plan[:rounds]


def played(args: argparse.Namespace, seed: int, folder: Path) -> Iterator[Round]:
    """Rounds as they end."""
    plan, deadline = planned(args.rounds, seed, args.engines.split(",")), time.monotonic() + 60 * args.minutes
    chosen = range(len(plan)) if args.round is None else [args.round]

    def one(number: int) -> Round | None:
        if time.monotonic() > deadline:
            return None
        what, name = plan[number], 10_000 * seed + number
        try:
            return play_round(what, name, folder / f"round-{number}")
        except Exception as error:  # one round that cannot be played does not end the others
            return Round(what, name, wrong=[f"it cannot be played: {type(error).__name__}: {error}"])

    with ThreadPoolExecutor(args.jobs) as pool:
        waiting = {pool.submit(one, number): number for number in chosen}
        for done in as_completed(waiting):
            number, found = waiting[done], done.result()
            if found is None:
                continue
            told = "; ".join(found.wrong) or "holds"
            faults = ", ".join(found.faults) or "nothing struck"
            print(f"round {number} of {len(plan)}, {found.what}: {faults}: {told}", file=sys.stderr, flush=True)
            yield found


def outcome(rounds: Sequence[Round], seed: int, seconds: float) -> dict[str, Any]:
    """The figures of all rounds."""
    struck = Counter(name for one in rounds for name in one.faults)
    return {
        "seed": seed,
        "rounds": len(rounds),
        "by_engine": {engine: sum(one.what.engine == engine for one in rounds) for engine in ENGINES},
        "methods": len({one.what.method for one in rounds}),
        "faults": {one.name: struck[one.name] for one in FAULTS},
        "answers_begun_twice": sum(one.again for one in rounds),
        "failed": [{"run": str(one.what), "faults": one.faults, "wrong": one.wrong} for one in rounds if one.wrong],
        "minutes": round(seconds / 60, 1),
        "machine": machine(),
    }


def main() -> int:
    """Play the rounds; 1 if anything does not hold."""
    parser = arguments()
    args = parser.parse_args()
    if args.rounds < 1 or (args.round is not None and not 0 <= args.round < args.rounds):
        parser.error("--rounds must be at least 1, and --round one of them")
    if unknown := set(args.engines.split(",")) - set(ENGINES):
        parser.error(f"unknown engine {', '.join(sorted(unknown))!r}; --engines takes {', '.join(ENGINES)}")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell hands this down to what it starts in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="selftaught-chaos-") as temporary:
        rounds = list(played(args, seed, args.keep or Path(temporary)))
    found = outcome(rounds, seed, time.monotonic() - begun)
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print_outcome(found)
    return 1 if found["failed"] else 0


def print_outcome(found: dict[str, Any]) -> None:
    """As text."""
    engines = ", ".join(f"{count} {engine}" for engine, count in found["by_engine"].items())
    print(f"{found['rounds']} rounds ({engines}) of {found['methods']} methods in {found['minutes']} min")
    for name, count in found["faults"].items():
        print(f"{count:5d}  {name}")
    print(f"{found['answers_begun_twice']} answers were in progress at a kill and begun twice")
    for one in found["failed"]:
        print(f"DOES NOT HOLD: {one['run']} after {', '.join(one['faults'])}: {'; '.join(one['wrong'])}")
    print(f"{len(found['failed'])} of {found['rounds']} rounds fail; seed {found['seed']}")


if __name__ == "__main__":
    sys.exit(main())
