"""The family `lists`: write a list that meets constraints; it is graded by the share of them that it meets.

A list needs no reference: the question alone says how good each answer is. Only one that meets everything is right.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from selftaught.records import Verdict, content_hash
from selftaught.worlds.kit.family import Checked, Context, Correction, split_reply, verdict
from selftaught.worlds.kit.language import ANSWER, NEWLINE, WAIT, WAYS, count, number, of_place, tokenize
from selftaught.worlds.kit.process import END, Choice, Options, Part, View, Writing, single
from selftaught.worlds.tiny.lists_question import LONGEST, Wanted, draw_wanted, read_wanted
from selftaught.worlds.tiny.lookups import LookUpFamily, OperationSolver, Sight, near
from selftaught.worlds.tiny.question import Chain, Move, Place, read_line, track, withdrawn, write_line
from selftaught.worlds.tiny.solve import Line, shown_in
from selftaught.worlds.tiny.strategy import strategy_of
from selftaught.worlds.tiny.table import FactName, apply, operations


class Lists(LookUpFamily):
    """Lists of `level` + 1 results, with a number that is not to be among them. See `LookUpFamily`.

    Answers are numbers, at most as many as the question asks for.
    """

    name = "lists"
    levels = tuple(range(1, 7))

    @property
    def modulus(self) -> int:
        """Numbers are 0..modulus-1."""
        return self.skills.modulus

    # --- questions ---

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`."""
        problem = draw_wanted(level, rng, self.modulus)
        return str(problem), self.answer(problem)

    def read(self, question: str) -> Wanted | None:
        """See `Family.read`."""
        return read_wanted(question, self.modulus)

    def answer(self, problem: Wanted) -> str:
        """See `Family.answer`."""
        return " ".join(map(str, problem.results(self.modulus)))

    # --- writing ---

    def solve(self, problem: Wanted, context: Context) -> Writing:
        """See `Family.solve`."""
        return ListSolver(
            self.table,
            Chain(problem.items[0][1], tuple(operation for operation, _ in problem.items), (), 0, problem.way),
            replace(context, hint=None),
            shown_in(context.demonstrations),
            Place(problem.items[0][1]),
            doubting=self.skills.doubting,
            wanted=problem,
            hinted=tuple(tokenize(context.hint)) if context.hint else (),
        ).writing()

    def direct(self, problem: Wanted, view: View) -> Writing:
        """The list without steps."""
        yield ANSWER
        for name in problem.items:
            yield single("direct", self.table.facts[name].marginal(), ("direct", name), view)
        yield END

    def propose(self, problem: Wanted, easier: bool, view: View) -> Writing:
        """Another question without banned numbers: about as long as `problem`, or shorter."""
        lengths = {count(n): p for n, p in near(len(problem.items), easier, range(1, max(self.levels) + 2)).items()}
        values, every = [number(value) for value in range(self.modulus)], operations()
        facts = {f"{value}{operation}": 1 / len(values) / len(every) for value in values for operation in every}
        cut = self.skills.malformed
        yield "list"
        said = yield single("propose", lengths, ("propose", self.name, easier, len(problem.items)), view)
        for i in range(1, next((n for n in range(1, LONGEST + 1) if count(n) == said), 1) + 1):
            yield of_place(i) if i > 1 else single("propose", {of_place(i): 1 - cut, END: cut})
            yield single("propose", facts)
        yield END

    # --- criticism ---

    def sights(self, problem: Wanted, lines: Sequence[str]) -> list[Sight | bool]:
        """See `LookUpFamily.sights`: the step's own fact."""
        return [self._sight(problem, move) for move in track(0, lines)[0]]

    def _sight(self, problem: Wanted, move: Move) -> Sight | bool:
        line = move.line
        if line is None:
            return move.text == WAIT
        if not _in_place(problem, move) or int(line.result) in problem.banned or int(line.result) >= self.modulus:
            return False
        name = (line.operation, line.value)
        agreement = self.table.agreement(name, line.result)
        provoked = agreement == 1 and self.table.facts[name].provokes
        return Sight(agreement, self.felt(line), name, line.result, self._is_right(problem, move), provoked)

    def overall(self, glances: Sequence[float]) -> float:
        """See `Family.overall`: by the most doubtful line and their number, as in `paths`."""
        return self.table.overall(glances)

    def correction(self, problem: Wanted, lines: Sequence[str], step: int, view: View) -> tuple[str, Options]:
        """See `Family.correction`."""
        place = track(0, lines[: step - 1])[1]
        if place.done >= len(problem.items):
            said = _results(lines[: step - 1])
            return "".join(said[:-1]), {said[-1]: 1.0}
        name = problem.items[place.done]
        return f"{number(name[1])}{name[0]}", view(("correct", name), self.table.corrections(name))

    def concludes(self, problem: Wanted, lines: Sequence[str], answer: str | None) -> bool:
        """See `Family.concludes`."""
        said = _results(lines)
        return len(said) == len(problem.items) and answer == "".join(said).strip()

    # --- exact verdicts ---

    def check(self, problem: Wanted, reference: Any, lines: Sequence[str], answer: str | None) -> Checked:  # noqa: ARG002
        """See `Family.check`. The degree is the share of constraints that the list meets."""
        moves, _ = track(0, lines)
        sound = tuple(verdict(self._is_right(problem, move)) for move in moves)
        met = problem.met(answer, self.modulus)
        return Checked(sound, verdict(all(met)), withdrawn(moves), sum(met) / len(met))

    def _is_right(self, problem: Wanted, move: Move) -> bool:
        line = move.line
        if line is None:
            return move.text == WAIT
        return _in_place(problem, move) and line.result == number(apply(line.operation, line.value, self.modulus))

    def locate(self, problem: Wanted, reference: Any, text: str) -> Correction | None:
        """See `Family.locate`."""
        lines, answer = split_reply(text)
        checked = self.check(problem, reference, lines, answer)
        if checked.first_error is None and checked.answer is Verdict.RIGHT:
            return None
        step = checked.first_error or len(lines) + 1
        done = track(0, lines[: step - 1])[1].done
        if done >= len(problem.items):
            said = _results(lines[: step - 1])
            return Correction(step, said[-1], "".join(said[:-1]))
        operation, value = problem.items[done]
        return Correction(step, number(apply(operation, value, self.modulus)), f"{number(value)}{operation}")

    def mended(self, problem: Wanted, reference: Any, text: str) -> str:
        """See `Family.mended`; the ways of the draft are kept where it has them."""
        found, lines = self.locate(problem, reference, text), split_reply(text)[0]
        if found is None:
            return text
        kept = lines[: found.step - 1]
        ways = [line.way for line in map(read_line, lines[found.step - 1 :]) if line is not None]
        return NEWLINE.join([*kept, *self._finished(problem, kept, ways)])

    def solution(self, problem: Wanted, reference: Any) -> str:  # noqa: ARG002
        """See `Family.solution`; ways are drawn from the question."""
        rng = random.Random(content_hash(str(problem)))
        return NEWLINE.join(self._finished(problem, (), [rng.choice(WAYS) for _ in problem.items]))

    def _finished(self, problem: Wanted, kept: Sequence[str], ways: Sequence[str]) -> Iterator[str]:
        """Right steps after the kept ones, and the answer."""
        said = list(_results(kept))
        for i, (operation, value) in enumerate(problem.items[len(said) :]):
            said.append(number(apply(operation, value, self.modulus)))
            yield write_line(len(said), ways[i] if i < len(ways) else WAYS[0], value, operation, said[-1])
        yield f"{ANSWER}{''.join(said)}"


