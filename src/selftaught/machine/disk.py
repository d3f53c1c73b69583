"""Atomic file writes, and a full disk as a one-line error."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from selftaught.errors import BadInput

FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_MESSAGES = ("No space left", "Disk quota exceeded", "File too large")


def disk_full_error(error: BaseException, where: Path | str) -> BadInput | None:
    """A `BadInput` if `error` means that the disk is full, else None."""
    if getattr(error, "errno", None) not in FULL_ERRNOS and not any(sign in str(error) for sign in FULL_MESSAGES):
        return None
    fix = "free some space and run the same command again: it resumes"
    return BadInput(f"the disk is full ({error})", where=str(where), fix=fix)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file and rename it into place, so that neither readers nor a power failure see half of it.

    Raises:
        BadInput: the disk is full, or the folder is not writable.
    """
    draft = path.with_name(f"{path.name}.draft")
    try:
        with draft.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise disk_full_error(error, path) or write_error(error, path) from None


def write_error(error: OSError, path: Path) -> BadInput:
    """A `BadInput` for a file that cannot be written."""
    return BadInput(f"cannot be written ({error.strerror or error})", where=str(path), fix="make room for it there")
