"""The run: the only door to compute, money and disk.

Every call through it is an effect, journalled under a key made of its content. Rerunning is resuming:
kill the process at any moment, run the same program again, and nothing paid for is paid again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selftaught.console import Console
from selftaught.engines import Engine
from selftaught.errors import BadInput
from selftaught.learn import Objective
from selftaught.learn.learner import learn as local_learner
from selftaught.learn.online.rollouts import Crediting
from selftaught.measure import Measurement
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.records import Attempt, Problem, Solution
from selftaught.run import attempts as drawing
from selftaught.run import learning, measuring, online
from selftaught.run import rounds as counting
from selftaught.run.context import Learner, RunContext
from selftaught.run.guarded import handing
from selftaught.run.measuring import Figures, Measuring
from selftaught.run.sampling import Solved, Subject
from selftaught.run.serving import serving
from selftaught.run.settings import Settings, changed
from selftaught.tasks import Task

__all__ = ["Learner", "Run", "Settings", "Solved"]

OUTCOME = Crediting()


class Run:
    """A run in its folder: sampling, judging, learning, measuring, each journalled.

    Args:
        folder: where the journal, the policies and the report live; made if absent, resumed if not.
        model: anything `models.resolve` takes, or a `Policy`.
        task: where problems and verdicts come from; closed with the run.
        engine: where tokens come from; by default a `LocalEngine`, or an `OpenAIEngine` for a model behind an
            endpoint; closed with the run.
        settings: see `Settings`.
        learner: trains a policy; `learn.learner.learn` by default.
        console: where progress is shown.

    Attributes:
        base: the starting model.
        champion: the best policy so far, as the gate sees it; the starting model at first.
        round: number of the round under way, 0 before the first.
        history: what each round gone through came to, as journalled.
        gates: each decision of the gate, as journalled, with its round.
        measured: policy version -> its greedy measurement on dev, of the champions so far.
        ledger: tokens spent so far.
        journal: see `Journal`.
        said: notes that were printed when they were made.

    Raises:
        BadInput: the folder is in use, was made with another configuration, or the model is not to be had.
    """

    def __init__(
        self, folder: str | Path, *, model: str | Path | Policy, task: Task, engine: Engine | None = None,
        settings: Settings | None = None, learner: Learner = local_learner, console: Console | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.task, self.settings = Path(folder), task, settings or Settings()
        self._context = at = RunContext(
            self.folder, model=model, task=task, engine=engine, settings=self.settings, learner=learner,
            console=console or Console(),
        )  # fmt: skip
        self.base, self.engine, self.journal, self.ledger = at.base, at.engine, at.journal, at.ledger
        self.model = str(model) if not isinstance(model, Policy) else model.version
        self.history, self.gates, self.measured, self.said = at.history, at.gates, at.measured, at.said

    # --- what is served ---

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
    def console(self) -> Console:
        """Where progress is shown."""
        return self._context.console

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it stands in the journal."""
        return self.journal.meta_object("config")

    @property
    def notes(self) -> list[str]:
        """One-line remarks for the reader of the report: duplicates dropped, verifications failed, money spent."""
        return self._context.notes

    @property
    def requests(self) -> dict[str, int]:
        """What became of the requests to the engine; see `Solving.requests`."""
        return self._context.solving.requests()

    @property
    def unanswered(self) -> str:
        """Why there is not one answer, where there is none; else empty."""
        return self._context.solving.unanswered()

    @contextmanager
    def method(self, method: Method, options: dict[str, Any]) -> Iterator[Callable[[Any], Any]]:
        """Inside, the run serves `method`: its options belong to the configuration, its needs are enforced.

        Yields a function from the run or a task to what the method is handed of it (see `selftaught.run.guarded`).
        `RunStopped` ends the block of a recipe early and goes no further: what was reached so far stands. Inside another
        method the options are kept under the names of both (`outer/inner.option.x`), and rounds go on counting.

        Raises:
            BadInput: the task lacks references where they are read, or the outer method does not need what this does.
        """
        with serving(self._context, method, options):
            yield handing(self, method, self._context.walls)

    # --- sampling and judging ---

    def attempt(
        self, policy: Policy, problems: Sequence[Subject], *, solver: Any = None, n: int = 1, **sampling: Any
    ) -> list[Attempt]:
        """`n` attempts at every problem, judged if the method declared that it needs a verifier.

        A method's attempts at dev problems are never judged (but a study's that needs "dev").

        Called again with the same arguments it draws new samples; a rerun of the program draws the same.

        Args:
            problems: what to attempt; or attempts that the solver goes on from, to criticise, judge or revise them.
            solver: `async (ask, problem) -> Attempt`, given an attempt where it goes on from one; by default the
                problem's own prompt is asked once.
            sampling: fields of `Sampling` to change.

        Returns:
            The attempts, those of one problem together, in the order of `problems`.

        Raises:
            BadInput: too many verifications fail, a sampling option is wrong, or a method attempts the test split.
            RunStopped: no tokens are left.
        """
        return [one.attempt for one in drawing.draw(self._context, policy, problems, solver, n, sampling)]

    def search(
        self, policy: Policy, problems: Sequence[Subject], *, solver: Any, n: int = 1, **sampling: Any
    ) -> list[Solution]:
        """As `attempt`, with the data that the solver returned beside each attempt (see `Solution`)."""
        solved = drawing.draw(self._context, policy, problems, solver, n, sampling)
        return [Solution(one.attempt, one.data) for one in solved]

    def solve(
        self, policy: Policy, problems: Sequence[Problem], split: str, *, solver: Any = None, samples: int = 1,
        first: int = 0, judged: bool = True, turns: bool = False, **sampling: Any,
    ) -> list[Solved]:  # fmt: skip
        """Attempts for a measurement: asked again they are the same ones, not new samples.

        A method cannot call it: it has `attempt` and `measure`.

        Args:
            split: what the problems are, for the progress display.
            solver: `async (ask, problem) -> Attempt`; by default the problem's own prompt is asked once.
            samples: attempts per problem.
            first: number of the first sample, so that a measurement can be extended by more.
            judged: whether the verifier judges them.
            turns: whether all that was sampled on the way is handed back too, judged alike (`Solved.turns`).
            sampling: fields of `Sampling` to change.

        Returns:
            The outcomes, those of one problem together, in the order of `problems`.

        Raises:
            BadInput: too many verifications fail, a sampling option is wrong, or a method calls it.
        """
        if method := self._context.method:
            raise BadInput("run.solve is closed to methods", where=method.id, fix="use run.attempt, run.measure")
        how, numbers = changed(self.settings.sampling, sampling), range(first, first + samples)
        return drawing.repeat(
            self._context, policy, problems, split, how, numbers, solver=solver, judged=judged, turns=turns
        )

    def surprise(self, policy: Policy, attempts: Sequence[Attempt]) -> list[float]:
        """Negative log-likelihood, in nats, of each attempt's text under `policy`, whoever wrote it.

        Reading costs prompt tokens only, which no budget counts. NaN of a text that the engine refuses to read.

        Raises:
            BadInput: a method asks for that of a test problem.
            RunStopped: no tokens are left.
        """
        return drawing.surprise(self._context, policy, attempts)

    # --- learning ---

    def learn(
        self, base: Policy, objective: Objective, records: Sequence[Any], *, lr_scale: float = 1.0, **training: Any
    ) -> Policy:
        """A new policy, trained from `base` on `records`.

        Args:
            lr_scale: multiplies the run's learning rate.
            training: fields of `Training` to change.

        Raises:
            BadInput: there are no records, a training option is wrong, a record is of the dev or test split, or
                the model is behind an endpoint.
            RunStopped: no tokens are left, or a later round of a method has no records.
        """
        return learning.learn(self._context, base, objective, records, lr_scale, training)

    def reinforce(
        self, policy: Policy, problems: Sequence[Problem], *, rollout: Any = None, objective: Objective | None = None,
        credit: Crediting = OUTCOME, steps: int = 50, n: int = 8, cap: float = 2.0,
        lr_scale: float = 1.0, sampling: Mapping[str, Any] | None = None, **training: Any,
    ) -> Policy:  # fmt: skip
        """A new policy, trained online: at each step rollouts by the weights as they are, credit, and an update.

        Each step's figures (reward, entropy, length, KL by turn, clipped share, gradient norm) are journalled. Killed
        and run again it goes on from its checkpoint and ends the same.

        Args:
            policy: where to start.
            problems: what to roll out on, `batch` of them a step.
            rollout: a solver, of one turn or many; by default the problem's own prompt is asked once.
            objective: `learn.objectives.grpo()` by default.
            credit: what rollouts are worth: their reward, how it is spread over turns and tokens, and which problems
                teach nothing. By default 1 where the answer is right, on every token.
            steps: rollouts and updates, so many times; `epochs` (1) optimiser steps on each.
            n: rollouts of each problem.
            cap: greatest importance weight of a token, which makes up for a temperature, a top-p or a top-k.
            lr_scale: multiplies the run's learning rate.
            sampling: fields of `Sampling` to change; the temperature is 1 unless it says otherwise.
            training: fields of `Training` to change; here `epochs` is 1, and the rate constant, unless changed. With
                `carry` the optimiser's state goes on from one call to the next.

        Raises:
            BadInput: no problems, a dev or test problem, an option that is wrong, or an engine that cannot sample
                from weights in training.
            RunStopped: no tokens are left.
            TrainingFailed: the loss stopped being a number.
        """
        return online.learn_online(
            self._context, policy, problems, rollout=rollout, objective=objective, credit=credit, steps=steps, n=n,
            cap=cap, lr_scale=lr_scale, sampling=sampling or {}, training=training,
        )  # fmt: skip

    # --- measuring and promoting ---

    def measure(
        self, policy: Policy, *, solver: Any = None, samples: int = 1, temperature: float = 0.0, gated: bool = False,
        figures: Figures | None = None,
    ) -> Measurement:  # fmt: skip
        """Accuracy on the dev split; a policy measured greedily also goes through the gate.

        A policy that passes replaces the champion; one that does not is kept, named and reported.

        Args:
            gated: goes through the gate by what `solver` makes of it, against the champion under the same solver: for
                methods whose policies are to be used by that solver.
            figures: computed from the turns of all solvings, sorted so that their order does not identify problems; the
                round reports them under the solver's name.

        Returns:
            The measurement; for a method without the score of each problem.

        Raises:
            BadInput: the task has no dev problems, too many verifications fail, or the gate cannot tell the solver
                from others.
            RunStopped: no tokens are left.
        """
        return measuring.measure(self._context, policy, Measuring(solver, samples, temperature), gated, figures)

    def summarise(self, policy: Policy, split: str, solver: str, solved: Sequence[Solved]) -> Measurement:
        """The measurement made from a list of solvings."""
        return measuring.summarise(policy, split, solver, solved)

    # --- rounds ---

    def tell(self, name: str, figures: Mapping[str, float | int | str]) -> None:
        """Report figures that a method watches: journalled with the current round, and printed on their own line.

        Args:
            name: what the figures are of; reporting it again in the same round replaces them.
            figures: what each is called -> its value.
        """
        self._context.tell(name, figures)

    def rounds(self, most: int) -> Iterator[int]:
        """Count rounds from 1; ends early when the budget is spent. Each round's line is printed as it ends.

        `Run.round` counts all rounds of a run, those of methods within methods too.
        """
        return counting.rounds(self._context, most)

    # --- cost ---

    def spending(self) -> str:
        """The ledger as a line."""
        return self._context.spending()

    def seconds(self) -> dict[str, float]:
        """Seconds of all sessions of this run, up to now; see `Journal.seconds`."""
        return self._context.seconds()

    def remark(self, line: str) -> bool:
        """Add a line to the notes; whether it is new."""
        return self._context.remark(line)

    # --- life ---

    def close(self) -> None:
        """Stop the engine and the verifier's workers, and close the journal; closing twice is harmless."""
        self._context.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
