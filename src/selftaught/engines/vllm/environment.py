"""The environment in which vLLM and its processes run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from selftaught.errors import BadInput

SMALL_CPU_COUNT = 4  # up to which vLLM must not reserve a core for its scheduler
INSTALL_FIX = "pip install 'selftaught[vllm]' in an environment of its own"
ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output belongs to the command
    "VLLM_NO_USAGE_STATS": "1",
    # A forked copy of a process with threads, like ours, may hang.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
CHILD_ENVIRONMENT = {"PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}


def check_installed() -> None:
    """Prepare the environment and import vLLM.

    Raises:
        BadInput: it is not installed, or does not run here.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if (os.cpu_count() or 1) <= SMALL_CPU_COUNT:
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    try:
        import vllm.v1.engine.async_llm  # noqa: F401 # pyright: ignore[reportMissingImports]
    except ImportError as error:
        missing = error.name is not None and error.name.split(".")[0] == "vllm"
        what = "it is not installed" if missing else f"it cannot be imported ({error})"
        raise BadInput(what, where="vLLM", fix=INSTALL_FIX) from None


@contextmanager
def child_environment(**variables: str) -> Iterator[None]:
    """Start new processes with more environment variables, and without running the main script again.

    A spawned process imports the script of its parent, which may have no `if __name__ == "__main__"`.
    """
    script, before = sys.modules["__main__"], {name: os.environ.get(name) for name in variables}
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ.update({name: value for name, value in variables.items() if before[name] is None})
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        for name in variables:
            if before[name] is None:
                del os.environ[name]
