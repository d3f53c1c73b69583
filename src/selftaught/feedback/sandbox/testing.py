"""Carry calls and answers between tests in one sandbox and a candidate in another."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import Any

from selftaught.feedback.sandbox.process import Exchange, SandboxedProcess

_VERDICT, _CALL, _FAILED = b"V", b"C", b"F"
_LONGEST_LINE = 4_100_000  # bytes, a little over `plain.LARGEST`
_KEPT = 20_000  # bytes of what the tests write to their own standard error


@dataclass(frozen=True, slots=True)
class TestResult:
    """What tests say of a candidate.

    Attributes:
        passed: tests that passed.
        of: tests.
        text: why the first that failed did; empty if none did.
        decided: False where the tests came to no verdict and none had failed: wall-clock time was up while processor
            time was left, the tests' own code failed, or they cannot be run on code in another process.
        printed: what the candidate printed, at most `Limits.output` bytes.
    """

    __test__ = False  # it is no test of pytest's

    passed: int
    of: int
    text: str = ""
    decided: bool = True
    printed: str = ""

    @property
    def ok(self) -> bool:
        """Whether all passed."""
        return self.decided and 0 < self.of == self.passed


class Testing:
    """One candidate and its tests, at work.

    Args:
        exchange: reads and writes until the deadline.
        theirs: the candidate's process, which has its job.
        ours: that of the tests, likewise.
        count: number of tests.
    """

    __test__ = False

    def __init__(self, exchange: Exchange, theirs: SandboxedProcess, ours: SandboxedProcess, count: int) -> None:
        self._exchange, self._theirs, self._ours, self._count = exchange, theirs, ours, count
        self._lines = {"theirs": bytearray(), "ours": bytearray()}
        self._due = 1  # lines that the candidate may send: what it defines, then an answer to each call
        self._failed = ""
        self._errors = {"printed": bytearray(), "errors": bytearray()}
        exchange.read(theirs.stdout, "theirs")
        exchange.read(theirs.stderr, "printed")
        exchange.read(ours.stdout, "ours")
        exchange.read(ours.stderr, "errors")

    def result(self) -> TestResult:
        """Carry lines until there is a verdict, or a reason why there is none."""
        while True:
            try:
                events = self._exchange.events()
            except TimeoutError:
                return self._none(f"no result within {self._theirs.limits.seconds:g} s", decided=False)
            for key, data in events:
                found = self._error(key, data) if key in self._errors else self._line(key, data)
                if found is not None:
                    return found

    def _error(self, key: str, data: bytes) -> TestResult | None:
        kept, limit = self._errors[key], self._theirs.limits.output if key == "printed" else _KEPT
        kept += data[: limit - len(kept) + 1]
        if key == "printed" and len(kept) > limit:
            return self._none(f"prints more than {limit:,} bytes")
        return None

    def _line(self, key: str, data: bytes) -> TestResult | None:
        """Act on the whole lines that have come."""
        if not data:
            return self._ended(key)
        lines = self._lines[key]
        lines += data
        while (end := lines.find(b"\n")) >= 0:
            line = bytes(lines[: end + 1])
            del lines[: end + 1]
            if key == "theirs":
                self._due -= 1
                if self._due < 0:
                    return self._none("answers without being asked")
                self._exchange.send(self._ours.stdin, line)
            elif line.startswith(_CALL):
                self._due += 1
                self._exchange.send(self._theirs.stdin, line[1:])
            elif line.startswith(_FAILED):
                self._failed = str(json.loads(line[1:]))
            elif line.startswith(_VERDICT):
                return self._verdict(json.loads(line[1:]))
        if len(lines) > _LONGEST_LINE:
            return self._none("answers without end")
        return None

    def _verdict(self, message: dict[str, Any]) -> TestResult:
        fields = dict(message["dict"])
        passed, text = int(fields["passed"]), str(fields["text"])
        return TestResult(passed, self._count, text, bool(fields["decided"]), self._printed())

    def _ended(self, key: str) -> TestResult | None:
        """What the end of a process means; None if the verdict is still to come."""
        if key == "ours":
            why = bytes(self._errors["errors"]).decode(errors="replace").strip().splitlines()
            return self._none(
                f"the tests fail by themselves: {why[-1] if why else 'they end without a verdict'}", False
            )
        code = self._theirs.wait()
        if code == -signal.SIGXCPU:
            return self._none(f"more than {self._theirs.limits.cpu_seconds} s of processor time")
        if code < 0:
            return self._none(f"ended by {_signal(-code)}")
        return self._none(f"ends itself, with status {code}")

    def _none(self, why: str, decided: bool = True) -> TestResult:
        """No verdict, for a reason; where a test had failed already, that decides."""
        return TestResult(0, self._count, self._failed or why, decided or bool(self._failed), self._printed())

    def _printed(self) -> str:
        return bytes(self._errors["printed"]).decode(errors="replace")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
