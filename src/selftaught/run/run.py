"""The run: samples, verifies, trains and measures, with every effect in a journal.

Each call is an effect, journaled under a key made of its content. Rerunning is resuming: kill the process at any
moment, run the same program again, and nothing is paid for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from selftaught.console import Console
from selftaught.engines import Engine
from selftaught.learn import Objective
from selftaught.learn.learner import train_policy as local_learner
from selftaught.learn.online.rollouts import CreditAssignment
from selftaught.measure import Measurement
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.records import Attempt, Problem, Record, Solution
from selftaught.run.attempts import nll, sample_fixed, sample_new
from selftaught.run.context import Learner, RunContext
from selftaught.run.learning import learn
from selftaught.run.measuring import MeasureConfig, MetricsFn, measure, measurement_of
from selftaught.run.method_scope import method_scope
from selftaught.run.online import learn_online
from selftaught.run.rounds import count_rounds
from selftaught.run.settings import Settings
from selftaught.run.solver import Solver, SolverResult, Subject
from selftaught.tasks import Task

OUTCOME = CreditAssignment()


class Run:
    """A run in its folder; closed when its `with` block ends.

    Args:
        folder: where the journal, the policies and the report are kept; created, or resumed if it exists.
        model: anything `models.resolve` accepts, or a `Policy`.
        task: problems and verdicts; closed with the run.
        engine: what samples; by default a `LocalEngine`, or an `OpenAIEngine` for a model behind an endpoint; closed
            with the run.
        settings: see `Settings`.
        learner: trains a policy; `learn.learner.train_policy` by default.
        console: where progress is shown.

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
    ) -> None:  # fmt: skip
        settings, console = settings or Settings(), console or Console()
        at = RunContext(Path(folder), model, task, engine, settings, learner, console)
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
        self._context.champion = policy

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

    def attempt(
        self, policy: Policy, problems: Sequence[Subject], *, solver: Solver | None = None, samples: int = 1,
        **sampling: Any,
    ) -> list[Attempt]:  # fmt: skip
        """Sample attempts at every problem; verify them if the method declares that it needs a verifier.

        A method's attempts at dev problems are never verified (except a study's that needs "dev"). Calling it again
        with the same arguments draws new samples; rerunning the program draws the same.

        Args:
            problems: what to attempt; or attempts that the solver continues, criticizes or revises.
            solver: by default each problem's own prompt is sampled once.
            samples: per problem.
            sampling: fields of `Sampling` to change.

        Returns:
            The attempts, grouped by problem in the given order.

        Raises:
            BadInput: too many verifications fail, a sampling option is wrong, or a method attempts the test split.
            RunStopped: the budget is spent.
        """
        return [one.attempt for one in sample_new(self._context, policy, problems, solver, samples, sampling)]

    def search(
        self, policy: Policy, problems: Sequence[Subject], *, solver: Solver, samples: int = 1, **sampling: Any
    ) -> list[Solution]:
        """As `attempt`, with the data that the solver returned for each attempt (see `Solution`)."""
        results = sample_new(self._context, policy, problems, solver, samples, sampling)
        return [Solution(one.attempt, one.data) for one in results]

    def solve(
        self, policy: Policy, problems: Sequence[Problem], split: str, *, solver: Solver | None = None,
        samples: int = 1, first: int = 0, verify: bool = True, keep_turns: bool = False, **sampling: Any,
    ) -> list[SolverResult]:  # fmt: skip
        """Sample as `attempt` does, for a measurement: a second call returns the same samples. Closed to methods.

        Args:
            split: name of the split, for the progress display.
            first: number of the first sample, so that a measurement can be extended.
            verify: whether the verifier judges the results.
            keep_turns: whether to return all attempts sampled on the way too, verified alike.

        Returns:
            The results, grouped by problem, in the order of `problems`.

        Raises:
            BadInput: too many verifications fail, a sampling option is wrong, or a method calls it.
        """
        how, numbers = self._context.measure_sampling(sampling), range(first, first + samples)
        return sample_fixed(
            self._context, policy, problems, split, how, numbers, solver=solver, verify=verify, keep_turns=keep_turns
        )

    def nll(self, policy: Policy, attempts: Sequence[Attempt]) -> list[float]:
        """Negative log-likelihood, in nats, of each attempt's text under `policy`, whoever wrote it.

        Costs prompt tokens, which no budget counts. NaN for a text that the engine refuses.

        Raises:
            BadInput: a method passes attempts at test problems.
            RunStopped: the budget is spent.
        """
        return nll(self._context, policy, attempts)

    def learn(
        self, base: Policy, objective: Objective, records: Sequence[Record], *, lr_scale: float = 1.0, **training: Any
    ) -> Policy:
        """Train a new policy from `base` on `records`.

        Args:
            lr_scale: multiplies the learning rate.
            training: fields of `Training` to change.

        Raises:
            BadInput: there are no records, a training option is wrong, a record is of the dev or test split, or
                the model is behind an endpoint.
            RunStopped: the budget is spent, or a later round of a method has no records.
        """
        return learn(self._context, base, objective, records, lr_scale, training)

    def learn_online(
        self, policy: Policy, problems: Sequence[Problem], *, solver: Solver | None = None,
        objective: Objective | None = None, credit: CreditAssignment = OUTCOME, steps: int = 50, samples: int = 8,
        max_importance_weight: float = 2.0, lr_scale: float = 1.0, **options: Any,
    ) -> Policy:  # fmt: skip
        """Train a new policy by online RL: each step samples rollouts with the current weights and updates them.

        The metrics of each step (reward, entropy, length, KL by turn, clipped fraction, gradient norm) are journaled.
        A rerun resumes from the checkpoint.

        Args:
            policy: where to start.
            problems: what to sample rollouts of, `batch` of them a step.
            solver: makes a rollout, of one turn or several; by default the problem's own prompt is sampled once.
            objective: `learn.objectives.grpo()` by default.
            credit: rewards, their spread over turns and tokens, and skipped problems; by default 1 if right.
            steps: number of steps, with `epochs` (1) optimizer updates each.
            samples: rollouts per problem.
            max_importance_weight: largest importance weight of a token, which corrects for the temperature and for
                top-p or top-k truncation.
            lr_scale: multiplies the learning rate.
            options: fields of `Sampling` and `Training` to change. Temperature and `epochs` are 1 and the learning
                rate is constant unless changed. `carry` keeps the optimizer state from one call to the next.

        Raises:
            BadInput: there are no problems, one is of dev or test, an option is wrong, or the engine cannot sample
                from weights in training.
            RunStopped: the budget is spent.
            TrainingFailed: the loss became NaN or infinite.
        """
        return learn_online(
            self._context, policy, problems, solver=solver, objective=objective, credit=credit, steps=steps,
            samples=samples, max_importance_weight=max_importance_weight, lr_scale=lr_scale, options=options,
        )  # fmt: skip

    def measure(
        self, policy: Policy, *, solver: Solver | None = None, samples: int = 1, temperature: float = 0.0,
        gated: bool = False, metrics: MetricsFn | None = None,
    ) -> Measurement:  # fmt: skip
        """Measure accuracy on dev; a greedy measurement goes through the gate: a policy that passes becomes champion.

        Args:
            gated: compare policy and champion under `solver`, for methods whose policies are meant for that solver.
            metrics: computes named metrics from the turns of all solver calls, sorted so that their order does not
                identify problems; the round reports them under the solver's name.

        Returns:
            The measurement; for a method without the score of each problem.

        Raises:
            BadInput: the task has no dev problems, too many verifications fail, or the gate cannot tell the solver
                from others.
            RunStopped: the budget is spent.
        """
        config = MeasureConfig(solver, samples, temperature)
        return measure(self._context, policy, config, gated, metrics)

    def measurement_of(self, policy: Policy, split: str, solver: str, results: Sequence[SolverResult]) -> Measurement:
        """The measurement made of solver results."""
        return measurement_of(policy, split, solver, results)

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
        """Seconds spent in all sessions of this run; see `Journal.seconds`."""
        return self._context.seconds()

    def add_note(self, line: str) -> bool:
        """Add a line to the notes; return whether it is new."""
        return self._context.add_note(line)

    def close(self) -> None:
        """Stop the engine and the verifier's workers, and close the journal; closing twice is harmless."""
        self._context.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
