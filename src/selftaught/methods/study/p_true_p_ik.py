"""P(True) and P(IK): does a model know whether its answer is right, and whether it will know an answer?"""

from collections.abc import Mapping, Sequence
from math import isnan
from statistics import fmean
from typing import Literal

from selftaught import Ask, Attempt, BadInput, Baseline, Claim, Message, Policy, Run, Solution, StudyReport, Task, study
from selftaught.check.claim import SystemResult
from selftaught.curate import by_problem, vote, vote_shares
from selftaught.learn.objectives import p_ik
from selftaught.measure import clustered_bootstrap
from selftaught.measure.calibration import STATISTICS, calibration_with_intervals
from selftaught.records import RolloutGroup, Verdict

P_TRUE = "Is the proposed answer above:\n(A) True\n(B) False\nThe proposed answer is:"
OPTIONS, OWN_OPTIONS = ("(A)", "(B)"), ("right", "wrong")

Aggregation = Literal["p_true", "weighted_vote", "vote", "random"]
Groups = Mapping[str, Sequence[Attempt]]
"""Attempts by problem."""


def accuracy_of_choices(result: SystemResult) -> dict[str, float]:
    """Whether the answer chosen for each problem is right; for "random" the share of right samples."""
    return dict(result.returned.scores)


def statistics(result: SystemResult) -> dict[str, float]:
    """Brier score, calibration error and AUROC of each confidence."""
    rows: Sequence[Mapping[str, float | int | str]] = result.returned.rows
    return {f"{row['confidence']} {k}": float(v) for row in rows for k, v in row.items() if k in STATISTICS}


CLAIM = Claim(
    "The vote of several samples, weighted by the probability that the model itself finds each of them true, is right"
    " more often than a sample.",
    baselines=(Baseline("random sample", options={"aggregation": "random", "epochs": 0}, contrasts=("as published",)),),
    metric=accuracy_of_choices,
    options={"samples": 8},
    ablations={
        "plain vote": {"aggregation": "vote", "epochs": 0},
        "the sample of the highest P(True)": {"aggregation": "p_true", "epochs": 0},
        "other samples in view": {"comparisons": 5, "epochs": 0},
    },
    extra_metrics=statistics,
)


@study(paper="2207.05221", needs=("verifier", "dev"), claim=CLAIM)
def p_true_p_ik(
    run: Run,
    policy: Policy,
    task: Task,
    *,
    samples: int = 30,
    comparisons: int = 0,
    temperature: float = 1.0,
    epochs: int = 3,
    aggregation: Aggregation = "weighted_vote",
) -> StudyReport:
    """Measure how well a model's probability that its answer is true, and that it will know one, predict right answers.

    Source: Kadavath et al., Language Models (Mostly) Know What They Know, 2207.05221. P(True) is the probability of
    "(A)" where the model is asked whether its own sample is (A) True or (B) False (section 4), optionally with other
    samples in view. P(IK) is a value head on the question alone, trained by binary cross-entropy to predict the share
    of right samples (section 5). Each is compared with the verdicts of all samples by Brier score, expected calibration
    error (10 bins of equally many predictions) and AUROC; the share of a sample's answer in the vote is shown beside
    them.

    Differs from the paper: zero-shot, where the paper also gives 20 examples; other samples are shown as earlier turns
    of the conversation; a task with its own wording to judge answers says "right" or "wrong", in place of letters.
    Choosing answers by P(True) is this study's test of it.

    Costs `samples` answers a dev problem, two readings of each of them (twice with `comparisons`); for P(IK) `samples`
    answers a train problem, and the training of the head.

    Args:
        samples: answers per problem; 30 in the paper.
        comparisons: other samples in view when P(True) is read for the choice; 5 in the paper. Both are reported.
        temperature: of sampling.
        epochs: passes of the head's training over the train problems; 0 leaves P(IK) out.
        aggregation: how one answer is chosen for the claim: by the vote weighted by P(True), the plain vote, or the
            highest P(True), or as a random sample (on average).
    """
    groups = _judged(run.attempt(policy, task.dev, samples=samples, temperature=temperature))
    if not groups:
        raise BadInput("no answer to a dev problem could be verified", where=task.name, fix="use another task")
    shares = {a.id: share for group in groups.values() for a, share in zip(group, vote_shares(group), strict=True)}
    confidences = {"vote": shares, "P(True)": _p_true(run, policy, task, groups, 0)}
    if comparisons:
        confidences[f"P(True), {comparisons} in view"] = _p_true(run, policy, task, groups, comparisons)
    *_, p_true = confidences.values()
    scores = {problem: _chosen(group, p_true, aggregation) for problem, group in groups.items()}
    if epochs:
        tried = _judged(run.attempt(policy, task.train, samples=samples, temperature=temperature))
        records = [RolloutGroup(tuple(group), tuple(float(a.right) for a in group)) for group in tried.values()]
        confidences["P(IK)"] = _p_ik(run, run.learn(policy, p_ik(), records, epochs=epochs), groups)
    rows = [{"confidence": name, **_calibration(groups, found)} for name, found in confidences.items()]
    mean, (low, high) = fmean(scores.values()), clustered_bootstrap([[value] for value in scores.values()])
    title = f"{mean:.3f} [{low:.3f}, {high:.3f}] of the answers chosen by {aggregation} are right"
    return StudyReport(title, tuple(rows), scores)


