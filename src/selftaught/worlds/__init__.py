"""Worlds: models and tasks on which claims are checked. Each synthetic world is one folder here.

A folder holds `task.py` with `load(spec, request)`, `world.py` with `WORLD`, `model/`, the weights of its starting
model, and perhaps `kin/`, those of its relatives. If the model can be rebuilt, it also has `build.py` and
`abilities.py`. A folder without `model/` has problems, but no model yet. No code outside the folder names a world.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class SyntheticWorld:
    """A synthetic world: its task, model and build code are in one folder.

    Attributes:
        name: name of the folder, and of its starting model and task on the command line.
        folder: path of the folder.
    """

    name: str
    folder: Path

    @property
    def model(self) -> Path:
        """Folder of the starting model."""
        return self.folder / "model"

    @property
    def models(self) -> dict[str, Path]:
        """Folder of each model by its name on the command line: the starting model, and its kin as `NAME-KIN`."""
        kin = sorted(file.parent for file in self.folder.glob("kin/*/config.json"))
        return {self.name: self.model, **{f"{self.name}-{folder.name}": folder for folder in kin}}

    @property
    def can_build(self) -> bool:
        """Whether the model can be rebuilt."""
        return (self.folder / "build.py").is_file()

    def module(self, part: str) -> Any:
        """Import a module of the world, such as "task"."""
        return import_module(f"{__name__}.{self.name}.{part}")


def _folders_with(file: str) -> dict[str, SyntheticWorld]:
    here = Path(__file__).parent
    found = sorted(folder for folder in here.iterdir() if (folder / file).is_file())
    return {folder.name: SyntheticWorld(folder.name, folder) for folder in found}


@cache
def synthetic_worlds() -> dict[str, SyntheticWorld]:
    """All synthetic worlds with a model by name, found by their folders."""
    return _folders_with("model/config.json")


@cache
def world_models() -> dict[str, Path]:
    """Folder of each model of a synthetic world by its name."""
    return {name: folder for world in synthetic_worlds().values() for name, folder in world.models.items()}


@cache
def problem_worlds() -> dict[str, SyntheticWorld]:
    """All synthetic worlds with problems by name, whether they have a model or not."""
    return _folders_with("task.py")


def world_of_task(spec: str) -> SyntheticWorld | None:
    """The synthetic world that a task specification (`NAME` or `NAME:key=value`) belongs to, if any."""
    return problem_worlds().get(spec.partition(":")[0])
