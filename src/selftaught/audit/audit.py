"""Audit a run."""

from __future__ import annotations

from pathlib import Path

from selftaught.audit.checks import all_checks, checked
from selftaught.audit.evidence import Evidence, Finding
from selftaught.console import Console
from selftaught.errors import BadInput
from selftaught.journal import JournalReader
from selftaught.tasks import Task


def audit(
    folder: Path, task: Task | None = None, *, trust: bool = False, console: Console | None = None
) -> list[Finding]:
    """Recompute what a run claims: that its journal and policies are as they were written, that nothing measured was
    learned, and that verdicts, gates, tokens and the summary's figures follow from its answers.

    Reads only, needs no model, and may be done by someone else than who ran it, on a copy of the folder. What it cannot
    know is told in the guide to audits.

    Args:
        folder: of the run.
        task: what it ran on; None loads it as the command line did.
        trust: run the Python files that the command line named as task or verifier; else such a task is not loaded.
        console: where progress is shown; by default nowhere.

    Raises:
        BadInput: it is no run folder, or a file of it cannot be read.
    """
    with JournalReader(folder) as reader, reader.snapshot():
        try:
            on = Evidence(folder, reader, task, trust=trust)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
            what = f"a damaged run: {type(e).__name__}: {e}"
            raise BadInput(what, where=str(folder), fix="put a copy of it back") from e
        try:
            checks, found = all_checks(), list[Finding]()
            with (console or Console(quiet=True)).meter("auditing", len(checks)) as meter:
                for name, check in checks.items():
                    found.append(checked(name, check, on))
                    meter.advance(1, name)
            return found
        finally:
            if task is None and on.task is not None:
                on.task.close()
