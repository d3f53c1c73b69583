"""Split problems into disjoint train, dev and test.

Problems are duplicates if their questions are equal up to letter case and white space. They are assigned in the
order of a seeded hash of the question, which depends neither on the order of a file nor on the instruction;
test is filled first, then dev, then train, so that test and dev do not change with the size of train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

from selftaught.errors import BadInput
from selftaught.records import Problem, content_hash

if TYPE_CHECKING:
    from selftaught.tasks.source import TaskRequest

SPLIT_ORDER = ("test", "dev", "train")


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """A problem and the hash of its bare question, without the instruction.

    `remark` is a remark on its row for the user, and its details; empty if there is none.
    """

    key: str
    problem: Problem
    remark: tuple[str, str] = ("", "")

    @property
    def where(self) -> str:
        """`file:line` it came from."""
        return str(self.problem.meta["where"])


@dataclass(frozen=True, slots=True)
class Splits:
    """The three splits, and notes for the user about how they were made."""

    train: tuple[Problem, ...]
    dev: tuple[Problem, ...]
    test: tuple[Problem, ...]
    notes: tuple[str, ...] = field(default=())


def split_problems(pools: dict[str, list[SourceProblem]], request: TaskRequest, *, what: str) -> Splits:
    """Split pools of problems into the requested sizes.

    Args:
        pools: the problems of "train" and, if given separately, "dev" and "test"; a split without a pool is taken
            from train.
        request: sizes and seed.
        what: name of the source, for messages.

    Raises:
        BadInput: all pools are empty, or one from which problems are requested; a pool has only one distinct problem
            or is too small to split; two pools share problems.
    """
    notes: list[str] = []
    sizes = {name: getattr(request, name) for name in SPLIT_ORDER}
    carved = [name for name in SPLIT_ORDER if name == "train" or name not in pools]
    drawn = {name: sum(sizes[part] for part in (carved if name == "train" else [name])) for name in pools}
    empty = [name for name in pools if not pools[name]]
    for name in empty:
        if drawn[name] or len(empty) == len(pools):
            raise BadInput(f"no problems for {name}", where=what, fix="give it at least one")
    pools = {name: _distinct(name, drafts, notes) for name, drafts in pools.items()}
    for one, other in combinations([s for s in SPLIT_ORDER if s in pools], 2):
        _no_overlap(one, pools[one], other, pools[other])
    chosen = {name: _first(name, pools[name], sizes[name], request.seed, notes) for name in pools if name != "train"}
    chosen |= _carve(pools["train"], {name: sizes[name] for name in carved}, request.seed, what, notes)
    done = {name: tuple(d.problem for d in drafts) for name, drafts in chosen.items()}
    return Splits(done["train"], done["dev"], done["test"], tuple(notes))


def _distinct(name: str, drafts: Sequence[SourceProblem], notes: list[str]) -> list[SourceProblem]:
    first: dict[str, SourceProblem] = {}
    differ = 0
    for draft in drafts:
        seen = first.setdefault(draft.key, draft)
        differ += seen.problem.reference != draft.problem.reference
    if len(first) == 1 and len(drafts) > 1:
        raise BadInput(f"all {len(drafts)} problems are the same one", where=drafts[0].where)
    if dropped := len(drafts) - len(first):
        also = f", {differ} of them with another answer than the first" if differ else ""
        notes.append(f"{name}: {dropped} duplicate problem{'s' * (dropped > 1)} dropped{also}")
    return list(first.values())


def _no_overlap(one: str, first: list[SourceProblem], other: str, second: list[SourceProblem]) -> None:
    places = {d.key: d.where for d in second}
    shared = [d for d in first if d.key in places]
    if shared:
        raise BadInput(
            f"{len(shared)} problem{'s' * (len(shared) > 1)} of {one} also in {other}, the first at "
            f"{places[shared[0].key]}",
            where=shared[0].where,
            fix="remove them from one of the two",
        )


def _dealt(drafts: list[SourceProblem], seed: int) -> list[SourceProblem]:
    return sorted(drafts, key=lambda d: content_hash(seed, d.key))


def _first(name: str, drafts: list[SourceProblem], size: int, seed: int, notes: list[str]) -> list[SourceProblem]:
    if len(drafts) < size:
        notes.append(f"{name}: {len(drafts)} problems, {size} were requested")
    return _dealt(drafts, seed)[:size]


def _carve(
    drafts: list[SourceProblem], asked: dict[str, int], seed: int, what: str, notes: list[str]
) -> dict[str, list[SourceProblem]]:
    """Distribute one pool over several splits; if it is too small, train is filled last but keeps up to two fifths."""
    have, sizes = len(drafts), dict(asked)
    if have < sum(asked.values()):
        held_out = [name for name in sizes if name != "train"]
        wanted = sum(asked[name] for name in held_out)
        room = have - min(asked["train"], have - have * 3 // 5)
        if wanted > room:
            sizes |= {name: asked[name] * room // wanted for name in held_out}
        sizes["train"] = min(asked["train"], have - sum(sizes[name] for name in held_out))
        got = ", ".join(f"{name} {sizes[name]} of {asked[name]}" for name in sizes if sizes[name] < asked[name])
        notes.append(f"{have} problems, {sum(asked.values())} were requested: {got}")
        if any(asked[name] and not sizes[name] for name in sizes):
            raise BadInput(
                f"{have} distinct problem{'s are' if have > 1 else ' is'} too few to split",
                where=what,
                fix="give more, or set the size of a split to 0",
            )
    order = iter(_dealt(drafts, seed))
    return {name: [next(order) for _ in range(sizes[name])] for name in SPLIT_ORDER if name in sizes}
