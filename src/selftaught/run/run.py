"""The run: samples, verifies, trains and measures, with every effect in a journal.

Each call is an effect, journaled under a key made of its content. Rerunning is resuming: kill the process at any
moment, run the same program again, and nothing is paid for twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from selftaught.learn import Objective
from selftaught.learn.online.rollouts import CreditAssignment
from selftaught.measure import Measurement
from selftaught.models import Notes, Policy
from selftaught.models.heads import ScoreAt
from selftaught.records import Attempt, Problem, Record, Solution
from selftaught.run.attempts import nll, sample_fixed, sample_new
from selftaught.run.champions import MAIN
from selftaught.run.learning import learn
from selftaught.run.measuring import MeasureConfig, MetricsFn, measure, measurement_of
from selftaught.run.noting import write_notes
from selftaught.run.online import learn_online
from selftaught.run.problems import new_problems
from selftaught.run.scoring import score
from selftaught.run.session import RunSession
from selftaught.run.society import measure_ensemble
from selftaught.run.solver import Solver, SolverResult, Subject

OUTCOME = CreditAssignment()


class Run(RunSession):
    """A run in its folder, with its verbs; for arguments and attributes see `RunSession`."""

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

    @overload
    def score(
        self, policy: Policy, attempts: Sequence[Subject], at: Literal["end", "question"] = "end"
    ) -> list[float]: ...
    @overload
    def score(self, policy: Policy, attempts: Sequence[Attempt], at: Literal["steps"]) -> list[tuple[float, ...]]: ...
    def score(self, policy: Policy, attempts: Sequence[Subject], at: ScoreAt = "end") -> list[Any]:
        """Score attempts with the value head of a policy that a reward objective trained.

        Costs prompt tokens, those of prompt and answer, which no budget counts; what was read before is not read again.
        The head reads what training read: the prompt of the attempt and its text.

        Args:
            policy: trained by `orm`, `prm`, `reward_model`, `p_ik`, or another objective with a `head`.
            attempts: whoever wrote them; for "question" also problems.
            at: "end": after the whole answer; "steps": at the end of each of its steps, as the task splits them;
                "question": after the problem's own prompt, before any answer.

        Returns:
            A number for each attempt, for "steps" a tuple of one for each step. A head trained as a classifier returns
            probabilities, 0..1, others rewards in the unit of their training. NaN where the request for the answer
            failed (no steps) or the engine refuses the text.

        Raises:
            BadInput: the policy has no head or one that is not read there, the engine cannot read heads, or a method
                passes attempts at test problems.
            RunStopped: the budget is spent.
        """
        return score(self._context, policy, attempts, at)

    def learn(
        self, base: Policy, objective: Objective, records: Sequence[Record], *, lr_scale: float = 1.0, **training: Any
    ) -> Policy:
        """Train a new policy from `base` on `records`.

        Args:
            base: where to start; of a policy with notes, the weights. The new policy has no notes.
            lr_scale: multiplies the learning rate.
            training: fields of `Training` to change.

        Raises:
            BadInput: there are no records, a training option is wrong, a record is of the dev or test split, or
                the model is behind an endpoint.
            RunStopped: the budget is spent, or a later round of a method has no records.
        """
        return learn(self._context, base, objective, records, lr_scale, training)

    def write_notes(self, policy: Policy, notes: Notes, *, sources: Sequence[Subject] = ()) -> Policy:
        """Give a policy notes, in place of those it has, and publish it in the run's folder.

        The champion of a run may be a policy with notes: it is measured, promoted and loaded like any other.

        Args:
            policy: whose weights read the notes.
            notes: demonstrations, insights and instructions.
            sources: the attempts and problems that the notes were made from, for the lineage.

        Returns:
            The policy with the notes; its version is a hash of the weights' version and the notes.

        Raises:
            BadInput: the notes are empty, they or their sources hold a dev or test problem, or they leave no room for
                a question in the model's context.
        """
        return write_notes(self._context, policy, notes, sources)

    def learn_online(
        self, policy: Policy, problems: Sequence[Problem], *, solver: Solver | None = None,
        objective: Objective | None = None, credit: CreditAssignment = OUTCOME, steps: int = 50, samples: int = 8,
        max_importance_weight: float = 2.0, lr_scale: float = 1.0, **options: Any,
    ) -> Policy:  # fmt: skip
        """Train a new policy by online RL: each step samples rollouts with the current weights and updates them.

        The metrics of each step (reward, entropy, length, KL by turn, clipped fraction, gradient norm) are journaled.
        A rerun resumes from the checkpoint.

        Args:
            policy: where to start, without notes.
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

    def new_problems(self, candidates: Sequence[Problem]) -> list[Problem]:
        """Keep the candidates that are new problems of the task, to attempt and to learn from.

        Dropped are those that repeat a dev or test problem, exactly or in other words (see `curate.decontaminate`),
        that repeat a train problem or one before them, and that the task cannot read. The reasons are journaled.

        Args:
            candidates: made by `Task.pose`.

        Returns:
            The problems kept, in order. Where the verifier needs no reference, or they have one, attempts at them get
            verdicts.

        Raises:
            BadInput: a candidate is no problem.
        """
        return new_problems(self._context, candidates)

    def measure(
        self, policy: Policy, *, solver: Solver | None = None, samples: int = 1, temperature: float = 0.0,
        gated: bool = False, metrics: MetricsFn | None = None, champion: str = MAIN,
    ) -> Measurement:  # fmt: skip
        """Measure accuracy on dev; a greedy measurement goes through the gate: a policy that passes becomes champion.

        Args:
            gated: compare policy and champion under `solver`, for methods whose policies are meant for that solver.
            metrics: computes named metrics from the turns of all solver calls, sorted so that their order does not
                identify problems; the round reports them under the solver's name.
            champion: the learner that the policy belongs to, in runs of several; the gate compares it with that
                learner's champion (`champions`). The main one is what a recipe returns.

        Returns:
            The measurement; for a method without the score of each problem.

        Raises:
            BadInput: the task has no dev problems, too many verifications fail, or the gate cannot tell the solver
                from others.
            RunStopped: the budget is spent.
        """
        config = MeasureConfig(solver, samples, temperature)
        return measure(self._context, policy, config, gated, metrics, champion)

    def measure_ensemble(
        self, policies: Sequence[Policy], *, samples: int = 1, temperature: float = 0.0, champion: str = "ensemble"
    ) -> Measurement:
        """Measure the majority vote of several policies on dev; the gate decides on the whole set.

        It is compared with the vote of the reigning set of that name (see `ensembles`), at first as many copies of the
        starting model. The champions of single learners are not affected.

        Args:
            policies: the members.
            samples: per member and problem.
            temperature: of sampling.
            champion: name of the ensemble.

        Returns:
            The measurement; for a method without the score of each problem.

        Raises:
            BadInput: there is no member, the name is unsuitable, or the task has no dev problems.
            RunStopped: the budget is spent.
        """
        return measure_ensemble(self._context, policies, samples, temperature, champion)

    def measurement_of(self, policy: Policy, split: str, solver: str, results: Sequence[SolverResult]) -> Measurement:
        """The measurement made of solver results."""
        return measurement_of(policy, split, solver, results)
