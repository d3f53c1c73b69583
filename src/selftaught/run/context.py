"""What the verbs of a run share: journal, engine and task, counts, and the running methods."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from selftaught import models
from selftaught.console import Console
from selftaught.control.budget import RunStopped
from selftaught.control.health import HealthMonitor
from selftaught.engines import Engine, EngineConfig, PaidEngine, Sampling, create_engine
from selftaught.errors import BadInput
from selftaught.journal import Journal, Ledger
from selftaught.measure import Measurement
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.records import Problem
from selftaught.remarks import listen
from selftaught.run.champions import MAIN, Champions
from selftaught.run.config import accepted_changes, check_accepted, configuration, configure, store_questions
from selftaught.run.guarded import AccessRules
from selftaught.run.noting import NotesReader
from selftaught.run.paying import go_on_paying, lost_line
from selftaught.run.round_cut import RoundCut
from selftaught.run.rounds import truncation_line, wrong_ends_line
from selftaught.run.sampler import Sampler
from selftaught.run.settings import Settings, override
from selftaught.run.tuning import Tuner
from selftaught.tasks import Task

Learner = Callable[..., Policy]
ENVIRONMENT_SECONDS = "environment_seconds"  # of the journal: spent in the task's environment


class RunContext:
    """What every verb of a run works on; the arguments are those of `Run`.

    Attributes:
        notes_reader: writes out what the models of policies with notes read.
        sampler: samples and verifies, through the journal.
        access: what is closed to methods.
        monitor: raises alarms.
        cut: shortens the last round to fit the budget.
        learn_seconds: spent in training since this start.
        methods: running methods, each with its label; inner ones last.
        calls: how often each method began, by label.
        rounds_begun: number of rounds begun.
        loop_round: number of the current round within its loop.
        round_facts: facts of the current round so far.
        attempt_counts: number of attempts at each kind of request so far, by its hash.
        measurements: policy version -> its measurement as a champion.
        measured_with: policy version -> hash of how it was measured.
        truncation_counts: number of `answers`, and of those `truncated` at `max_tokens`.
        end_counts: number of `records` learned, and of those with a `wrong` end of sequence.
        printed_notes: notes that were already printed.
        champions: learner -> its champion.
        ensembles: name -> members of the reigning ensemble.
        tuner: trains weights that live for one answer.
        posed: new problems kept so far, by id.
    """

    def __init__(
        self, folder: Path, model: str | Path | Policy, task: Task, engine: Engine | None, settings: Settings,
        learner: Learner, console: Console, endpoint: EngineConfig | None = None, accept: Collection[str] | None = None,
    ) -> None:  # fmt: skip
        self.endpoint, self.accept = endpoint, check_accepted(accept)
        self.folder, self.task, self.settings, self.learner, self.console = folder, task, settings, learner, console
        self.journal = Journal(folder)
        try:
            self.base = models.resolve(model, console.print)
            self.engine: Engine = engine or create_engine(self.base)
            configure(self.journal, configuration(self.base, task, self.engine, settings), self.accept)
            store_questions(self.journal, task)
        except BaseException:
            self.journal.close()
            raise
        if isinstance(self.engine, PaidEngine):
            go_on_paying(self.engine, self.journal, self.journal.usage(), console)
        self.ledger, self.monitor, self.access = Ledger(), HealthMonitor(), AccessRules(task)
        self.cut = RoundCut(settings.budget, self.ledger)
        self.champions, self.ensembles = Champions(self.base), dict[str, tuple[Policy, ...]]()
        self.round, self.loop_round, self.rounds_begun, self.learn_seconds = 0, 0, 0, 0.0
        self.history: list[dict[str, Any]] = []
        self.gate_decisions: list[dict[str, Any]] = []
        self.measurements: dict[str, Measurement] = {}
        self.measured_with: dict[str, str] = {}
        self.round_facts: dict[str, Any] = {}
        self.methods: list[tuple[Method, str]] = []
        self.calls, self.attempt_counts = Counter[str](), Counter[str]()
        self.truncation_counts, self.end_counts = Counter[str](), Counter[str]()
        self.printed_notes: set[str] = set()
        self.posed: dict[str, Problem] = {}
        self._notes = [*task.notes, *accepted_changes(self.journal)]
        self.notes_reader = NotesReader(task, self.journal, self.base, self.access)
        self._environment_seconds = float(self.journal.meta(ENVIRONMENT_SECONDS) or 0.0)
        self.sampler = Sampler(
            self.engine, task, self.journal, self.ledger, console,
            seed=settings.seed, failure_limit=settings.failure_limit, tick=self.record_time,
            model_input=self.notes_reader, posed=self.posed,
        )  # fmt: skip
        self.tuner = self.sampler.tuner = Tuner(self)
        self._stop_listening = listen(self._on_remark)

    @property
    def method(self) -> Method | None:
        """The innermost running method."""
        return self.methods[-1][0] if self.methods else None

    @property
    def champion(self) -> Policy:
        """The champion of the main learner."""
        return self.champions[MAIN]

    @property
    def uses_verdicts(self) -> bool:
        """Whether verdicts may be used: outside methods, and by methods that declare it."""
        return self.method is None or "verifier" in self.method.needs

    def measure_sampling(self, sampling: Mapping[str, Any]) -> Sampling:
        """Settings of the samples of a measurement, which only measurements may draw.

        Raises:
            BadInput: a method asks for them, or an option is wrong.
        """
        if method := self.method:
            raise BadInput("run.solve is closed to methods", where=method.id, fix="use run.attempt, run.measure")
        return override(self.settings.sampling, sampling)

    @property
    def policies(self) -> Path:
        """The folder of the policies."""
        return self.folder / "policies"

    def progress_label(self, what: str) -> str:
        """A progress label, with the number of the current round."""
        return f"round {self.round}: {what}" if self.round else what

    def enter_round(self, number: int) -> None:
        """Make it the current round, under which everything is journaled."""
        self.round = self.journal.round = number

    def log_metrics(self, name: str, metrics: Mapping[str, float | int | str]) -> None:
        """See `Run.log_metrics`."""
        self.round_facts.setdefault("metrics", {})[name] = dict(metrics)

    # --- cost ---

    def record_time(self) -> None:
        """Journal the time spent and the peak memory."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.journal.record_time(self.engine.busy_seconds, self.learn_seconds, peak)
        if self.task.environment is not None:
            self.journal.set_meta(
                ENVIRONMENT_SECONDS, str(self._environment_seconds + self.sampler.environment.seconds)
            )

    def seconds(self) -> dict[str, float]:
        """See `Run.seconds`."""
        self.record_time()
        found = self.journal.seconds()
        if self.task.environment is None:
            return found
        return found | {"environment": self._environment_seconds + self.sampler.environment.seconds}

    def cost_line(self) -> str:
        """See `Run.cost_line`."""
        usage, seconds = self.ledger.usage, self.seconds()
        return (
            f"tokens: {usage.generated:,} generated, {usage.judge:,} judge, {usage.trained:,} trained;"
            f" {seconds['total']:.0f} s ({seconds['engine']:.0f} sampling, {seconds['learn']:.0f} learning)"
        ) + self._environment_cost(seconds)

    def _environment_cost(self, seconds: Mapping[str, float]) -> str:
        if self.task.environment is None:
            return ""
        return f"; environment: {self.ledger.environment_steps:,} steps, {seconds['environment']:.0f} s"

    def check_budget(self) -> None:
        """Raise RunStopped if the token budget is spent."""
        if self.settings.budget.is_exhausted(self.ledger.usage, self.ledger.compute):
            raise self.stop(f"the budget of {self.settings.budget.described} is spent; the run stops here")

    def stop(self, line: str) -> RunStopped:
        """Note why the run stops, once; returns the exception to raise."""
        if self.add_note(line):
            self.console.print(line)
        return RunStopped(line)

    # --- notes ---

    @property
    def notes(self) -> list[str]:
        """See `Run.notes`."""
        paid = [one for one in (self.engine, *self.sampler.beside.engines) if isinstance(one, PaidEngine)]
        spent = sum(one.spent for one in paid)
        lost = [lost_line(self.journal.bookings.lost)] if self.journal.bookings.lost.requests else []
        money = [f"${spent:,.4f} spent at the endpoint, at the prices given"] if spent else []
        cut = [truncation_line(self.truncation_counts)] if self.truncation_counts["truncated"] else []
        ends = [wrong_ends_line(self.end_counts)] if self.end_counts["wrong"] else []
        return [*self._notes, *ends, *self.sampler.notes(), *cut, *lost, *money]

    def add_note(self, line: str) -> bool:
        """See `Run.add_note`."""
        new = line not in self._notes
        self._notes += [line] if new else []
        return new

    def _on_remark(self, line: str) -> None:
        """Note and print a remark of some other part, once."""
        if self.add_note(line):
            self.printed_notes.add(line)
            self.console.print(f"  note: {line}")

    def close(self) -> None:
        """See `Run.close`."""
        with ExitStack() as last_to_first:
            last_to_first.callback(self.journal.close)
            last_to_first.callback(self.tuner.close)
            last_to_first.callback(self.sampler.close)
            last_to_first.callback(self.task.close)
            last_to_first.callback(self._stop_listening)
            last_to_first.callback(self.sampler.stop_verifying)
            for teacher in self.sampler.beside.engines:
                last_to_first.callback(teacher.close)
            last_to_first.callback(self.engine.close)
