"""The family `program`: find the operations that lead through all numbers of two runs; verdicts run the program.

The writer infers each operation from the first run alone, so some programs fail on the second, which a critic looks at.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from selftaught.records import Verdict, content_hash
from selftaught.worlds.kit.family import Checked, Context, Correction, split_reply, verdict
from selftaught.worlds.kit.language import ANSWER, NEWLINE, UNSURE, WAIT, WAYS, count, number, of_place, tokenize
from selftaught.worlds.kit.process import END, Choice, Options, Part, View, Writing, single
from selftaught.worlds.tiny.lookups import LookUpFamily, Sight, near
from selftaught.worlds.tiny.open_solver import OpenSolver
from selftaught.worlds.tiny.program_question import LONGEST, Runs, draw_runs, inferred, inferred_anyhow, read_runs
from selftaught.worlds.tiny.question import Chain, Move, Place, read_line, track, withdrawn, write_line
from selftaught.worlds.tiny.solve import Line, shown_in
from selftaught.worlds.tiny.strategy import TOOLS, strategy_of, usual_ways
from selftaught.worlds.tiny.table import FactName, apply

_TOOL = re.compile(r" [-+*][2-8]")


class Program(LookUpFamily):
    """Programs of `level` operations. See `LookUpFamily`. Answers are the operations in order."""

    name = "program"
    levels = tuple(range(1, LONGEST + 1))

    @property
    def modulus(self) -> int:
        """Numbers are 0..modulus-1."""
        return self.skills.modulus

    # --- questions ---

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`."""
        problem = draw_runs(level, rng, self.modulus)
        return str(problem), self.answer(problem)

    def read(self, question: str) -> Runs | None:
        """See `Family.read`."""
        return read_runs(question, self.modulus)

    def answer(self, problem: Runs) -> str:
        """See `Family.answer`."""
        return "".join(problem.tools(i, self.modulus)[0] for i in range(problem.length)).strip()

    # --- writing ---

    def solve(self, problem: Runs, context: Context) -> Writing:
        """See `Family.solve`."""
        return ProgramSolver(
            self.table,
            Chain(problem.shown[0], (), (), 0, problem.way),
            replace(context, hint=None),
            shown_in(context.demonstrations),
            Place(problem.shown[0]),
            doubting=self.skills.doubting,
            family=self.name,
            hinted=tuple(tokenize(context.hint)) if context.hint else (),
            runs=problem,
        ).writing()

    def direct(self, problem: Runs, view: View) -> Writing:
        """The operations without steps."""
        yield ANSWER
        for i in range(problem.length):
            value, result = problem.shown[i : i + 2]
            yield single("direct", self._anyhow(value, result), ("direct", self.name, value, result), view)
        yield END

    def _anyhow(self, value: int, result: int) -> Options:
        return inferred_anyhow(self.skills, value, result, usual_ways(self.skills))

    def propose(self, problem: Runs, easier: bool, view: View) -> Writing:
        """One run of another program: about as long as `problem`, or shorter."""
        lengths = {count(n): p for n, p in near(problem.length, easier, self.levels).items()}
        yield "program"
        said = yield single("propose", lengths, ("propose", self.name, easier, problem.length), view)
        length = next((n for n in self.levels if count(n) == said), 1)
        values = [number(value) for value in range(self.modulus)]
        token = yield single("propose", dict.fromkeys(values, 1 / len(values)))
        for i in range(1, length + 1):
            yield of_place(i)
            value = int(token) if token.strip().isdigit() else 0
            token = yield single("propose:next", self._next(value, length), ("propose:next", value), view)
        yield END

    def _next(self, value: int, length: int) -> Options:
        """Where a tool may lead from a value; a number where none does, so often that few proposals are none."""
        wrong = self.skills.malformed / length / self.modulus
        found = dict.fromkeys(map(number, range(self.modulus)), wrong)
        for tool in TOOLS:
            found[number(apply(tool, value, self.modulus))] += (1 - wrong * self.modulus) / len(TOOLS)
        return found

    # --- criticism ---

    def sights(self, problem: Runs, lines: Sequence[str]) -> list[Sight | bool]:
        """See `LookUpFamily.sights`: the operation's fact in the last run, which the solver did not look at."""
        return [self._sight(problem, move) for move in track(problem.shown[0], lines)[0]]

    def _sight(self, problem: Runs, move: Move) -> Sight | bool:
        line, i = move.line, move.before.done
        if line is None:
            return move.text == WAIT
        if not self._in_place(problem, move) or line.operation not in TOOLS:
            return False
        value, result = list(problem.pairs(i))[-1]
        name: FactName = (line.operation, value)
        agreement = self.table.agreement(name, number(result))
        provoked = agreement == 1 and self.table.facts[name].provokes
        right, written = self._is_right(problem, move), f"{number(value)}{line.operation}"
        return Sight(agreement, self.felt(line), name, number(result), right, provoked, written)

    def restated(self, problem: Runs, lines: Sequence[str]) -> list[str]:
        """See `Family.restated`: each operation in the last run."""
        return [self._run(problem, move) for move in track(problem.shown[0], lines)[0]]

    def _run(self, problem: Runs, move: Move) -> str:
        i, line = move.before.done, move.line
        if line is None or i >= problem.length:
            return UNSURE
        value = list(problem.pairs(i))[-1][0]
        return f"{number(value)}{line.operation}{number(apply(line.operation, value, self.modulus))}"

    def _in_place(self, problem: Runs, move: Move) -> bool:
        line, i = move.line, move.before.done
        if line is None or i >= problem.length:
            return False
        return (line.value, int(line.result)) == problem.shown[i : i + 2]

    def correction(self, problem: Runs, lines: Sequence[str], step: int, view: View) -> tuple[str, Options]:
        """See `Family.correction`: the operation that the critic's facts speak for in the last run."""
        moves, last = track(problem.shown[0], lines)
        place = moves[step - 1].before if step <= len(moves) else last
        i = place.done
        if i >= problem.length:
            return "".join(place.path[:-1]), {place.path[-1]: 1.0}
        written = moves[step - 1].line if step <= len(moves) else None
        value, result = problem.shown[i : i + 2]
        options = self._anyhow(value, result)

        def rank(tool: str) -> tuple[int, float]:
            a, b = list(problem.pairs(i))[-1]
            return self.table.agreement((tool, a), number(b)), -options[tool]

        rivals = [tool for tool in TOOLS if written is None or tool != written.operation]
        return f"{number(value)}{min(rivals, key=rank)}", view(("correct", self.name), {number(result): 1.0})

    def concludes(self, problem: Runs, lines: Sequence[str], answer: str | None) -> bool:
        """See `Family.concludes`."""
        place = track(problem.shown[0], lines)[1]
        return place.done == problem.length and answer == "".join(place.path).strip()

    # --- exact verdicts ---

    def check(self, problem: Runs, reference: Any, lines: Sequence[str], answer: str | None) -> Checked:  # noqa: ARG002
        """See `Family.check`. A step is right if its operation does what each run shows there."""
        moves, _ = track(problem.shown[0], lines)
        sound = tuple(verdict(self._is_right(problem, move)) for move in moves)
        path = _TOOL.findall(f" {answer}")
        fits = 0 < len(path) <= 2 * LONGEST and f" {answer}" == "".join(path)
        return Checked(sound, verdict(fits and problem.does(path, self.modulus)), withdrawn(moves))

    def _is_right(self, problem: Runs, move: Move) -> bool:
        if move.line is None:
            return move.text == WAIT
        tools = problem.tools(move.before.done, self.modulus) if self._in_place(problem, move) else ()
        return move.line.operation in tools

    def locate(self, problem: Runs, reference: Any, text: str) -> Correction | None:
        """See `Family.locate`."""
        lines, answer = split_reply(text)
        checked = self.check(problem, reference, lines, answer)
        if checked.first_error is None and checked.answer is Verdict.RIGHT:
            return None
        step = checked.first_error or len(lines) + 1
        moves, last = track(problem.shown[0], lines)
        place = moves[step - 1].before if step <= len(moves) else last
        i = place.done
        if i >= problem.length:
            return Correction(step, place.path[-1], "".join(place.path[:-1]))
        value, result = problem.shown[i : i + 2]
        return Correction(step, number(result), f"{number(value)}{problem.tools(i, self.modulus)[0]}")

    def mended(self, problem: Runs, reference: Any, text: str) -> str:
        """See `Family.mended`; the ways of the draft are kept where it has them."""
        found, lines = self.locate(problem, reference, text), split_reply(text)[0]
        if found is None:
            return text
        kept = lines[: found.step - 1]
        ways = [line.way for line in map(read_line, lines[found.step - 1 :]) if line is not None]
        return NEWLINE.join([*kept, *self._finished(problem, track(problem.shown[0], kept)[1].path, ways)])

    def solution(self, problem: Runs, reference: Any) -> str:  # noqa: ARG002
        """See `Family.solution`; ways are drawn from the question."""
        rng = random.Random(content_hash(str(problem)))
        return NEWLINE.join(self._finished(problem, (), [rng.choice(WAYS) for _ in range(problem.length)]))

    def _finished(self, problem: Runs, path: tuple[str, ...], ways: Sequence[str]) -> Iterator[str]:
        """Right steps after the first ones, and the answer."""
        path = path[: problem.length]
        rest = [problem.tools(i, self.modulus)[0] for i in range(len(path), problem.length)]
        for i, operation in enumerate(rest):
            value, result = problem.shown[len(path) + i : len(path) + i + 2]
            yield write_line(len(path) + i + 1, ways[i] if i < len(ways) else WAYS[0], value, operation, number(result))
        yield f"{ANSWER}{''.join((*path, *rest))}"


