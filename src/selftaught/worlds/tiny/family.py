"""The family `paths`: questions, solutions by an imperfect writer, what a critic believes, and exact verdicts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from selftaught.records import Message, Verdict, content_hash
from selftaught.worlds.kit.family import Belief, Checked, Context, Correction, Steps, split_reply, verdict
from selftaught.worlds.kit.language import ANSWER, NEWLINE, SOUND, UNSOUND, UNSURE, WAIT, WAYS, count, number, of_place
from selftaught.worlds.kit.process import END, Choice, Options, View, Writing, draw, other_than, single
from selftaught.worlds.tiny.question import (
    LONGEST,
    WORDINGS,
    Chain,
    Move,
    Place,
    disturbed,
    draw_chain,
    in_place,
    reached,
    read_chain,
    read_line,
    track,
    true_result,
    withdrawn,
    write_line,
)  # fmt: skip
from selftaught.worlds.tiny.skills import BASE, Skills
from selftaught.worlds.tiny.solve import Solver, shown_in
from selftaught.worlds.tiny.table import FactName, Table, apply, make_table, operations

DRILLED = 12  # facts in a drill


class Paths:
    """Chains of operations modulo a prime.

    Args:
        skills: of the writer; verdicts do not depend on them, but on the modulus.
    """

    name = "paths"
    levels = tuple(range(1, 9))

    def __init__(self, skills: Skills = BASE) -> None:
        self.skills = skills

    @property
    def table(self) -> Table:
        """The writer's table."""
        return make_table(self.skills)

    # --- questions ---

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """A question with `level` operations in the usual wording, and its answer."""
        chain = draw_chain(level, rng, self.skills.modulus)
        return str(chain), str(chain.value(self.skills.modulus))

    def read(self, question: str) -> Chain | None:
        """See `Family.read`."""
        return read_chain(question, self.skills.modulus)

    def answer(self, problem: Chain) -> str:
        """See `Family.answer`."""
        return str(problem.value(self.skills.modulus))

    def plain(self, question: str) -> str:
        """See `Family.plain`."""
        chain = self.read(question)
        return question if chain is None else str(Chain(chain.start, chain.operations))

    def reworded(self, question: str, rng: random.Random, *, wording: float, aside: float, way: float) -> str:
        """See `Family.reworded`."""
        chain = self.read(question)
        if chain is None:
            return question
        chain = chain._replace(wording=rng.randrange(1, len(WORDINGS))) if rng.random() < wording else chain
        chain = chain._replace(way=rng.choice(WAYS)) if rng.random() < way else chain
        return str(disturbed(chain, rng) if rng.random() < aside else chain)

    def demonstrations(self, question: str, rng: random.Random) -> list[str]:
        """One to three questions of up to four steps; about half begin with a fact that the question needs."""
        chain, found = self.read(question), []
        for _ in range(rng.randint(1, 3)):
            shown = draw_chain(rng.randint(1, 4), rng, self.skills.modulus)
            if chain is not None and rng.random() < 0.5:
                at = rng.randrange(len(chain.operations))
                value = reached(chain, at, self.skills.modulus)
                shown = shown._replace(start=value, operations=(chain.operations[at], *shown.operations[1:]))
            found.append(str(shown._replace(way=rng.choice(WAYS)) if rng.random() < 0.3 else shown))
        return found

    def good_example(self) -> tuple[Message, Message]:
        """A solved problem that shows, for each operation, the way that this writer is best at."""
        chain = Chain(5, (" +3", " -2", " *4"))
        ways = [self.table.good] * len(chain.operations)
        return Message("user", str(chain)), Message("assistant", self._finished(chain, (), ways))

    # --- writing ---

    def solve(self, problem: Chain, context: Context) -> Writing:
        """See `Family.solve`."""
        shown = shown_in(context.demonstrations)
        start = Place(problem.start)
        return Solver(self.table, problem, context, shown, start, doubting=self.skills.doubting).writing()

    def direct(self, problem: Chain, view: View) -> Writing:  # noqa: ARG002
        """The answer without steps: a guess."""
        yield ANSWER
        yield single("direct", dict.fromkeys(map(number, range(self.skills.modulus)), 1 / self.skills.modulus))
        yield END

    def propose(self, problem: Chain, easier: bool, view: View) -> Writing:
        """Another question: about as long as `problem`, or shorter."""
        level, every = len(problem.operations), operations()
        yield WORDINGS[0][0]
        lengths = {count(n): p for n, p in _lengths(level, easier).items()}
        length = yield single("propose", lengths, ("propose", easier, level), view)
        yield single("propose", dict.fromkeys(map(number, range(self.skills.modulus)), 1 / self.skills.modulus))
        cut = self.skills.malformed
        for done in range(LONGEST):
            if count(done) == length:
                break
            yield of_place(done + 1) if done else single("propose", {of_place(1): 1 - cut, END: cut})
            yield single("propose", dict.fromkeys(every, 1 / len(every)))
        yield END

    # --- criticism ---

    def beliefs(self, problem: Chain, lines: Sequence[str], view: View) -> list[Belief]:
        """See `Family.beliefs`."""
        return [self._belief(problem, move, view) for move in track(problem.start, lines)[0]]

    def _belief(self, chain: Chain, move: Move, view: View) -> Belief:
        line = move.line
        if line is None or (name := (line.operation, line.value)) not in self.table.facts:
            return Belief(float(move.text == WAIT), restated=UNSURE)
        felt = self.table.feeling(name, line.way)
        glance = view(("feel", name, line.way), {SOUND: felt, UNSOUND: 1 - felt})[SOUND]
        if not in_place(chain, move):
            return Belief(0.0, restated=UNSURE, felt=glance)
        result = line.result
        agreement = self.table.agreement(name, result)
        right, key = self.table.opinions[agreement], ("mark", name, result)
        sound = view(key, {SOUND: right, UNSOUND: 1 - right})[SOUND]
        fact = self.table.facts[name]
        return Belief(sound, key, self._is_right(chain, move), fact.provokes, fact.believed or UNSURE, glance)

    def overall(self, glances: Sequence[float]) -> float:
        """See `Family.overall`."""
        return self.table.overall(glances)

    def restated(self, problem: Chain, lines: Sequence[str]) -> list[str]:  # noqa: ARG002
        """See `Family.restated`."""
        return [true_result(line, self.skills.modulus) for line in lines]

    def correction(self, problem: Chain, lines: Sequence[str], step: int, view: View) -> tuple[str, Options]:
        """See `Family.correction`."""
        place = track(problem.start, lines[: step - 1])[1]
        if place.done >= len(problem.operations):
            return "", {number(place.value): 1.0}
        name: FactName = (problem.operations[place.done], place.value)
        options = self.table.corrections(name)
        return f"{number(place.value)}{name[0]}", view(("correct", name), options)

    def nonsense(self, rng: random.Random) -> str:
        """See `Drilled.nonsense`."""
        every, values = operations(), self.skills.modulus
        lines = (
            write_line(rng.randint(1, 8), rng.choice(WAYS), rng.randrange(values), rng.choice(every), number(luck))
            for luck in rng.sample(range(values), rng.randint(2, 6))
        )
        return NEWLINE.join(lines)

    def drill(self, rng: random.Random) -> tuple[str, Steps]:
        """See `Drilled.drill`; a result is the writer's, the critic's, or any."""
        text, steps = "", list[Choice | str | None]()
        for name in rng.sample(sorted(self.table.facts), DRILLED):
            fact = self.table.facts[name]
            own = draw(fact.marginal(), rng)
            result = rng.choice((own, own, fact.believed or fact.right, number(rng.randrange(self.skills.modulus))))
            right = self.table.opinions[self.table.agreement(name, result)]
            restated, mark = fact.believed or UNSURE, rng.choice((SOUND, UNSOUND))
            text += f"{number(name[1])}{name[0]}{result}{restated}{mark}"
            steps += [None, None, restated, single("facts:mark", {SOUND: right, UNSOUND: 1 - right})]
            if mark == UNSOUND:
                corrections = other_than(result, self.table.corrections(name))
                text += draw(corrections, rng)
                steps.append(single("facts:result", corrections))
        return text, [*steps, None]

    def line_drill(self, rng: random.Random) -> tuple[str, Steps]:
        """See `Drilled.line_drill`."""
        text, steps = "", list[Choice | str | None]()
        for name in rng.sample(sorted(self.table.facts), DRILLED):
            fact, way = self.table.facts[name], rng.choice(WAYS)
            result, felt = fact.results[way], self.table.feeling(name, way)
            mark = single("lines:mark", {SOUND: felt, UNSOUND: 1 - felt})
            text += f"{way}{number(name[1])}{name[0]}{draw(result, rng)}{draw(mark.distribution(), rng)}"
            steps += [None, None, single("lines:result", result), mark]
        return text, [*steps, None]

    def concludes(self, problem: Chain, lines: Sequence[str], answer: str | None) -> bool:
        """See `Family.concludes`."""
        place = track(problem.start, lines)[1]
        return place.done == len(problem.operations) and answer == str(place.value)

    # --- exact verdicts ---

    def check(self, problem: Chain, reference: Any, lines: Sequence[str], answer: str | None) -> Checked:  # noqa: ARG002
        """See `Family.check`; the question alone determines the answer."""
        moves, _ = track(problem.start, lines)
        sound = tuple(verdict(self._is_right(problem, move)) for move in moves)
        return Checked(sound, verdict(answer == str(problem.value(self.skills.modulus))), withdrawn(moves))

    def _is_right(self, chain: Chain, move: Move) -> bool:
        line = move.line
        if line is None:
            return move.text == WAIT
        return in_place(chain, move) and line.result == number(apply(line.operation, line.value, self.skills.modulus))

    def locate(self, problem: Chain, reference: Any, text: str) -> Correction | None:
        """See `Family.locate`."""
        lines, answer = split_reply(text)
        checked = self.check(problem, reference, lines, answer)
        first = checked.first_error
        if first is None and checked.answer is Verdict.RIGHT:
            return None
        step = first or len(lines) + 1
        place = track(problem.start, lines[: step - 1])[1]
        if place.done >= len(problem.operations):
            return Correction(step, number(place.value))
        due = problem.operations[place.done]
        result = number(apply(due, place.value, self.skills.modulus))
        return Correction(step, result, f"{number(place.value)}{due}")

    def mended(self, problem: Chain, reference: Any, text: str) -> str:
        """See `Family.mended`; the ways of the draft are kept where it has them."""
        found, lines = self.locate(problem, reference, text), split_reply(text)[0]
        if found is None:
            return text
        kept = lines[: found.step - 1]
        steps = (read_line(line) for line in lines[found.step - 1 :])
        return self._finished(problem, kept, [line.way for line in steps if line is not None])

    def solution(self, problem: Chain, reference: Any) -> str:  # noqa: ARG002
        """See `Family.solution`; ways are drawn from the question."""
        rng = random.Random(content_hash(str(problem)))
        return self._finished(problem, (), [rng.choice(WAYS) for _ in problem.operations])

    def _finished(self, chain: Chain, kept: Iterable[str], ways: Sequence[str]) -> str:
        """The kept lines, right steps for the rest by the given ways, and the answer."""
        lines = list(kept)
        place = track(chain.start, lines)[1]
        value = place.value
        for i, operation in enumerate(chain.operations[place.done :]):
            result = apply(operation, value, self.skills.modulus)
            way = ways[i] if i < len(ways) else WAYS[0]
            lines.append(write_line(place.done + i + 1, way, value, operation, number(result)))
            value = result
        return NEWLINE.join([*lines, f"{ANSWER}{number(value)}"])


def _lengths(level: int, easier: bool) -> dict[int, float]:
    """Number of operations of a proposed question -> probability."""
    near = {max(1, level - 1): 0.7, max(1, level - 2): 0.3} if easier else {level - 1: 0.2, level: 0.6, level + 1: 0.2}
    kept = {length: p for length, p in near.items() if 1 <= length <= 8}
    kept = kept if len(near) > 1 else {max(1, level - 1): 1.0}
    total = sum(kept.values())
    return {length: p / total for length, p in kept.items()}
