"""The verifier of code: RIGHT if all tests pass, in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from selftaught.feedback.code import VISIBLE, has_tests, program, saying_result
from selftaught.feedback.sandbox import Limits, Sandbox, TestResult
from selftaught.feedback.verifiers import ExtractedAnswer, unknown_verdict
from selftaught.records import Feedback, Problem, Verdict

_SHOWN = 500  # characters of an input or output

LIMITS = Limits(cpu_seconds=10, seconds=60.0)


class CodeTests:
    """Runs an answer's code against the tests of its problem, which are its reference (`tasks.code.tests_of`).

    The score is the share of tests that pass; the text says why the first that fails does. More processor time than
    allowed is WRONG, like any other failure; UNKNOWN is what the tests do not decide (see `TestResult.decided`).

    Args:
        limits: of each process.
        packages: folders of packages that answers may import besides the standard library.

    Raises:
        BadInput: nothing here can isolate code that a model wrote.
    """

    needs_reference = True

    def __init__(self, limits: Limits = LIMITS, *, packages: tuple[str, ...] = ()) -> None:
        self.sandbox = Sandbox(limits, packages=packages)
        self.version = f"tests/2+{self.sandbox.version}"

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:  # noqa: ARG002
        """Run the tests."""
        return self._judged(problem.reference, problem.reference, answer)

    def _judged(self, reference: Any, tests: Any, answer: ExtractedAnswer) -> Feedback:
        """Run `tests` on the program of an answer, which `reference` says how to put together."""
        if not has_tests(tests) or not (tests.get("tests") or tests.get("io")):
            return unknown_verdict("no tests", self.version)
        if answer.raw is None:
            return unknown_verdict("no answer", self.version)
        found = self._run(program(answer.raw, reference), tests)
        if not found.decided:
            return unknown_verdict(found.text, self.version)
        verdict = Verdict.RIGHT if found.ok else Verdict.WRONG
        return Feedback(verdict, found.passed / found.of, found.text, self.version)

    def _run(self, code: str, tests: Mapping[str, Any]) -> TestResult:
        if "io" in tests:
            return self._by_output(code, tests["io"])
        return self.sandbox.test(
            code, tests["tests"], entry_point=tests.get("entry_point", ""), prelude=tests.get("prelude", ""),
            entry_points=tests.get("entry_points", ()),
        )  # fmt: skip

    def _by_output(self, code: str, pairs: list[list[str]]) -> TestResult:
        """Compare what a program prints, line by line, without the white space at the ends of lines."""
        passed, text = 0, ""
        for number, (given, wanted) in enumerate(pairs, 1):
            done = self.sandbox.run(code, given)
            if done.ended == "time":
                return TestResult(passed, len(pairs), text or f"test {number}: no result in time", bool(text))
            right = done.ok and _lines(done.stdout) == _lines(wanted)
            passed += right
            why = _difference(given, wanted, done.stdout) if done.ok else done.stderr[-2000:] or f"ended: {done.ended}"
            text = text or ("" if right else f"test {number} of {len(pairs)} fails\n{why}")
        return TestResult(passed, len(pairs), text)

    def close(self) -> None:
        """Stop the processes."""
        self.sandbox.close()


class VisibleTests(CodeTests):
    """Runs an answer's code against the tests of its problem that solvers may see (`feedback.code.VISIBLE`).

    The text of what fails holds the tests themselves, and what a call returned in place of what it should.
    """

    needs_reference = False

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:  # noqa: ARG002
        """Run the visible tests; UNKNOWN where the problem has none."""
        tests = problem.meta.get(VISIBLE)
        if not (has_tests(tests) and tests.get("tests")):
            return self._judged(problem.reference, tests, answer)
        found = self._judged(problem.reference, {**tests, "tests": [*map(saying_result, tests["tests"])]}, answer)
        if found.verdict is not Verdict.WRONG:
            return found
        return replace(found, text="\n".join([*tests["tests"], found.text]))


def _difference(given: str, wanted: str, printed: str) -> str:
    """What a program printed in place of what it should have, each cut to a length that can be read."""
    shown = {"input": given, "expected": wanted, "printed": printed}
    return "\n".join(f"{name}: {text.rstrip()[:_SHOWN]}" for name, text in shown.items())


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
