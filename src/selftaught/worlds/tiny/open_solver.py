"""A writer of solutions whose ways are chosen before their operations, and whose answers are the operations."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from selftaught.worlds.kit.language import NEWLINE, number
from selftaught.worlds.kit.process import END, Choice, Part, mixture
from selftaught.worlds.tiny.lookups import OperationSolver
from selftaught.worlds.tiny.strategy import usual_ways


@dataclass
class OpenSolver(OperationSolver):
    """Writes a solution whose way is chosen before its operation, and whose answer are the operations.

    Attributes:
        family: its name.
        hinted: operations of the hint.
    """

    family: str = ""
    hinted: tuple[str, ...] = ()

    def _way(self) -> Choice:
        """A way to do the step: asked for, shown, or one's own."""
        skills = self.table.skills
        pulls = (("asked", self.chain.way, skills.steered), ("shown", self.shown.way, skills.copies_way))
        parts, left = [], 1.0
        for pull, way, weight in pulls:
            if way:
                parts.append(Part(left * weight, {way: 1.0}, name=pull))
                left *= 1 - weight
        key = ("way", self.family)
        own = self.context.view(key, usual_ways(skills))
        parts.append(Part(left, own, key, "own"))
        gate = ("ways", *(part.name for part in parts)) if len(parts) > 1 else None
        skill = "redo:way" if self.redo else ":".join(["way", *(part.name for part in parts[:-1])])
        return mixture(skill, parts, gate, self.context.view)

    def _chosen(self, skill: str, parts: Sequence[Part], gate: tuple[str, ...] | None, right: str | None) -> Choice:
        """A choice between operations, each written with the value before it."""
        value, whole = number(self.place.value), mixture(skill, parts, gate, self.context.view)
        named = [
            p._replace(options={f"{value}{t}": x for t, x in p.options.items()}, prefix=value) for p in whole.parts
        ]
        return whole._replace(parts=tuple(named), right=f"{value}{right}" if right else None)

    def _led_to(self, operation: str, own: Sequence[Part], weight: float, name: str) -> list[Part]:
        """A given operation, or one's own."""
        if not operation:
            return list(own)
        return [Part(weight, {operation: 1.0}, name=name), *(p._replace(weight=p.weight * (1 - weight)) for p in own)]

    @property
    def _hint(self) -> str:
        """The operation of the hint that is next, "" if there is none."""
        done = self.place.path
        follows = done == self.hinted[: len(done)] and len(done) < len(self.hinted)
        return self.hinted[len(done)] if follows else ""

    def _answer(self) -> Generator[Choice | str, str, bool]:
        """The operations."""
        for operation in self.place.path:
            if (yield operation) == NEWLINE:
                return True
        return (yield END) == NEWLINE
