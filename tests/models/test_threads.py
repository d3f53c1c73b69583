"""One team of threads at a time, seen from outside: the threads that the system counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = Path("/proc/self/task")

pytestmark = pytest.mark.skipif(not TASKS.exists(), reason="the system does not list threads")

COUNTING = """
import sys, threading
from pathlib import Path
import torch
from selftaught.machine.threads import MAPS, release_threads, releasing_threads

if "libgomp" not in MAPS.read_text():
    sys.exit(77)
torch.set_num_threads(3)
x = torch.ones(400, 400)
alive = lambda: len(list(Path("/proc/self/task").iterdir()))
true = x @ x
most = alive()
"""


def counted(then: str) -> None:
    """Run `then` in a process of its own, after a product on three threads."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTING + then], capture_output=True, text=True, check=False, timeout=100
    )
    if done.returncode == 77:
        pytest.skip("OpenMP is not GNU's here")
    assert done.returncode == 0, done.stderr


def test_a_team_ends_when_dismissed_and_is_there_again_for_the_next_product() -> None:
    counted("""
release_threads()
assert alive() == most - 2
assert torch.equal(x @ x, true)
assert alive() == most
""")


def test_it_is_dismissed_at_the_end_of_what_is_decorated_even_where_that_fails() -> None:
    counted("""
@releasing_threads()
def work():
    x @ x
    raise ValueError

try:
    work()
except ValueError:
    pass
assert alive() == most - 2
""")


def test_another_threads_team_stays() -> None:
    counted("""
go, done = threading.Event(), threading.Event()
def other():
    torch.set_num_threads(3)  # where this process has one core, new threads would compute alone
    x @ x
    done.set()
    go.wait()
threading.Thread(target=other, daemon=True).start()
done.wait()
both = alive()
assert both > most + 1
release_threads()
assert alive() == both - 2
""")


def test_an_engine_without_work_has_no_team() -> None:
    counted("""
import asyncio, time
from selftaught.engines import Request
from selftaught.engines.base import Sampling
from selftaught.engines.local.engine import LocalEngine
from selftaught.models import resolve
from selftaught.records import as_prompt
asked = [Request(as_prompt("1+2"), Sampling(max_tokens=8), seed) for seed in range(64)]
policy = resolve("underfit")
async def ask(engine):
    await asyncio.gather(*(engine.sample(policy, request) for request in asked))
first = LocalEngine(dtype="float32")
asyncio.run(ask(first))  # what is read and cached the first time has threads of its own
first.close()
release_threads()
before = alive()
engine = LocalEngine(dtype="float32")
asyncio.run(ask(engine))
until = time.monotonic() + 20
while alive() > before + 1:
    assert time.monotonic() < until, alive() - before
    time.sleep(0.01)
engine.close()
""")


def test_nothing_happens_where_nobody_has_computed() -> None:
    quick = "from selftaught.machine.threads import release_threads; import sys; release_threads()"
    quick += "; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", quick], check=False).returncode == 0


def test_another_system_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from selftaught.machine import threads

    monkeypatch.setattr(threads, "MAPS", tmp_path / "none")
    threads._pause_function.cache_clear()
    try:
        assert threads._pause_function()(threads.PAUSE_SOFT) == 0
    finally:
        threads._pause_function.cache_clear()


# --- how they wait, and how many ---

COMMAND = """
import os, sys
from selftaught.cli.main import main
main(sys.argv[1:])
assert "torch" not in sys.modules
print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_NUM_THREADS"))
"""


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        ("methods --json", {}, "200 None"),
        ("methods --json", {"GOMP_SPINCOUNT": "7"}, "7 None"),
        ("methods --json", {"OMP_WAIT_POLICY": "active"}, "None None"),
        ("eval --task nosuch.jsonl --threads 3", {}, "200 3"),
        ("check nosuch --threads 1", {}, "200 1"),
    ],
)
def test_a_command_settles_before_torch_how_threads_wait_and_how_many_there_are(
    words: str, env: dict[str, str], said: str
) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_"))}
    command = [sys.executable, "-c", COMMAND, *words.split()]
    done = subprocess.run(command, env=kept | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == said


def test_fewer_threads_are_fewer_also_where_torch_is_there_already() -> None:
    counted("""
from selftaught.machine.threads import num_cores, set_num_threads, use_short_spin
import os
os.environ.pop("GOMP_SPINCOUNT", None)
use_short_spin()
assert "GOMP_SPINCOUNT" not in os.environ  # it is too late for that
set_num_threads(1)
assert torch.get_num_threads() == num_cores() == 1
""")