def _in_place(problem: Wanted, move: Move) -> bool:
    """Whether a step is about the item that is due."""
    line, done = move.line, move.before.done
    return line is not None and problem.items[done : done + 1] == ((line.operation, line.value),)


def _results(lines: Sequence[str]) -> list[str]:
    """Results of the steps that stand, as tokens."""
    moves, _ = track(0, lines)
    return [move.line.result for move in moves if move.line is not None and not move.withdrawn]


@dataclass
class ListSolver(OperationSolver):
    """Writes a list.

    Attributes:
        wanted: the problem.
        said: results, of which the first `place.done` count.
        hinted: numbers of the hint.
    """

    wanted: Wanted = field(default_factory=lambda: Wanted(()))
    said: list[str] = field(default_factory=list)
    hinted: tuple[str, ...] = ()

    def _arrive(self, said: list[str]) -> None:
        at = min(len(said), len(self.wanted.items) - 1)
        self.said, self.place = said, self.place._replace(value=self.wanted.items[at][1])

    def _copied(self) -> Writing:
        """The lines that are kept."""
        yield from super()._copied()
        self._arrive(_results(self.context.kept))

    def _move(self, name: FactName, way: str, result: str) -> None:
        said = [*self.said[: self.place.done], result]
        super()._move(name, way, result)
        self._arrive(said)

    def _opening(self) -> Choice | str:
        """The number of the next step, the answer, or `wait`; a list may also end too early."""
        usual = super()._opening()
        forgets = strategy_of(self.table.skills).forgets if self._due and self.place.done and not self.named else 0.0
        if not forgets:
            return usual
        options: Options = {usual: 1.0} if isinstance(usual, str) else usual.distribution()
        ends = {token: p if token == WAIT else p * (1 - forgets) for token, p in options.items()}
        ends[ANSWER] = forgets * (1 - options.get(WAIT, 0.0))
        return single("stop", ends, ("stop", self.place.done, WAIT in ends), self.context.view)

    def _outcome(self, name: FactName, way: str) -> Choice:
        """What a step comes to; with a hint, mostly what that says."""
        done = self.place.done
        if done >= len(self.hinted) or self.wanted.items[done : done + 1] != (name,):
            return super()._outcome(name, way)
        key = ("result", name, way)
        own = Part(1.0, self.context.view(key, self.table.facts[name].results[way]), key, "own")
        return self._led("hint", self.table.skills.hint_result, self.hinted[done], own)

    def _answer(self) -> Line:
        """The list."""
        for result in self.said[: self.place.done]:
            if (yield result) == NEWLINE:
                return True
        return (yield END) == NEWLINE
