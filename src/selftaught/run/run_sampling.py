"""The verbs of a run that sample, judge and read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from selftaught.models import Policy
from selftaught.models.heads import ScoreAt
from selftaught.records import Attempt, Problem, Solution
from selftaught.run.annotating import AnnotationRole, annotate
from selftaught.run.attempts import nll, sample_fixed, sample_new
from selftaught.run.judging import judge_attempts
from selftaught.run.problems import new_problems
from selftaught.run.scoring import score
from selftaught.run.session import RunSession
from selftaught.run.solver import GroupJudge, Judge, Solver, SolverResult, Subject


class SamplingRun(RunSession):
    """The verbs of `Run` that sample, judge and read."""

    def attempt(
        self, policy: Policy, problems: Sequence[Subject], *, solver: Solver | None = None, samples: int = 1,
        top_logprobs: int | None = None, **sampling: Any,
    ) -> list[Attempt]:  # fmt: skip
        """Sample attempts at every problem; verify them if the method declares that it needs a verifier.

        A method's attempts at dev problems are never verified (except a study's that needs "dev"). Calling it again
        with the same arguments draws new samples; rerunning the program draws the same.

        Args:
            problems: what to attempt; or attempts that the solver continues, criticizes or revises.
            solver: by default each problem's own prompt is sampled once.
            samples: per problem.
            top_logprobs: how many of the most probable tokens to return at each step; see `Ask.__call__`.
            sampling: fields of `Sampling` to change.

        Returns:
            The attempts, grouped by problem in the given order.

        Raises:
            BadInput: too many verifications fail, a sampling option is wrong, the engine has no `top_logprobs`, or a
                method attempts the test split.
            RunStopped: the budget is spent.
        """
        results = sample_new(self._context, policy, problems, solver, samples, sampling, top_logprobs)
        return [one.attempt for one in results]

    def annotate(
        self, subjects: Sequence[Subject], role: AnnotationRole, *, teacher: str | Policy | None = None, **sampling: Any
    ) -> list[Attempt]:
        """Have a teacher, or the task's own annotator, write about train problems; for methods that need "teacher".

        They are journaled as samples, and verified like those of `attempt`. The annotator's cost no tokens.

        Args:
            subjects: for "solve" problems; for "critique" drafts; for "revise" critiques of drafts, as `annotate` or
                `refine.criticize` made them.
            role: what to write: "solve", "critique" or "revise".
            teacher: a policy, what `models.resolve` takes, or the http address of an endpoint that serves one model; by
                default the annotator of the task. A model behind an endpoint may teach one whose weights are here.
            sampling: fields of `Sampling` to change, for a teacher.

        Returns:
            One attempt for each subject, in order; failed (`Attempt.failed`) where the annotator has nothing to say.

        Raises:
            BadInput: the role is unknown, the task has no annotator, the method does not declare that it needs a
                teacher, or a subject is not about a train problem.
            RunStopped: the budget is spent.
        """
        return annotate(self._context, subjects, role, teacher, sampling)

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

    @overload
    def judge(
        self, policy: Policy, attempts: Sequence[Attempt], judge: Judge, *, samples: int = 1, **sampling: Any
    ) -> list[Attempt]: ...

    @overload
    def judge(
        self, policy: Policy, attempts: Sequence[tuple[Attempt, ...]], judge: GroupJudge, *, samples: int = 1,
        **sampling: Any,
    ) -> list[tuple[Attempt, ...]]: ...  # fmt: skip

    def judge(
        self, policy: Policy, attempts: Sequence[Any], judge: Judge | GroupJudge, *, samples: int = 1, **sampling: Any
    ) -> list[Any]:
        """Have a policy judge attempts; each gets the judge's feedback, and keeps its verdict (`Attempt.right`).

        The judge sees no verdicts and no references, except a `Method` that declares to need them. Calling it again
        with the same arguments draws new judgments; rerunning the program draws the same. Samples are judge tokens.

        Args:
            policy: what the judge samples.
            attempts: what to judge; or tuples of attempts at one problem, for a judge of pairs or groups.
            judge: see `Judge` and `GroupJudge`.
            samples: judgments of each attempt, or group; `Attempt.score` is the mean.
            sampling: fields of `Sampling` to change.

        Returns:
            The attempts with feedback of kind "judge", in the given order and form. Failed ones are left as they are.

        Raises:
            BadInput: the judge has another shape or returns something else, a group is of several problems, a sampling
                option is wrong, or a method judges attempts at the test split.
            RunStopped: the budget is spent.
        """
        return judge_attempts(self._context, policy, attempts, judge, samples, sampling)

    def nll(self, policy: Policy, attempts: Sequence[Attempt]) -> list[float]:
        """Negative log-likelihood, in nats, of each attempt's text under `policy`, whoever wrote it.

        Costs prompt tokens, those of prompt and text, which no budget counts. NaN for a text that the engine refuses.

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
            BadInput: a candidate is no problem, or has the id of another.
        """
        return new_problems(self._context, candidates)
