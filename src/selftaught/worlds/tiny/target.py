"""The family `target`: `target 5 = 30 with +3 *4 -2`, reach a goal from a start by some of the operations, each once.

Solutions search without looking far: at each line the writer takes an operation that it believes to lead straight to
the goal, or else one by habit, and may end where no operation is left. Whether the goal is reached is plain to see.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from selftaught.records import Verdict, content_hash
from selftaught.worlds.kit.family import Checked, Context, Correction, split_reply, verdict
from selftaught.worlds.kit.language import ANSWER, NEWLINE, WAIT, WAYS, number
from selftaught.worlds.kit.process import END, Options, View, Writing, single
from selftaught.worlds.tiny.lookups import LookUpFamily, Sight, near
from selftaught.worlds.tiny.question import Line, Move, Place, read_line, track, withdrawn, write_line
from selftaught.worlds.tiny.strategy import TOOLS, policy, strengths
from selftaught.worlds.tiny.table import apply
from selftaught.worlds.tiny.target_question import (
    MOST,
    SIZES,
    TOOL,
    Goal,
    draw_goal,
    find_path,
    follow_path,
    leading,
    read_goal,
)  # fmt: skip
from selftaught.worlds.tiny.target_solver import target_solver


class Target(LookUpFamily):
    """Searches; level L takes 1, 2, 3, 2, 4 or 3 of 2, 2, 3, 3, 4 or 4 operations. See `LookUpFamily`.

    Answers are the operations in order; any that reach the goal are right.
    """

    name = "target"
    levels = tuple(SIZES)

    @property
    def modulus(self) -> int:
        """Numbers are 0..modulus-1."""
        return self.skills.modulus

    # --- questions ---

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`."""
        problem = draw_goal(level, rng, self.modulus)
        return str(problem), self.answer(problem)

    def read(self, question: str) -> Goal | None:
        """See `Family.read`."""
        return read_goal(question, self.modulus)

    def answer(self, problem: Goal) -> str:
        """The shortest right answer."""
        return "".join(self._path(Place(problem.start), problem) or ()).strip()

    def _path(self, place: Place, problem: Goal) -> tuple[str, ...] | None:
        return find_path(place.value, problem.left(place.path), problem.goal, self.modulus)

    # --- writing ---

    def solve(self, problem: Goal, context: Context) -> Writing:
        """See `Family.solve`."""
        return target_solver(problem, context, self.table).writing()

    def direct(self, problem: Goal, view: View) -> Writing:
        """The answer without steps: one operation."""
        yield ANSWER
        options = policy(problem.operations, strengths(self.skills))
        sees = self.strategy.sees if (seen := self.table_leads(problem)) else 0.0
        options = {op: p * (1 - sees) + sees * (op in seen) / max(1, len(seen)) for op, p in options.items()}
        yield single("direct", options, ("direct", self.name, tuple(sorted(problem.operations)), seen), view)
        yield END

    def table_leads(self, problem: Goal) -> tuple[str, ...]:
        """Operations that the writer believes to lead straight to the goal."""
        return leading(self.table.facts, problem.operations, problem.start, problem.goal)

    def propose(self, problem: Goal, easier: bool, view: View) -> Writing:
        """Another question, whose goal is one of its operations away; easier ones offer fewer."""
        values = [number(value) for value in range(self.modulus)]
        yield "target"
        start = yield single("propose", dict.fromkeys(values, 1 / len(values)))
        yield " ="
        value = int(start) if start.strip().isdigit() else 0
        goal = yield single("propose:goal", self._goals(value), ("propose:goal", value), view)
        yield " with"
        wanted = near(len(problem.operations), easier, range(2, MOST + 1))
        tools: list[str] = []
        while len(tools) < MOST:
            stop = wanted.get(len(tools), 0.0) / (sum(p for n, p in wanted.items() if n >= len(tools)) or 1.0)
            rest = [tool for tool in TOOLS if tool not in tools]
            if not tools:  # one that leads to the goal
                rest = [t for t in rest if number(apply(t, value, self.modulus)) == goal] or rest
            options = {END: stop} if stop else {}
            options |= dict.fromkeys(rest, (1 - stop) / len(rest)) if stop < 1 else {}
            token = yield single("propose", options, ("propose", self.name, easier, tuple(tools)), view)
            if token == END:
                return
            tools.append(token)
        yield END

    def _goals(self, value: int) -> Options:
        """Where one tool may lead from a value; rarely another number."""
        goals = dict.fromkeys(map(number, range(self.modulus)), self.skills.malformed / self.modulus)
        led = [tool for tool in TOOLS if apply(tool, value, self.modulus) != value]
        for tool in led:
            goals[number(apply(tool, value, self.modulus))] += (1 - self.skills.malformed) / len(led)
        return goals

    # --- criticism ---

    def sights(self, problem: Goal, lines: Sequence[str]) -> list[Sight | bool]:
        """See `LookUpFamily.sights`: the step's fact, and whether the draft reaches the goal in the end."""
        moves, last = track(problem.start, lines)
        return [self._sight(problem, move, last.value == problem.goal) for move in moves]

    def _sight(self, problem: Goal, move: Move, reached: bool) -> Sight | bool:
        line = move.line
        if line is None:
            return move.text == WAIT
        left = problem.left(move.before.path)
        if line.value != move.before.value or line.operation not in left or int(line.result) >= self.modulus:
            return False
        name = (line.operation, line.value)
        agreement = self.table.agreement(name, line.result)
        outlook = 0 if reached else len(left)
        provoked = agreement == 1 and self.table.facts[name].provokes
        right, cells = self._is_right(problem, move), ((agreement, outlook), (self.felt(line), outlook))
        return Sight(*cells, name, line.result, right, provoked)

    def correction(self, problem: Goal, lines: Sequence[str], step: int, view: View) -> tuple[str, Options]:
        """See `Family.correction`: another operation where the draft fails and its look-up seems right."""
        moves, last = track(problem.start, lines)
        move = moves[step - 1] if step <= len(moves) else Move(last, None, "")
        place, line = move.before, move.line
        left = problem.left(place.path)
        if not left or place.value == problem.goal:
            return "".join(place.path[:-1]), {(place.path or (number(place.value),))[-1]: 1.0}
        options = policy(left, strengths(self.skills))
        if line is not None and line.operation in left and line.value == place.value:
            doubtful = self.table.agreement((line.operation, line.value), line.result) == 2
            if doubtful or last.value == problem.goal:
                options = {line.operation: 1.0}
            elif len(left) > 1:
                options = {tool: p for tool, p in options.items() if tool != line.operation}
        best = max(options, key=options.__getitem__)
        name = (best, place.value)
        return f"{number(place.value)}{best}", view(("correct", name), self.table.corrections(name))

    def concludes(self, problem: Goal, lines: Sequence[str], answer: str | None) -> bool:
        """See `Family.concludes`."""
        place = track(problem.start, lines)[1]
        return place.value == problem.goal and answer == "".join(place.path).strip()

    # --- exact verdicts ---

    def check(self, problem: Goal, reference: Any, lines: Sequence[str], answer: str | None) -> Checked:  # noqa: ARG002
        """See `Family.check`. A step into a dead end is wrong, unless the solution stood in one before it."""
        moves, _ = track(problem.start, lines)
        sound = tuple(verdict(self._is_right(problem, move)) for move in moves)
        return Checked(sound, verdict(self._reaches(problem, answer or "")), withdrawn(moves))

    def _reaches(self, problem: Goal, answer: str) -> bool:
        path = TOOL.findall(f" {answer}")
        fits = f" {answer}" == "".join(path) and len(set(path)) == len(path) and set(path) <= set(problem.operations)
        return fits and follow_path(problem.start, path, self.modulus) == problem.goal

    def _is_right(self, problem: Goal, move: Move) -> bool:
        line, before = move.line, move.before
        if line is None:
            return move.text == WAIT
        left = problem.left(before.path)
        if line.value != before.value or line.operation not in left:
            return False
        if number(apply(line.operation, line.value, self.modulus)) != line.result:
            return False
        after = before.after(line.operation, int(line.result))
        return self._path(after, problem) is not None or self._path(before, problem) is None

    def locate(self, problem: Goal, reference: Any, text: str) -> Correction | None:
        """See `Family.locate`."""
        lines, answer = split_reply(text)
        checked = self.check(problem, reference, lines, answer)
        if checked.first_error is None and checked.answer is Verdict.RIGHT:
            return None
        step = checked.first_error or len(lines) + 1
        moves, last = track(problem.start, lines)
        place, line = (moves[step - 1].before, moves[step - 1].line) if step <= len(moves) else (last, None)
        path = self._path(place, problem)
        if not path:  # nothing to do but to answer
            done = place.path or (number(place.value),)
            return Correction(step, done[-1], "".join(done[:-1]))
        operation = self._due(problem, place, line, path)
        return Correction(
            step, number(apply(operation, place.value, self.modulus)), f"{number(place.value)}{operation}"
        )

    def _due(self, problem: Goal, place: Place, line: Line | None, path: Sequence[str]) -> str:
        """The operation of a line, if it may be used and the goal can be reached after it; else the best one."""
        if line is not None and line.operation in problem.left(place.path):
            after = place.after(line.operation, apply(line.operation, place.value, self.modulus))
            if self._path(after, problem) is not None:
                return line.operation
        return path[0]

    def mended(self, problem: Goal, reference: Any, text: str) -> str:
        """See `Family.mended`; the ways of the draft are kept where it has them."""
        found, lines = self.locate(problem, reference, text), split_reply(text)[0]
        if found is None:
            return text
        kept = list(lines[: found.step - 1])
        place = track(problem.start, kept)[1]
        ways = [line.way for line in map(read_line, lines[found.step - 1 :]) if line is not None]
        named = TOOL.findall(found.given)
        if named and self._path(place, problem):
            way = ways[0] if ways else WAYS[0]
            kept.append(write_line(place.done + 1, way, place.value, named[-1], found.result))
            place, ways = place.after(named[-1], int(found.result)), ways[1:]
        return NEWLINE.join([*kept, *self._finished(problem, place, ways)])

    def solution(self, problem: Goal, reference: Any) -> str:  # noqa: ARG002
        """See `Family.solution`; ways are drawn from the question."""
        rng = random.Random(content_hash(str(problem)))
        ways = [rng.choice(WAYS) for _ in problem.operations]
        return NEWLINE.join(self._finished(problem, Place(problem.start), ways))

    def _finished(self, problem: Goal, place: Place, ways: Sequence[str]) -> Iterator[str]:
        """Right steps from a place to the goal, and the answer."""
        value, path = place.value, self._path(place, problem) or ()
        for i, operation in enumerate(path):
            after = apply(operation, value, self.modulus)
            yield write_line(place.done + i + 1, ways[i] if i < len(ways) else WAYS[0], value, operation, number(after))
            value = after
        yield f"{ANSWER}{''.join((*place.path, *path))}"
