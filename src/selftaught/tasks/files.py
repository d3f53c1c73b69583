"""Tasks from JSONL files."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from selftaught.errors import BadInput, suggest
from selftaught.tasks.rows import problem_of_row
from selftaught.tasks.splits import SourceProblem

if TYPE_CHECKING:
    from selftaught.tasks.source import TaskRequest

SUFFIXES = (".jsonl", ".jsonl.gz")
SPLIT_FILES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}
"""Names, without suffix, of the files of a folder."""


def is_file_spec(spec: str) -> bool:
    """Whether `spec` names a JSONL file or a folder of them rather than a reasoning-gym dataset."""
    path = spec if spec.endswith(SUFFIXES) else spec.partition(":")[0]
    return bool(path) and ("/" in path or bool(Path(path).suffix) or any(Path(path).glob("*.jsonl*")))


def read_pools(spec: str, request: TaskRequest) -> tuple[str, dict[str, list[SourceProblem]]]:
    """The canonical name of a file specification, and its problems by split.

    `FILE.jsonl`, `FILE.jsonl:test=OTHER.jsonl,dev=THIRD.jsonl` (resolved from the current folder, then from that of
    FILE), or a folder with `train.jsonl` and optionally `dev.jsonl` and `test.jsonl`. `.jsonl.gz` is also accepted.

    Raises:
        BadInput: a file is missing or malformed; the message names file and line.
    """
    path, options = _parse(spec)
    folder = path if path.is_dir() else path.parent
    files = _folder(path) if path.is_dir() else {"train": path}
    for split, name in options.items():
        files[split] = folder / name if not Path(name).exists() and (folder / name).exists() else Path(name)
    pools = {split: list(_read(file, request)) for split, file in files.items()}
    return str(path) + (":" if options else "") + ",".join(f"{k}={v}" for k, v in sorted(options.items())), pools


def _parse(spec: str) -> tuple[Path, dict[str, str]]:
    path, colon, rest = (spec, "", "") if Path(spec).exists() else spec.rpartition(":")
    if not colon or "=" not in rest:
        path, rest = spec, ""
    options: dict[str, str] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in ("test", "dev") or not equals or not value:
            raise BadInput(f"no option {item!r}", where=path, fix="write FILE.jsonl:test=OTHER.jsonl,dev=THIRD.jsonl")
        options[key] = value
    return Path(path), options


def _folder(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split, names in SPLIT_FILES.items():
        files = [folder / (name + suffix) for name in names for suffix in SUFFIXES]
        if there := [file for file in files if file.is_file()]:
            found[split] = there[0]
    if "train" not in found:
        have = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise BadInput(f"the folder has no train.jsonl, but {have}", where=str(folder), fix="name one of its files")
    return found


def _open(file: Path) -> BinaryIO:
    try:
        return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")  # pyright: ignore[reportReturnType]
    except OSError as e:
        siblings = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
        fix = suggest(file.name, siblings) if siblings else ""
        raise BadInput(f"cannot read it: {e.strerror or e}", where=str(file), fix=fix) from e


def _read(file: Path, request: TaskRequest) -> Iterator[SourceProblem]:
    """The problems of one JSONL file; blank lines are skipped."""
    if not file.name.endswith(SUFFIXES) and file.exists():
        raise BadInput("not a .jsonl file", where=str(file), fix="write one JSON object per line")
    empty = True
    with _open(file) as lines:
        number = 0
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    empty = False
                    where = f"{file}:{number}"
                    yield problem_of_row(_object(line, where), where, file.name, request.instruction, request.naming)
        except (OSError, EOFError, zlib.error) as e:
            raise BadInput(f"cannot read further: {e}", where=f"{file}:{number + 1}") from e
    if empty:
        raise BadInput("the file is empty", where=str(file), fix="write one JSON object per line")


def _object(line: bytes, where: str) -> object:
    try:
        value = json.loads(line.decode("utf-8-sig"))
        if b"\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()  # an unpaired surrogate is not text
        return value
    except UnicodeDecodeError as e:
        raise BadInput(f"not UTF-8 at byte {e.start + 1} of the line", where=where, fix="save it as UTF-8") from e
    except UnicodeEncodeError as e:
        raise BadInput("unpaired surrogate in the text", where=where, fix="write the whole character") from e
    except (ValueError, RecursionError) as e:
        what = f"{e.msg} at column {e.colno}" if isinstance(e, json.JSONDecodeError) else str(e)
        raise BadInput(f"malformed JSON: {what}", where=where, fix="write one JSON object per line") from e
