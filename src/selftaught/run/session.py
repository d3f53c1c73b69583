"""An open run: its folder, configuration, notes, costs and rounds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from selftaught.console import Console
from selftaught.engines import Engine, EngineConfig
from selftaught.learn.learner import train_policy as local_learner
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.models.policy import require_lasting
from selftaught.run.champions import set_by_hand
from selftaught.run.context import Learner, RunContext
from selftaught.run.method_scope import method_scope
from selftaught.run.round_cut import RoundEnd
from selftaught.run.rounds import count_rounds
from selftaught.run.settings import Settings
from selftaught.tasks import Task


class RunSession:
    """A run in its folder, without the verbs (see `Run`); closed when its `with` block ends.

    Args:
        folder: where the journal, the policies and the report are kept; created, or resumed if it exists.
        model: anything `models.resolve` accepts, or a `Policy`.
        task: problems and verdicts; closed with the run.
        engine: what samples; by default a `LocalEngine`, or an `OpenAIEngine` for a model behind an endpoint; closed
            with the run.
        settings: see `Settings`.
        learner: trains a policy; `learn.learner.train_policy` by default.
        console: where progress is shown.
        endpoint: limits and prices of a teacher behind an endpoint, beside an engine that samples weights.
        accept: what may have changed since the folder was made, of `run.config.ACCEPTABLE` ("method", "verifier",
            "environment", "dtype", "packages"); it is recorded and told. What is kept of what was done before is
            decided by its key: samples of another method that ask the same are used.

    Attributes:
        base: the starting model.
        champion: the best policy so far, as the gate decided; at first the starting model.
        round: number of the current round, 0 before the first.
        history: outcome of each finished round, as journaled.
        gate_decisions: each decision of the gate with its round, as journaled.
        measurements: policy version -> greedy measurement on dev, of all champions so far.
        ledger: tokens spent so far.
        journal: see `Journal`.
        printed_notes: notes that were already printed.

    Raises:
        BadInput: the folder is in use or was made with another configuration, or the model cannot be loaded.
    """

    def __init__(
        self, folder: str | Path, *, model: str | Path | Policy, task: Task, engine: Engine | None = None,
        settings: Settings | None = None, learner: Learner = local_learner, console: Console | None = None,
        endpoint: EngineConfig | None = None, accept: Collection[str] | None = None,
    ) -> None:  # fmt: skip
        settings, console = settings or Settings(), console or Console()
        at = RunContext(Path(folder), model, task, engine, settings, learner, console, endpoint, accept)
        self._context, self.folder, self.task, self.settings, self.console = at, at.folder, task, settings, console
        self.base, self.engine, self.journal, self.ledger = at.base, at.engine, at.journal, at.ledger
        self.model = model.version if isinstance(model, Policy) else str(model)
        self.history, self.gate_decisions, self.measurements = at.history, at.gate_decisions, at.measurements
        self.printed_notes = at.printed_notes

    @property
    def champion(self) -> Policy:
        """See above."""
        return self._context.champion

    @champion.setter
    def champion(self, policy: Policy) -> None:
        require_lasting("champion", policy)
        set_by_hand(self._context, policy)

    @property
    def champions(self) -> Mapping[str, Policy]:
        """Learner -> its champion, for runs of several learners (`run.measure(policy, champion="b")`).

        `champions["main"]` is `champion`. A learner that was not promoted yet has the starting model.
        """
        return MappingProxyType(self._context.champions)

    @property
    def ensembles(self) -> Mapping[str, tuple[Policy, ...]]:
        """Name -> members of the reigning ensemble (see `Run.measure_ensemble`); absent before the first promotion."""
        return MappingProxyType(self._context.ensembles)

    @property
    def round_ends(self) -> Sequence[RoundEnd]:
        """For each finished round the champion and the compute so far; closed to methods."""
        return self._context.cut.ends

    @property
    def round(self) -> int:
        """See above."""
        return self._context.round

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, as journaled."""
        return self.journal.meta_object("config")

    @property
    def notes(self) -> list[str]:
        """One-line notes for the report: duplicates dropped, verifications failed, money spent."""
        return self._context.notes

    @property
    def request_counts(self) -> dict[str, int]:
        """Counts of requests by outcome: `answered`, of the returned answers `thinking_only`, `replaced` (invalid
        characters), `refused` and `failed` (neither is journaled), and `retried` since this start."""
        return self._context.sampler.request_counts()

    @property
    def no_answer_reason(self) -> str:
        """Why no request at all got an answer; empty where one did."""
        return self._context.sampler.no_answer_reason()

    def method_scope(self, method: Method, options: dict[str, Any]) -> AbstractContextManager[Callable[[Any], Any]]:
        """A `with` block in which `method` runs: its options join the configuration, and its needs are enforced.

        Yields a function that turns the run and its task into guarded ones. `RunStopped` ends a recipe's block early.
        Within another method the options are kept under both names (`outer/inner.option.x`), and rounds count on.

        Raises:
            BadInput: the task lacks references that are needed, or the outer method does not declare what this needs.
        """
        return method_scope(self, self._context, method, options)

    def log_metrics(self, name: str, metrics: Mapping[str, float | int | str]) -> None:
        """Log a group of metrics (name -> value) for the current round; they are journaled and printed.

        Logging the same group again in a round replaces it.
        """
        self._context.log_metrics(name, metrics)

    def rounds(self, max_rounds: int) -> Iterator[int]:
        """Count rounds from 1; stop early when the budget is spent. The outcome of each round is printed as it ends.

        `Run.round` counts all rounds of a run, those of nested methods included.
        """
        return count_rounds(self._context, max_rounds)

    def cost_line(self) -> str:
        """Tokens and time spent, as a line."""
        return self._context.cost_line()

    def seconds(self) -> dict[str, float]:
        """Seconds spent in all sessions, see `Journal.seconds`; with an environment also in that, as "environment"."""
        return self._context.seconds()

    def add_note(self, line: str) -> bool:
        """Add a line to the notes; return whether it is new."""
        return self._context.add_note(line)

    def close(self) -> None:
        """Stop the engine and the verifier's workers, and close the journal; closing twice is harmless."""
        self._context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
