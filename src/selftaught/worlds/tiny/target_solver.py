"""The exact writer of solutions of `target`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from selftaught.worlds.kit.family import Context
from selftaught.worlds.kit.language import ANSWER, number, tokenize
from selftaught.worlds.kit.process import Choice, Part
from selftaught.worlds.tiny.open_solver import OpenSolver
from selftaught.worlds.tiny.question import Chain, Place
from selftaught.worlds.tiny.solve import shown_in
from selftaught.worlds.tiny.strategy import policy, strategy_of, strengths
from selftaught.worlds.tiny.table import Table, apply
from selftaught.worlds.tiny.target_question import Goal, find_path, leading


@dataclass
class TargetSolver(OpenSolver):
    """Writes a solution of a search.

    Attributes:
        goal: the problem.
    """

    goal: Goal = field(default_factory=lambda: Goal(0, (), 0))

    @property
    def left(self) -> tuple[str, ...]:
        """Operations that are not yet used."""
        return self.goal.left(self.place.path)

    @property
    def _due(self) -> str:
        """Not "" where a step is next."""
        return next(iter(self.left), "") if self.place.value != self.goal.goal else ""

    def _doubt(self) -> tuple[int, float]:
        """A step after which no operation is left and the goal not reached is one that the critic thinks wrong."""
        if self.last is not None and not self.last.redone and not self.left and self.place.value != self.goal.goal:
            return 2, self.table.skills.doubts[2]
        return super()._doubt()

    def _operation(self) -> Choice | str:
        """The next operation: what a critique or a hint names, one that leads to the goal, or one by habit."""
        left, skills = self.left, self.table.skills
        if not left:
            return ANSWER
        if len(left) == 1:
            return f"{number(self.place.value)}{left[0]}"
        named, hint = self.named if self.named in left else "", self._hint if self._hint in left else ""
        parts = self._led_to(hint, self._own(left), skills.hint_result, "hint")
        parts = self._led_to(named, parts, skills.follows, "named")
        seen = any(part.name == "seen" for part in parts)
        gate = ("operation", *(part.name for part in parts))
        return self._chosen("search:seen" if seen else "search", parts, gate, self._only_right(left))

    def _own(self, left: Sequence[str]) -> list[Part]:
        strategy = strategy_of(self.table.skills)
        key = ("search", tuple(sorted(left)))
        habit = self.context.view(key, policy(left, strengths(self.table.skills)))
        parts = [Part(1.0, habit, key, "habit")]
        if self.tried in left:
            other = policy([tool for tool in left if tool != self.tried], strengths(self.table.skills))
            parts = [
                Part(strategy.elsewhere, other, name="elsewhere"),
                Part(1 - strategy.elsewhere, habit, key, "habit"),
            ]
        seen = leading(self.table.facts, left, self.place.value, self.goal.goal)
        if not seen:
            return parts
        straight = dict.fromkeys(seen, 1 / len(seen))
        sees = Part(strategy.sees, straight, name="seen")
        return [sees, *(part._replace(weight=part.weight * (1 - strategy.sees)) for part in parts)]

    def _only_right(self, left: Sequence[str]) -> str | None:
        """The one operation from which the goal can still be reached; None if there are several, or none."""
        modulus = self.table.skills.modulus
        good = [
            tool
            for tool in left
            if find_path(
                apply(tool, self.place.value, modulus),
                tuple(other for other in left if other != tool),
                self.goal.goal,
                modulus,
            )
            is not None
        ]
        return good[0] if len(good) == 1 else None


def target_solver(goal: Goal, context: Context, table: Table) -> TargetSolver:
    """The writer of a solution."""
    chain = Chain(goal.start, goal.operations, (), 0, goal.way)
    hinted = tuple(tokenize(context.hint)) if context.hint else ()
    return TargetSolver(
        table,
        chain,
        replace(context, hint=None),
        shown_in(context.demonstrations),
        Place(goal.start),
        doubting=table.skills.doubting,
        family="target",
        hinted=hinted,
        goal=goal,
    )
