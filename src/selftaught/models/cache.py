"""The user's cache of models, and the content hashes used as versions of weights."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MANIFEST = "selftaught.json"  # beside weights: how they were made
CONFIG_SUFFIXES = (
    ".json",
    ".jinja",
    ".model",
    ".txt",
)  # suffixes of a model's small files: configuration and tokenizer

CONTENT_MEMO = "content.memo"  # in a policy's folder
CONTENT_SUFFIXES = (".safetensors", *CONFIG_SUFFIXES)


def config_files(folder: Path) -> list[Path]:
    """A model's small files, to be copied to models trained from it.

    Follows links only within the folder and into the Hugging Face cache: others may lead to private files.
    """
    home = folder.resolve()
    return [file for file in sorted(folder.iterdir()) if file.suffix in CONFIG_SUFFIXES and stays(file, home)]


def stays(file: Path, home: Path) -> bool:
    """Whether a file is one, and lies in the folder `home` or in the Hugging Face cache, links followed.

    What the program itself links in its own cache, such as a model with other template options, stays, too.
    """
    true = file.resolve()
    blob = true.parent.name == "blobs" and true.parent.parent.name.startswith("models--")
    own = home.is_relative_to((cache_dir() / "models").resolve())
    return true.is_file() and (blob or own or true.is_relative_to(home))


def cache_dir() -> Path:
    """Where downloaded and converted models live: `$SELFTAUGHT_CACHE`, or the user's cache folder."""
    if place := os.environ.get("SELFTAUGHT_CACHE"):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftaught"


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_version(path: Path) -> str:
    """16 hex digits of the content of a model folder: weights, configuration and tokenizer."""
    return _version(sorted(p for p in path.iterdir() if p.suffix in CONTENT_SUFFIXES), _memo(path))


def file_version(path: Path) -> str:
    """16 hex digits of the content of a file."""
    return _version([path], _memo(path.resolve()))


def policy_files(path: Path) -> list[str]:
    """Names of the files that a policy's folder was made with, besides its manifest: weights, a head's, small files."""
    found = sorted(p for p in path.rglob("*") if p.suffix in CONTENT_SUFFIXES and p.name != MANIFEST)
    return [str(p.relative_to(path)) for p in found]


def policy_content(path: Path, names: Sequence[str]) -> str:
    """16 hex digits of the content of those files of a policy's folder, remembered in it by their sizes and times.

    Raises:
        OSError: one of them cannot be read.
    """
    files = [path / name for name in names]
    return _version(files, path / CONTENT_MEMO) if files else hash_files(files)


def _version(files: list[Path], memo: Path) -> str:
    """Hashing gigabytes is slow, so the version is kept in `memo` with the files' sizes and times."""
    stamp = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    try:
        known = json.loads(memo.read_text("utf-8"))
        if known["stamp"] == stamp:
            return known["version"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    version = hash_files(files)
    write_cache(memo, json.dumps({"stamp": stamp, "version": version}))
    return version


def hash_files(files: list[Path]) -> str:
    """16 hex digits of the names and content of files, read now.

    Raises:
        OSError: one of them cannot be read.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{file_hash(file)}\n".encode())
    return digest.hexdigest()[:16]


def _memo(place: Path) -> Path:
    """The file of the cache that remembers the version of what is in that place."""
    return cache_dir() / "versions" / f"{hashlib.sha256(str(place).encode()).hexdigest()[:16]}.json"


def write_cache(file: Path, text: str) -> None:
    """Write a file of the cache atomically. An unwritable cache only costs time, so errors are ignored."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, "utf-8")
        os.replace(draft, file)


@contextmanager
def locked_folder(name: str) -> Iterator[Path]:
    """The folder `models/<name>` of the cache, held by one process at a time; others wait for it."""
    folder = cache_dir() / "models" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield folder
