"""The exact writer of solutions of `paths`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from selftaught.worlds.kit.family import Context, split_reply
from selftaught.worlds.kit.language import ANSWER, NEWLINE, WAIT, WAYS, number, place, tokenize
from selftaught.worlds.kit.process import END, Choice, Options, Part, Writing, mixture
from selftaught.worlds.kit.roles import copied
from selftaught.worlds.tiny.question import Chain, Place, read_line, track
from selftaught.worlds.tiny.table import Fact, FactName, Table

Line = Generator["Choice | str", str, bool]
"""A part of a writing; returns whether the text stayed in the language."""


class Shown(NamedTuple):
    """What demonstrations in the prompt show: the last way, "" if none, and (way, result) by fact."""

    way: str
    facts: Mapping[FactName, tuple[str, str]]


def shown_in(demonstrations: Sequence[tuple[Any, str]]) -> Shown:
    """The way and facts that demonstrations show; later ones count."""
    way = ""
    facts: dict[FactName, tuple[str, str]] = {}
    for _, text in demonstrations:
        for line in filter(None, map(read_line, split_reply(text)[0])):
            way = line.way
            facts[line.operation, line.value] = (line.way, line.result)
    return Shown(way, facts)


class Last(NamedTuple):
    """The step before the present line: its place, fact, way and result, and whether it replaced another."""

    before: Place
    fact: FactName
    way: str
    result: str
    redone: bool


@dataclass
class Solver:
    """Writes one solution.

    Attributes:
        table: what the writer knows.
        chain: the problem.
        context: what else the writer sees.
        shown: what the demonstrations show.
        place: where the solution stands.
        lines: number of lines written.
        last: the step before, unless the text was cut or copied there.
        doubting: probability that this is the text of a writer that doubts.
        redo: the result that is reconsidered, "" if none.
    """

    table: Table
    chain: Chain
    context: Context
    shown: Shown
    place: Place
    lines: int = 0
    last: Last | None = None
    doubting: float = 0.0
    redo: str = ""

    def writing(self) -> Writing:
        """The whole reply."""
        yield from self._copied()
        while True:
            token = yield self._opening()
            if token == WAIT:
                going_on = yield from self._go_back()
            elif token == ANSWER:
                going_on = yield from self._answer()
            else:
                self.doubting = self._doubt_after_none()
                going_on = token[:1].isdigit() and (yield from self._step())
            self.lines += 1
            if not going_on:
                return

    def _copied(self) -> Writing:
        """The lines that are kept."""
        for line in self.context.kept:
            *begun, last = tokenize(line) or [""]
            for token in (*begun, last, NEWLINE):
                yield copied(token) if token in WAYS or (token is last and begun) else token
        self.lines, self.place = len(self.context.kept), track(self.chain.start, self.context.kept)[1]

    @property
    def _due(self) -> str:
        """The operation that is due, "" before the answer."""
        done, operations = self.place.done, self.chain.operations
        return operations[done] if done < len(operations) else ""

    # --- the first token of a line ---

    def _opening(self) -> Choice | str:
        """The number of the next step, the answer, or `wait`."""
        due = place(self.place.done + 1) if self._due else ANSWER
        at, wait = self._doubt()
        waits = self.doubting * wait
        if not waits:
            return due
        parts = [Part(waits, {WAIT: 1.0}, name="wait"), Part(1 - waits, {due: 1.0}, name="go")]
        return mixture("wait", parts, ("wait", at), self.context.view)

    def _doubt(self) -> tuple[int, float]:
        """How much the step before is doubted, and the probability that a doubting writer then waits."""
        if self.last is None or self.last.redone:
            return 0, 0.0
        at = self.table.doubt(self.last.fact, self.last.way)
        return at, self.table.skills.doubts[at]

    def _doubt_after_none(self) -> float:
        """Probability of a doubting writer, where a line that is no `wait` begins."""
        wait = self._doubt()[1]
        return self.doubting * (1 - wait) / (1 - self.doubting * wait)

    def _way(self) -> Choice:
        """A way to do the step: asked for, shown, or one's own."""
        skills, name = self.table.skills, (self._due, self.place.value)
        fact = self.table.facts[name]
        shown = self.shown.way
        pulls = (
            ("asked", self.chain.way, skills.steered),
            ("shown", shown, skills.copies_way),
            ("wording", WAYS[self.chain.wording] if self.chain.wording else "", skills.wording_pull),
            ("hint", self.table.good if self.context.hint else "", skills.hint_way),
        )
        parts, left = [], 1.0
        for pull, way, weight in pulls:
            if way:
                parts.append(Part(left * weight, {way: 1.0}, name=pull))
                left *= 1 - weight
        own = self.context.view(("way", name[0]), fact.ways)
        parts.append(Part(left, own, ("way", name[0]), "own"))
        gate = ("ways", *(part.name for part in parts)) if len(parts) > 1 else None
        skill = "redo:way" if self.redo else ":".join(["way", *(part.name for part in parts[:-1])])
        return mixture(skill, parts, gate, self.context.view)

    # --- a step ---

    def _step(self) -> Line:
        """The rest of a line; a text that breaks off before its end may go on in the next."""
        way = yield self._way() if self._due else WAYS[0]
        if way == NEWLINE:
            return self._cut()
        written = yield self._operation()
        if written == NEWLINE:
            return self._cut()
        name = _fact_named(written)
        if way not in WAYS or name not in self.table.facts:
            return False
        result = yield self._result(name, way)
        if result == NEWLINE:
            return self._cut()
        if not result[1:].isdigit() or int(result) >= self.table.skills.modulus:
            return False
        self._move(name, way, result)
        return (yield NEWLINE) == NEWLINE

    def _cut(self) -> bool:
        self.last, self.redo = None, ""
        return True

    def _move(self, name: FactName, way: str, result: str) -> None:
        self.last = Last(self.place, name, way, result, bool(self.redo))
        self.place, self.redo = self.place.after(name[0], int(result)), ""

    def _operation(self) -> Choice | str:
        """The value with the operation that is due, or by mistake with the one in parentheses before that."""
        value, due, aside = number(self.place.value), self._due, self.chain.aside(self.place.done)
        if not aside or aside == due:
            return f"{value}{due}" if due else ANSWER
        wrong = self.table.distraction(aside)
        parts = [
            Part(1 - wrong, {f"{value}{due}": 1.0}, name="due"),
            Part(wrong, {f"{value}{aside}": 1.0}, name="aside"),
        ]
        return mixture("distractor", parts, ("distractor", aside), self.context.view)._replace(right=f"{value}{due}")

    def _result(self, name: FactName, way: str) -> Choice:
        """What a step comes to."""
        return self._outcome(name, way)._replace(right=self.table.facts[name].right)

    def _outcome(self, name: FactName, way: str) -> Choice:
        fact, skills, context = self.table.facts[name], self.table.skills, self.context
        key = ("result", name, way)
        own = Part(1.0, context.view(key, fact.results[way]), key, "own")
        correction, shown = context.correction, self.shown.facts.get(name)
        if self.redo:
            return self._again(fact, own)
        if correction is not None and self.lines + 1 == correction.step:
            return self._led("follow", skills.follows, correction.result, own)
        if context.hint and self.place.done == len(self.chain.operations) - 1 and name[0] == self._due:
            return self._led("hint", skills.hint_result, context.hint, own)
        if shown and shown[0] == way:
            return self._led("copy", skills.copies_fact, shown[1], own)
        return Choice(f"result:{fact.kinds[way]}", (own,))

    def _led(self, skill: str, weight: float, result: str, own: Part) -> Choice:
        """A given result, or one's own."""
        parts = [Part(weight, {result: 1.0}, name="led"), own._replace(weight=1 - weight)]
        return mixture(skill, parts, (skill,), self.context.view)

    def _again(self, fact: Fact, own: Part) -> Choice:
        """The result after `wait`: what the critic believes, the same again, or a new one."""
        skills, believed = self.table.skills, fact.believed
        known = skills.redo_known if believed else 0.0
        kept = (1 - known) * skills.redo_kept
        parts = [
            Part(known, _certain(believed), name="believed"),
            Part(kept, {self.redo: 1.0}, name="same"),
            own._replace(weight=1 - known - kept),
        ]
        return mixture("redo:result", parts, ("redo", bool(believed)), self.context.view)

    # --- other lines ---

    def _go_back(self) -> Line:
        """`wait`: return to before the last step, if the line before was one."""
        self.doubting, self.redo = 1.0, ""
        if self.last is not None:
            self.place, self.redo = self.last.before, self.last.result
        self.last = None
        return (yield NEWLINE) == NEWLINE

    def _answer(self) -> Line:
        """The answer, after which a text goes on only if it was made to."""
        if (yield number(self.place.value)) == NEWLINE:
            return True
        return (yield END) == NEWLINE


def _fact_named(token: str) -> FactName:
    """The fact that a token such as " 27 *4" begins; one that does not exist for other tokens."""
    value, _, operation = token[1:].partition(" ")
    return (f" {operation}", int(value)) if value.isdigit() else ("", -1)


def _certain(token: str | None) -> Options:
    return {token: 1.0} if token else {}
