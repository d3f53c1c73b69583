"""The package as it is shipped: version, wheel, type marker, light import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "selftaught"
WHOLE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = WHOLE["project"]
LOCK = [Requirement(line.partition("#")[0]) for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines()
        if line.partition("#")[0].strip()]  # fmt: skip
HEAVY = ("torch", "transformers", "accelerate", "peft", "sympy", "reasoning_gym", "datasets", "jinja2", "scipy")


def python(code: str, *, path: Path | None = None, cwd: Path | None = None) -> str:
    """What a fresh interpreter prints, with `path` before everything installed."""
    env = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree without a network."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, as an installer would lay it out."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_the_version_is_the_same_everywhere(wheel: Path) -> None:
    assert version("selftaught") == PROJECT["version"]
    assert wheel.name.split("-")[1] == PROJECT["version"]
    said = subprocess.run(
        [sys.executable, "-m", "selftaught.cli.main", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == PROJECT["version"]


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"selftaught/{path.relative_to(SOURCE).as_posix()}"
        for path in SOURCE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert wanted <= names
    assert {
        "selftaught/report/page.html.j2",
        "selftaught/py.typed",
        "selftaught/methods/improve/self_training/star.py",
    } <= wanted
    (licence,) = [name for name in names if name.endswith("/LICENSE")]
    assert zipfile.ZipFile(wheel).read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    roots = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert roots == {"selftaught", f"selftaught-{PROJECT['version']}.dist-info"}


def test_the_wheel_finds_its_methods(unpacked: Path, tmp_path: Path) -> None:
    code = (
        "import json, selftaught; from selftaught.method import methods;"
        "print(json.dumps([selftaught.__file__, {m.id: str(m.path) for m in methods().values()}]))"
    )
    where, found = json.loads(python(code, path=unpacked, cwd=tmp_path))
    assert Path(where).is_relative_to(unpacked)
    files = [p for p in (unpacked / "selftaught" / "methods").rglob("*.py") if p.name != "__init__.py"]
    assert {Path(path) for path in found.values()} == set(files)
    assert {"rest-em", "star", "lmsi", "self-consistency", "self-refine"} <= set(found)


def test_the_wheel_names_its_dependencies_and_entry_point(unpacked: Path) -> None:
    (info,) = unpacked.glob("*.dist-info")
    metadata = (info / "METADATA").read_text("utf-8")
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    assert len([line for line in required if "extra ==" not in line]) == len(PROJECT["dependencies"])
    assert "selftaught = selftaught.cli.main:main" in (info / "entry_points.txt").read_text("utf-8")


def asked_for() -> list[Requirement]:
    """What `make demo`, `make test`, `make lint` and `make docs` install by name, but for torch."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *extras["dev"], *extras["docs"], *WHOLE["dependency-groups"]["lock"]]
    return [r for r in map(Requirement, [*lines, *WHOLE["build-system"]["requires"]]) if r.name != "torch"]


@pytest.mark.parametrize("wanted", asked_for(), ids=str)
def test_the_lock_file_has_one_version_of_each_dependency_for_each_python(wanted: Requirement) -> None:
    for python_version in ("3.11", "3.12", "3.13", "3.14"):
        here = {"python_full_version": f"{python_version}.9", "python_version": python_version}
        pins = [p for p in LOCK if p.name.lower() == wanted.name.lower() and (not p.marker or p.marker.evaluate(here))]
        ((version_,),) = [[spec.version for spec in pin.specifier] for pin in pins]
        assert wanted.specifier.contains(version_), "run make lock"


def test_the_lock_file_pins_all_it_names_and_leaves_torch_to_be_chosen() -> None:
    assert all([spec.operator for spec in pin.specifier] == ["=="] for pin in LOCK)
    assert not [p.name for p in LOCK if p.name == "torch" or p.name.startswith(("nvidia-", "cuda-", "triton"))]


def test_what_decides_results_has_an_upper_bound() -> None:
    bounds = {r.name: {spec.operator for spec in r.specifier} for r in map(Requirement, PROJECT["dependencies"])}
    deciding = "torch transformers accelerate peft safetensors gguf math-verify reasoning-gym numpy"
    assert all("<" in bounds[name] for name in deciding.split())


@pytest.mark.parametrize(
    "code",
    [
        "import selftaught",
        "import selftaught.cli.main, selftaught.run.run",
        "from selftaught.method import methods; methods()",
    ],
)
def test_importing_loads_nothing_heavy(code: str) -> None:
    loaded = python(f"{code}\nimport sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))")
    assert loaded.split() == []


def test_importing_takes_half_a_second_at_most() -> None:
    code = "import time; start = time.process_time(); import selftaught; print(time.process_time() - start)"
    assert min(float(python(code)) for _ in range(3)) <= 0.5


def test_every_public_name_is_there() -> None:
    assert "Run" in python("import selftaught as st; print(*(getattr(st, name).__name__ for name in st.__all__))")