@dataclass
class ProgramSolver(OpenSolver):
    """Writes a solution.

    Attributes:
        runs: the problem.
        way: of the line that is being written.
    """

    runs: Runs = field(default_factory=lambda: Runs((0, 0)))
    way: str = ""

    @property
    def _due(self) -> str:
        """Not "" where a step is next."""
        return TOOLS[0] if self.place.done < self.runs.length else ""

    def _copied(self) -> Writing:
        """The lines that are kept."""
        yield from super()._copied()
        self._arrive()

    def _arrive(self) -> None:
        self.place = self.place._replace(value=self.runs.shown[min(self.place.done, self.runs.length)])

    def _move(self, name: FactName, way: str, result: str) -> None:
        super()._move(name, way, result)
        self._arrive()

    def _step(self) -> Line:
        """The rest of a line; what comes out is given."""
        if not self._due:
            return False
        value, result = self.runs.shown[self.place.done : self.place.done + 2]
        self.way = yield self._way()
        if self.way == NEWLINE:
            return self._cut()
        written = (yield self._operation()) if self.way in WAYS else ""
        if written == NEWLINE:
            return self._cut()
        operation = written.removeprefix(number(value))
        said = (yield number(result)) if (operation, value) in self.table.facts else ""
        if said == NEWLINE:
            return self._cut()
        if said != number(result):
            return False
        self._move((operation, value), self.way, said)
        return (yield NEWLINE) == NEWLINE

    def _operation(self) -> Choice:
        """The operation that leads from one number to the next: inferred, or as a critique or a hint names it."""
        skills, i = self.table.skills, self.place.done
        value, result = self.runs.shown[i : i + 2]
        options, key = inferred(skills, value, result, self.way), ("infer", value, result, self.way)
        parts = [Part(1.0, self.context.view(key, options), key, "own")]
        if self.tried in options and options[self.tried] < 1:
            share = strategy_of(skills).elsewhere
            left = {tool: p / (1 - options[self.tried]) for tool, p in options.items() if tool != self.tried}
            parts = [Part(share, left, name="elsewhere"), parts[0]._replace(weight=1 - share)]
        parts = self._led_to(self._hint, parts, skills.hint_result, "hint")
        parts = self._led_to(self.named, parts, skills.follows, "named")
        right = self.runs.tools(i, skills.modulus)
        kind = self.table.facts[right[0], value].kinds[self.way]
        skill = f"infer:{kind}" if len(parts) == 1 else "infer:led"
        gate = ("inferred", *(part.name for part in parts)) if len(parts) > 1 else None
        return self._chosen(skill, parts, gate, right[0] if len(right) == 1 else None)
