"""What the verbs of a run share: its journal, engine and task, what is counted, and the methods under way."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from selftaught import models
from selftaught.console import Console
from selftaught.control.budget import RunStopped
from selftaught.control.health import HealthMonitor
from selftaught.engines import Engine, PaidEngine
from selftaught.journal import Journal, Ledger
from selftaught.measure import Measurement
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.remarks import listen
from selftaught.run.config import configuration, configure, note_questions
from selftaught.run.guarded import Walls
from selftaught.run.rounds import cut_line, ends_line
from selftaught.run.sampling import Solving
from selftaught.run.settings import Settings
from selftaught.tasks import Task

Learner = Callable[..., Policy]


class RunContext:
    """What every verb of a run works on; the arguments are those of `Run`.

    Attributes:
        solving: samples and verifies, through the journal.
        walls: what is closed to methods.
        watch: what raises alarms.
        learn_seconds: spent in training on this start.
        methods: under way, the inner ones last, each with its label.
        calls: how often a method began, by label.
        begun: how many rounds began.
        number: of the round within its loop.
        facts: what the round under way came to so far.
        started: how often each question was attempted, by its content.
        measured, under: policy version -> its measurement as a champion, and hash of how that was measured.
        cut: answers, and those `truncated` at `max_tokens`.
        ends: records learned, and those that teach an end where none was (`wrong`).
        said: notes that were printed when they were made.
    """

    def __init__(
        self, folder: Path, *, model: str | Path | Policy, task: Task, engine: Engine | None, settings: Settings,
        learner: Learner, console: Console,
    ) -> None:  # fmt: skip
        self.folder, self.task, self.settings, self.learner, self.console = folder, task, settings, learner, console
        self.journal = Journal(folder)
        try:
            self.base = models.resolve(model, console.say)
            self.engine: Engine = engine or usual_engine(self.base)
            configure(self.journal, configuration(self.base, task, self.engine, settings))
            note_questions(self.journal, task)
        except BaseException:
            self.journal.close()
            raise
        if isinstance(self.engine, PaidEngine):
            before = self.journal.usage()
            self.engine.add_prior_usage(before.prompt, before.generated + before.judge)
        self.ledger, self.watch, self.walls = Ledger(), HealthMonitor(), Walls(task)
        self.champion, self.round, self.number, self.begun, self.learn_seconds = self.base, 0, 0, 0, 0.0
        self.history: list[dict[str, Any]] = []
        self.gates: list[dict[str, Any]] = []
        self.measured: dict[str, Measurement] = {}
        self.under: dict[str, str] = {}
        self.facts: dict[str, Any] = {}
        self.methods: list[tuple[Method, str]] = []
        self.calls, self.started, self.cut, self.ends = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        self.said: set[str] = set()
        self._notes = list(task.notes)
        self.solving = Solving(
            self.engine, task, self.journal, self.ledger, console,
            seed=settings.seed, failure_limit=settings.failure_limit, tick=self.clock,
        )  # fmt: skip
        self._deaf = listen(self._hear)

    @property
    def method(self) -> Method | None:
        """The innermost method under way."""
        return self.methods[-1][0] if self.methods else None

    @property
    def by_verdict(self) -> bool:
        """Whether verdicts may be used: outside of methods, and by those that declare it."""
        return self.method is None or "verifier" in self.method.needs

    @property
    def policies(self) -> Path:
        """Where policies are kept."""
        return self.folder / "policies"

    def doing(self, what: str) -> str:
        """What the console calls it in the round under way."""
        return f"round {self.round}: {what}" if self.round else what

    def enter_round(self, number: int) -> None:
        """Make it the round that everything is journalled under."""
        self.round = self.journal.round = number

    def note(self, key: str, kind: str, payload: dict[str, Any]) -> None:
        """Journal what costs nothing, once."""
        if self.journal.get(key) is None:
            self.journal.put(key, kind, payload)

    def tell(self, name: str, figures: Mapping[str, float | int | str]) -> None:
        """See `Run.tell`."""
        self.facts.setdefault("told", {})[name] = dict(figures)

    # --- cost ---

    def clock(self) -> None:
        """Note the time that was spent, and the memory."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.journal.record_time(self.engine.busy_seconds, self.learn_seconds, peak)

    def seconds(self) -> dict[str, float]:
        """See `Run.seconds`."""
        self.clock()
        return self.journal.seconds()

    def spending(self) -> str:
        """See `Run.spending`."""
        usage, seconds = self.ledger.usage, self.seconds()
        return (
            f"tokens: {usage.generated:,} generated, {usage.judge:,} judge, {usage.trained:,} trained;"
            f" {seconds['total']:.0f} s ({seconds['engine']:.0f} sampling, {seconds['learn']:.0f} learning)"
        )

    def check_budget(self) -> None:
        """Raise RunStopped where no tokens are left."""
        if self.settings.budget.is_exhausted(self.ledger.usage):
            raise self.end(f"the budget of {self.settings.budget.tokens:,} tokens is spent; the run ends here")

    def end(self, line: str) -> RunStopped:
        """Note, once, why the run goes no further."""
        if self.remark(line):
            self.console.say(line)
        return RunStopped(line)

    # --- notes ---

    @property
    def notes(self) -> list[str]:
        """See `Run.notes`."""
        spent = self.engine.spent if isinstance(self.engine, PaidEngine) else 0.0
        money = [f"${spent:,.4f} spent at the endpoint, as its prices were given"] if spent else []
        cut = [cut_line(self.cut)] if self.cut["truncated"] else []
        ends = [ends_line(self.ends)] if self.ends["wrong"] else []
        return [*self._notes, *ends, *self.solving.notes(), *cut, *money]

    def remark(self, line: str) -> bool:
        """See `Run.remark`."""
        new = line not in self._notes
        self._notes += [line] if new else []
        return new

    def _hear(self, line: str) -> None:
        """Note and print a remark, once."""
        if self.remark(line):
            self.said.add(line)
            self.console.say(f"  note: {line}")

    def close(self) -> None:
        """See `Run.close`."""
        with ExitStack() as last_to_first:
            last_to_first.callback(self.journal.close)
            last_to_first.callback(self.solving.close)
            last_to_first.callback(self.task.close)
            last_to_first.callback(self._deaf)
            last_to_first.callback(self.solving.wind_up)
            last_to_first.callback(self.engine.close)


def usual_engine(base: Policy) -> Engine:
    """The engine of a model for which none is given."""
    if base.remote:
        from selftaught.engines.openai.engine import OpenAIEngine

        return OpenAIEngine()
    from selftaught.engines.local.engine import LocalEngine

    return LocalEngine()
