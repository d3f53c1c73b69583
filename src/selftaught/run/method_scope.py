"""The scope of a method: its options in the configuration, its needs enforced, methods within methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from selftaught.control.budget import RunStopped
from selftaught.errors import BadInput
from selftaught.method import Method
from selftaught.run.config import accepted_changes, check_references, configure, drop_config, method_config
from selftaught.run.context import RunContext
from selftaught.run.guarded import guard
from selftaught.run.rounds import end_round

if TYPE_CHECKING:
    from selftaught.run.session import RunSession


@contextmanager
def method_scope(
    run: RunSession, context: RunContext, method: Method, options: dict[str, Any]
) -> Iterator[Callable[[Any], Any]]:
    """See `Run.method_scope`."""
    outer = context.method
    check_references(context.task, method, outer)
    label = _label(context, method)
    config = context.journal.meta_object("config")
    wanted, effects = method_config(config, method, options, label if outer else ""), context.journal.last_effect
    configure(context.journal, wanted, context.accept)
    for line in accepted_changes(context.journal):
        context.add_note(line)
    before, context.round_facts = (context.round, context.loop_round, context.round_facts), {}
    context.rounds_begun = context.rounds_begun if outer else 0
    context.methods.append((method, label))
    try:
        yield guard(run, method, context.access)
        end_round(context)
    except RunStopped:
        end_round(context)
        if method.shape != "recipe":
            raise
    except Exception as error:  # once its code is fixed, what was paid for is used
        drop_config(context.journal, f"{label}.code" if outer else "code")
        if isinstance(error, BadInput) and context.journal.last_effect == effects:  # nothing depends on its options
            drop_config(context.journal, *(wanted.keys() - config.keys()))
        raise
    finally:
        context.methods.pop()
        if outer:
            number, context.loop_round, context.round_facts = before
            context.enter_round(number)


def _label(context: RunContext, method: Method) -> str:
    """The method's id; within another one both, and a number where it is called again."""
    label = f"{context.methods[-1][1]}/{method.id}" if context.methods else method.id
    context.calls[label] += 1
    again = context.methods and context.calls[label] > 1
    return f"{label} {context.calls[label]}" if again else label