def _judged(attempts: Sequence[Attempt]) -> dict[str, list[Attempt]]:
    """The attempts that have a verdict, by problem."""
    return by_problem(a for a in attempts if a.verdict is not Verdict.UNKNOWN)


def _p_true(run: Run, policy: Policy, task: Task, groups: Groups, comparisons: int) -> dict[str, float]:
    """P(True) of each attempt, with others of its group in view; without those that the engine refuses to read."""
    options = OWN_OPTIONS if "judge" in task.phrases else OPTIONS
    ideas = {a.id: [b.text for b in group if b.id != a.id][:comparisons] for group in groups.values() for a in group}

    async def ask_whether_true(ask: Ask, attempt: Attempt) -> Solution:
        *before, question = attempt.problem.prompt
        answers = (Message("assistant", text) for text in (*ideas[attempt.id], attempt.text))
        turns = (turn for answer in answers for turn in (question, answer))
        choice = await ask.choose(ask.with_turn((*before, *turns), "judge", P_TRUE), options)
        return Solution(attempt, None if choice.failed else choice[options[0]])

    read = run.search(policy, [a for group in groups.values() for a in group], solver=ask_whether_true)
    return {one.attempt.id: one.data for one in read if one.data is not None}


def _p_ik(run: Run, head: Policy, groups: Groups) -> dict[str, float]:
    """P(IK) of each attempt's problem, read by the trained head; without problems that the engine refuses to read."""
    known = run.score(head, [group[0].problem for group in groups.values()], at="question")
    found = zip(groups.values(), known, strict=True)
    return {a.id: probability for group, probability in found if not isnan(probability) for a in group}


def _chosen(group: Sequence[Attempt], p_true: Mapping[str, float], aggregation: Aggregation) -> float:
    """Whether the answer that is chosen of a group is right, as 0 or 1; for "random" how often one is."""
    weights = [p_true.get(a.id, 0.0) for a in group]
    if aggregation == "random":
        return sum(a.right for a in group) / len(group)
    if aggregation == "p_true":
        return float(group[weights.index(max(weights))].right)
    won = vote(group, weights if aggregation == "weighted_vote" else None)
    return float(won.voters[0].right) if won else 0.0


def _calibration(groups: Groups, confidence: Mapping[str, float]) -> dict[str, float]:
    """How well a confidence predicts verdicts, over the attempts that have one; intervals resample problems."""
    known = [[(confidence[a.id], a.right) for a in group if a.id in confidence] for group in groups.values()]
    return calibration_with_intervals([pairs for pairs in known if pairs])
