"""Models that teach: whatever samples them is made ready, and the journal says who they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from selftaught.engines import EngineConfig, PaidEngine, create_engine
from selftaught.errors import BadInput
from selftaught.journal import Usage
from selftaught.models import Policy
from selftaught.models.remote import PREFIX
from selftaught.records import content_hash
from selftaught.run.paying import go_on_paying

if TYPE_CHECKING:
    from selftaught.run.context import RunContext

TEACHER = "teacher"
"""Kind of the effect in which a run journals a policy that teaches, and is neither its own nor its start."""


def admit(context: RunContext, teacher: Policy) -> Policy:
    """Make a policy ready to teach; returns it.

    One behind an endpoint is sampled by an engine of its own beside that of the run, which samples weights.

    Raises:
        BadInput: the run's own model is behind another endpoint, which would get the teacher's requests.
    """
    own = context.base
    if teacher.remote and own.remote and _address(teacher) != _address(own):
        fix = "serve both at one address, and give the teacher as openai:NAME"
        raise BadInput(f"the run's own model is at another endpoint, {_address(own)}", where=teacher.version, fix=fix)
    if teacher.remote and not context.engine.capabilities.endpoints and context.sampler.beside.engine is None:
        config = replace(context.endpoint or EngineConfig(), engine="local", deterministic=False, max_batch_size=None)
        engine = create_engine(teacher, config)
        context.sampler.beside.engine = engine
        if isinstance(engine, PaidEngine):
            go_on_paying(engine, context.journal, _paid_before(context), context.console)
    if teacher.version != context.base.version and not (context.policies / teacher.version).is_dir():
        name = f"{PREFIX}{teacher.remote}" if teacher.remote else teacher.path.name
        context.journal.put_new(
            content_hash(TEACHER, teacher.version), TEACHER, {"policy": teacher.version, "name": name}
        )
    return teacher


def _address(policy: Policy) -> str:
    """The endpoint of a policy, from its version."""
    return policy.version.rpartition("@")[2]


def _paid_before(context: RunContext) -> Usage:
    """What was sampled at endpoints in earlier sessions of the run."""
    usage = Usage()
    for _, _, payload, cost in context.journal.effects("sample"):
        usage += cost if payload["policy"].startswith(PREFIX) else Usage()
    return usage
