"""Tasks from the `datasets` library: a hub id, or a folder of saved, Parquet or JSON data."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from selftaught.errors import BadInput, suggest
from selftaught.tasks.rows import problem_of_row
from selftaught.tasks.splits import SourceProblem
from selftaught.tasks.values import plain_data

if TYPE_CHECKING:
    from selftaught.tasks.source import TaskRequest

OPTIONS = ("config", "split", "dev_split", "test_split")


def hub_pools(spec: str, request: TaskRequest) -> tuple[str, dict[str, list[SourceProblem]]]:
    """The canonical name of `hf:ORG/NAME` or `hf:FOLDER`, and its problems by split.

    Options after a colon: `config=`, and the split names `split=`, `dev_split=`, `test_split=` (by default train,
    validation or dev, and test, if they exist).

    Raises:
        BadInput: the library is not installed, there is no such data set, or a row has no question.
    """
    path, options = _parse(spec.removeprefix("hf:"))
    splits = _load(path, options.get("config"))
    pools = {}
    for split, name in _choose(splits, options, path).items():
        where = f"hf:{path}[{name}]"
        features = getattr(splits[name], "features", None) or {}
        pools[split] = [
            problem_of_row(_shortest(row, features), f"{where}:{i}", f"hf:{path}", request.instruction, request.naming)
            for i, row in enumerate(splits[name])
        ]
    shown = ",".join(f"{k}={v}" for k, v in sorted(options.items()))
    return f"hf:{path}" + (f":{shown}" if shown else ""), pools


def _parse(rest: str) -> tuple[str, dict[str, str]]:
    path, colon, tail = rest.rpartition(":")
    if not colon or "=" not in tail:
        return rest, {}
    options = {}
    for item in filter(None, tail.split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        if key not in OPTIONS or not value:
            raise BadInput(f"no option {item!r}", where=f"hf:{path}", fix=suggest(key, OPTIONS))
        options[key] = value
    return path, options


def _load(path: str, config: str | None) -> dict[str, Any]:
    """The splits of a data set by name."""
    try:
        import datasets
    except ImportError as e:
        raise BadInput(
            "the library `datasets` is not installed", where=f"hf:{path}", fix="pip install 'selftaught[data]'"
        ) from e
    folder = Path(path)
    datasets.disable_progress_bars()
    try:
        if folder.is_dir() and any(
            (folder / n).exists() for n in ("dataset_info.json", "dataset_dict.json", "state.json")
        ):
            data = datasets.load_from_disk(path)
        else:
            with nullcontext() if folder.exists() else _quick_when_offline():
                data = datasets.load_dataset(
                    path, config, trust_remote_code=False
                )  # version 3 would prompt, and run it
    except Exception as e:  # its many back ends raise all kinds of errors
        raise BadInput(
            f"cannot load it: {_one_line(e)}", where=f"hf:{path}", fix="check the name, the folder and the network"
        ) from e
    return {str(k): v for k, v in data.items()} if isinstance(data, dict) else {"train": data}


def _shortest(value: Any, feature: Any) -> Any:
    """A value with floats of less than double precision as their shortest decimals.

    The column's type gives the precision; as a Python float, 123.45 would be 123.44999694824219.
    """
    if isinstance(value, dict) and isinstance(feature, dict):
        return {key: _shortest(one, feature.get(key)) for key, one in value.items()}
    if isinstance(value, list):
        inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
        return [_shortest(one, inner) for one in value]
    dtype = getattr(feature, "dtype", "")
    if isinstance(value, float) and dtype in ("float32", "float16"):
        import numpy

        return plain_data(getattr(numpy, dtype)(value))
    return value


@contextmanager
def _quick_when_offline() -> Iterator[None]:
    """Without a network, use the cache at once instead of after half a minute of retries."""
    import datasets.config
    from huggingface_hub import constants

    offline = False
    if not any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        try:
            socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
        except OSError:
            offline = True
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if offline:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _one_line(e: Exception) -> str:
    lines = str(e).strip().splitlines() or [""]
    return f"{type(e).__name__}: {lines[0]}"[:300]


def _choose(splits: dict[str, Any], options: dict[str, str], path: str) -> dict[str, str]:
    """Map train, dev and test to splits of the data set."""
    for key in ("split", "dev_split", "test_split"):
        if key in options and options[key] not in splits:
            raise BadInput(f"no split {options[key]!r}", where=f"hf:{path}", fix=suggest(options[key], splits))
    only = next(iter(splits)) if len(splits) == 1 else "train"
    names = {
        "train": options.get("split", only),
        "dev": options.get("dev_split") or next((n for n in ("validation", "dev", "valid") if n in splits), None),
        "test": options.get("test_split") or ("test" if "test" in splits else None),
    }
    if names["train"] not in splits:
        raise BadInput(f"no split 'train', but {', '.join(splits)}", where=f"hf:{path}", fix="name one with split=")
    return {k: n for k, n in names.items() if n and (k == "train" or n != names["train"])}
