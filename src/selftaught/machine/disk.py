"""Files written whole or not at all, and a disk that does not take them told as one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from selftaught.errors import BadInput

FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_MESSAGES = ("No space left", "Disk quota exceeded", "File too large")


def disk_full_error(error: BaseException, where: Path | str) -> BadInput | None:
    """The line to tell the user where `error` means that the disk is full, else None."""
    if getattr(error, "errno", None) not in FULL_ERRNOS and not any(sign in str(error) for sign in FULL_MESSAGES):
        return None
    fix = "free some space and run the same command again: it resumes"
    return BadInput(f"the disk is full ({error})", where=str(where), fix=fix)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file in one rename once it is on the disk: neither a reader nor a power cut ever leaves half of it.

    Raises:
        BadInput: the disk is full, or the folder is not to be written.
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
    """The line to tell the user where a file cannot be written."""
    return BadInput(f"cannot be written ({error.strerror or error})", where=str(path), fix="make room for it there")
