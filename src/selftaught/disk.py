"""A full disk, told as one line whichever library met it."""

from __future__ import annotations

import errno
from pathlib import Path

from selftaught.errors import BadInput

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SIGNS = ("No space left", "Disk quota exceeded", "File too large")


def full_disk(error: BaseException, where: Path | str) -> BadInput | None:
    """The line to tell the user where `error` means that the disk is full, else None."""
    if getattr(error, "errno", None) not in FULL and not any(sign in str(error) for sign in SIGNS):
        return None
    fix = "free some space and run the same command again: it resumes"
    return BadInput(f"the disk is full ({error})", where=str(where), fix=fix)
