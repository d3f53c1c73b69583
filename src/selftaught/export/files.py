"""Write rows to a file, or to a data set on the Hugging Face Hub."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from selftaught.errors import BadInput
from selftaught.machine.disk import disk_full_error

HUB = "hf:"
DATA_FIX = "pip install 'selftaught[data]'"


def write_rows(rows: Iterator[dict[str, Any]], to: str) -> int:
    """Write rows to `FILE.jsonl`, `FILE.parquet` or `hf:ORG/NAME` (a private data set); returns their number.

    Raises:
        BadInput: it is another kind of file, exists, or cannot be written; the package `datasets` is missing where it
            is needed; or the hub refuses.
    """
    if to.startswith(HUB):
        return _push(rows, to.removeprefix(HUB))
    path = Path(to)
    if path.suffix not in (".jsonl", ".parquet"):
        raise BadInput(
            f"cannot write {path.suffix or 'a file without an ending'}",
            where="--to",
            fix="end it in .jsonl or .parquet",
        )
    if path.exists():
        raise BadInput("it exists", where=to, fix="remove it, or choose another name")
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        count = _jsonl(rows, draft) if path.suffix == ".jsonl" else _parquet(rows, draft)
        os.replace(draft, path)
    except OSError as error:
        raise disk_full_error(error, path) or BadInput(f"cannot write it ({error.strerror})", where=to) from None
    finally:
        draft.unlink(missing_ok=True)
    return count


def _jsonl(rows: Iterator[dict[str, Any]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _parquet(rows: Iterator[dict[str, Any]], path: Path) -> int:
    data = _dataset(rows)
    data.to_parquet(str(path))
    return len(data)


def _push(rows: Iterator[dict[str, Any]], name: str) -> int:
    data = _dataset(rows)
    with new_repository(name, "dataset", where=f"{HUB}{name}"):
        data.push_to_hub(name, private=True)
    return len(data)


@contextmanager
def new_repository(name: str, kind: Literal["model", "dataset"], *, where: str) -> Iterator[None]:
    """Within, a new private repository on the Hub is filled; one that exists, perhaps a public one, is not touched.

    Raises:
        BadInput: there is one of that name, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        HfApi().create_repo(name, repo_type=kind, private=True, exist_ok=False)
        yield
    except Exception as error:  # of the network, the hub or its client, in many classes
        raise BadInput(f"the hub refuses ({type(error).__name__}: {error})"[:300], where=where) from None


def _dataset(rows: Iterator[dict[str, Any]]) -> Any:
    try:
        from datasets import Dataset
    except ImportError:
        raise BadInput("it needs the package datasets", where="--to", fix=DATA_FIX) from None
    return Dataset.from_list(list(rows))
