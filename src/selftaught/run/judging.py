"""Judging attempts: what `Run.judge` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from selftaught.engines import Sampling
from selftaught.errors import BadInput
from selftaught.identity import check_unchanged, identify, public_state, unwrap
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.models.policy import require_lasting
from selftaught.records import Attempt, Feedback, content_hash
from selftaught.run.checks import require_list
from selftaught.run.context import RunContext
from selftaught.run.judgments import Group, JudgeBatch, as_judge_sees, check_judge
from selftaught.run.settings import override, require_positive
from selftaught.run.solver import AnyJudge


def judge_attempts(
    context: RunContext, policy: Policy, subjects: Sequence[Any], judge: AnyJudge, samples: int,
    sampling: Mapping[str, Any],
) -> list[Any]:  # fmt: skip
    """See `Run.judge`."""
    context.check_budget()
    require_list(subjects, "Attempt", "run.judge")
    require_positive("samples", samples)
    require_lasting("judge", policy)
    how = override(context.settings.sampling, sampling)
    groups = _groups(subjects, judge)
    context.access.check_not_test(context.method, [attempt for group in groups for attempt in group])
    judged = [i for i, group in enumerate(groups) if not any(attempt.failed for attempt in group)]
    seen = [visible_to_judge(context, groups[i], judge) for i in judged]
    work = _named(context, policy, seen, identify(judge).label, samples, how)
    before = public_state(judge)
    try:
        given = context.sampler.judge(JudgeBatch(context.progress_label("judging"), policy, judge, how, work))
    finally:
        context.record_time()
    check_unchanged(judge, before)
    for place, i in enumerate(judged):
        groups[i] = with_feedback(groups[i], given[place * samples : (place + 1) * samples])
    return [group if isinstance(subject, tuple) else group[0] for subject, group in zip(subjects, groups, strict=True)]


def with_feedback(group: Group, given: Sequence[Sequence[Feedback]]) -> Group:
    """The attempts with the feedback of one or more judgments of the group appended."""
    added = zip(*given, strict=True)
    return tuple(replace(a, feedback=(*a.feedback, *more)) for a, more in zip(group, added, strict=True))


def _groups(subjects: Sequence[Any], judge: AnyJudge) -> list[Group]:
    """The attempts that are judged together.

    Raises:
        BadInput: one is something else, a group is of several problems, or the judge takes another number of them.
    """
    groups: list[Any] = [subject if isinstance(subject, tuple) else (subject,) for subject in subjects]
    names = {size: check_judge(judge, size) for size in sorted(set(map(len, groups)))}
    for group in groups:
        if other := [one for one in group if not isinstance(one, Attempt)]:
            what = f"got a {type(other[0]).__name__} to judge"
            raise BadInput(what, where=names[len(group)], fix="pass attempts, as run.attempt returns them")
        if len({attempt.problem.id for attempt in group}) != 1:
            what = "a group to judge is empty or of several problems"
            raise BadInput(what, where=names[len(group)], fix="put attempts at one problem into a tuple")
    return groups


def visible_to_judge(context: RunContext, group: Group, judge: AnyJudge) -> Group:
    """The attempts as the judge may see them: it must declare its needs, and so must the method that runs it.

    Raises:
        BadInput: the judge needs what the method does not declare.
    """
    inner, method = unwrap(judge), context.method
    needs = inner.needs if isinstance(inner, Method) else ()
    lacking = [need for need in needs if method and need not in method.needs]
    if method and lacking:
        fix = f"declare needs=({lacking[0]!r},) for the method"
        raise BadInput(f"its judge {inner.id} needs {lacking[0]!r}", where=method.id, fix=fix)
    held_out = bool(method) and context.access.is_held_out(group[0])
    reference, verdict = "reference" in needs and not held_out, "verifier" in needs
    return tuple(as_judge_sees(attempt, reference=reference, verdict=verdict) for attempt in group)


def _named(
    context: RunContext, policy: Policy, groups: Sequence[Group], who: str, samples: int, how: Sampling
) -> list[tuple[Group, str]]:
    """`samples` calls for each group, each under the hash of its attempts' ids and the next number of its kind."""
    work: list[tuple[Group, str]] = []
    for group in groups:
        judged = content_hash([attempt.id for attempt in group])
        start = content_hash("judge", policy.version, judged, who, how)
        for _ in range(samples):
            work.append((group, f"judge/{who}/{judged}/{context.attempt_counts[start]}"))
            context.attempt_counts[start] += 1
    return work
