"""Serving a method: its options in the configuration, its needs enforced, methods within methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selftaught.control.budget import RunStopped
from selftaught.method import Method
from selftaught.run.config import check_references, configure, forget, of_method
from selftaught.run.context import RunContext
from selftaught.run.rounds import end_round


@contextmanager
def serving(context: RunContext, method: Method, options: dict[str, Any]) -> Iterator[None]:
    """See `Run.method`."""
    outer = context.method
    check_references(context.task, method, outer)
    label = _label(context, method)
    config = context.journal.meta_object("config")
    configure(context.journal, of_method(config, method, options, label if outer else ""))
    before, context.facts = (context.round, context.number, context.facts), {}
    context.begun = context.begun if outer else 0
    context.methods.append((method, label))
    try:
        yield
        end_round(context)
    except RunStopped:
        end_round(context)
        if method.shape != "recipe":
            raise
    except Exception:  # once its code is mended, what was paid for is used
        forget(context.journal, f"{label}.code" if outer else "code")
        raise
    finally:
        context.methods.pop()
        if outer:
            number, context.number, context.facts = before
            context.enter_round(number)


def _label(context: RunContext, method: Method) -> str:
    """The method's id; within another one both, and a number where it is called again."""
    label = f"{context.methods[-1][1]}/{method.id}" if context.methods else method.id
    context.calls[label] += 1
    again = context.methods and context.calls[label] > 1
    return f"{label} {context.calls[label]}" if again else label
