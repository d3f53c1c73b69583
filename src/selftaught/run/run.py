"""The run: samples, verifies, trains and measures, with every effect in a journal.

Each call is an effect, journaled under a key made of its content. Rerunning is resuming: kill the process at any
moment, run the same program again, and nothing is paid for twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selftaught.learn import Objective
from selftaught.learn.online.rollouts import CreditAssignment
from selftaught.measure import Measurement
from selftaught.models import Notes, Policy
from selftaught.records import Problem, Record
from selftaught.run.champions import MAIN
from selftaught.run.learning import learn
from selftaught.run.measuring import MeasureConfig, MetricsFn, measure, measurement_of
from selftaught.run.noting import write_notes
from selftaught.run.online import learn_online
from selftaught.run.run_sampling import SamplingRun
from selftaught.run.society import measure_ensemble
from selftaught.run.solver import Solver, SolverResult, Subject

OUTCOME = CreditAssignment()


class Run(SamplingRun):
    """A run in its folder, with its verbs; for arguments and attributes see `RunSession`."""

    def learn(
        self, base: Policy, objective: Objective, records: Sequence[Record], *, lr_scale: float = 1.0, **training: Any
    ) -> Policy:
        """Train a new policy from `base` on `records`.

        Args:
            base: where to start; of a policy with notes, the weights. The new policy has no notes.
            lr_scale: multiplies the learning rate.
            training: fields of `TrainConfig` to change.

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
        max_importance_weight: float = 2.0, max_gen_batches: int = 1, reference_decay: float = 1.0,
        lr_scale: float = 1.0, **options: Any,
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
            max_gen_batches: batches of problems sampled per step, at most, until a whole batch has mixed outcomes
                (DAPO's dynamic sampling, 2503.14476); 1 skips the others and learns from fewer.
            reference_decay: after each step the reference of the KL penalty becomes this share of itself and the rest
                of the weights in training (an exponential moving average); 1 leaves it as it is.
            lr_scale: multiplies the learning rate.
            options: fields of `Sampling` and `TrainConfig` to change. Temperature and `epochs` are 1 and the learning
                rate is constant unless changed. `keep_optimizer_state` keeps it from one call to the next.

        Raises:
            BadInput: there are no problems, one is of dev or test, an option is wrong, or the engine cannot sample
                from weights in training.
            RunStopped: the budget is spent.
            TrainingFailed: the loss became NaN or infinite.
        """
        return learn_online(
            self._context, policy, problems, solver=solver, objective=objective, credit=credit, steps=steps,
            samples=samples, max_importance_weight=max_importance_weight, max_gen_batches=max_gen_batches,
            reference_decay=reference_decay, lr_scale=lr_scale, options=options,
        )  # fmt: skip

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
            BadInput: the task has no dev problems, too many verifications fail, the gate cannot tell the solver from
                others, or an ensemble has the name.
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
            BadInput: there is no member, the name is unsuitable or a learner's, or the task has no dev problems.
            RunStopped: the budget is spent.
        """
        return measure_ensemble(self._context, policies, samples, temperature, champion)

    def measurement_of(self, policy: Policy, split: str, solver: str, results: Sequence[SolverResult]) -> Measurement:
        """The measurement made of solver results."""
        return measurement_of(policy, split, solver, results)
