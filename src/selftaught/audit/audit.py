"""Audit a run."""

from __future__ import annotations

from pathlib import Path

from selftaught.audit.checks import ALL
from selftaught.audit.evidence import Evidence, Finding
from selftaught.errors import BadInput
from selftaught.journal import JournalReader
from selftaught.tasks import Task


def audit(folder: Path, task: Task | None = None) -> list[Finding]:
    """Recompute what a run claims: that its journal and policies are as they were written, that nothing measured was
    learned, and that verdicts, gates, tokens and the summary's figures follow from its answers.

    Reads only, needs no model, and may be done by someone else than who ran it, on a copy of the folder. A journal
    whose author changes a text, gives it the verdict that it deserves, and computes all that follows anew is
    consistent: that only running it again would show.

    Args:
        folder: of the run.
        task: what it ran on; None loads it as the command line did.

    Raises:
        BadInput: it is no run folder, or cannot be read.
    """
    with JournalReader(folder) as reader:
        on = Evidence(folder, reader, task)
        try:
            return [check(on) for check in ALL]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
            what = f"a damaged run: {type(e).__name__}: {e}"
            raise BadInput(what, where=str(folder), fix="put a copy of it back") from e
        finally:
            if task is None and on.task is not None:
                on.task.close()
