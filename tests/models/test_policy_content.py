"""A policy's folder is what was made: its manifest holds a hash of its files, and names the policy that it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from selftaught.errors import BadInput
from selftaught.learn import sft
from selftaught.models.cache import MANIFEST, policy_content
from selftaught.models.policy import CONTENT, load_policy, publish
from selftaught.models.policy import FILES as FILES_OF
from selftaught.records import Demo
from selftaught.testing import make_run

FILES = {
    "model.safetensors": b"w" * 5000, "config.json": b'{"layers": 2}', "tokenizer.json": b"{}",
    "head/model.safetensors": b"h" * 100, "optimizer/state.safetensors": b"o" * 100,
}  # fmt: skip


def published(folder: Path) -> Path:
    draft = folder / "draft"
    for name, held in FILES.items():
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_bytes(held)
    publish(draft, folder / "made", {"version": "v1", "base": None, "adapter": False})
    return folder / "made"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["a flipped byte", "truncated", "gone"])
def test_a_file_that_has_changed_since_is_told(tmp_path: Path, name: str, damage: str) -> None:
    made = published(tmp_path)
    assert load_policy(made).version == "v1"
    held = bytearray((made / name).read_bytes())
    held[len(held) // 2] ^= 1
    (made / name).write_bytes(held if damage == "a flipped byte" else held[:-1])
    said = "its weights or small files have changed since it was made; put it back; or"
    if damage == "gone":
        (made / name).unlink()
        said = f"{Path(name).name} is missing or cannot be read; put it back; or"
    with pytest.raises(BadInput, match=said):
        load_policy(made)
    (made / name).write_bytes(FILES[name])
    assert load_policy(made).version == "v1"


def test_a_policy_may_be_moved_and_is_not_hashed_where_it_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = published(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("selftaught.models.cache.file_hash", lambda path: pytest.fail(f"{path} is hashed again"))
        assert load_policy(made).version == "v1"
    moved = tmp_path / "elsewhere"
    os.rename(made, moved)
    with monkeypatch.context() as patch:  # what it knows of its files moves along
        patch.setattr("selftaught.models.cache.file_hash", lambda path: pytest.fail(f"{path} is hashed again"))
        assert load_policy(moved).version == "v1"
    manifest = json.loads((moved / MANIFEST).read_text())
    assert manifest[FILES_OF] == sorted(FILES)
    assert manifest[CONTENT] == policy_content(moved, manifest[FILES_OF])


def test_other_files_may_be_added(tmp_path: Path) -> None:
    made = published(tmp_path)
    (made / "notes.txt").write_text("what I think of it")
    (made / "evals").mkdir()
    (made / "evals" / "result.json").write_text("{}")
    (made / "broken.json").symlink_to(tmp_path / "nowhere")
    assert load_policy(made).version == "v1"


def test_weights_that_lead_out_of_it_are_not_read(tmp_path: Path) -> None:
    made = published(tmp_path)
    (made / "model.safetensors").rename(tmp_path / "secret.safetensors")
    (made / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(BadInput, match=r"model\.safetensors leads out of the folder; copy the file into it"):
        load_policy(made)


def test_a_policy_of_an_older_version_loads(tmp_path: Path) -> None:
    made = published(tmp_path)
    manifest = json.loads((made / MANIFEST).read_text())
    del manifest[CONTENT]
    (made / MANIFEST).write_text(json.dumps(manifest))
    (made / "config.json").write_bytes(b"{}")
    assert load_policy(made).version == "v1"


def test_a_manifest_of_another_policy_is_not_taken_for_the_trained_one(tmp_path: Path) -> None:
    def learned() -> str:
        with make_run(tmp_path) as run:
            records = [Demo(problem.prompt, "Answer: 1") for problem in run.task.train]
            return run.learn(run.base, sft(), records).version

    version = learned()
    place = tmp_path / "run" / "policies" / version / MANIFEST
    place.write_text(place.read_text().replace(version, "0123456789abcdef"))
    with pytest.raises(
        BadInput, match=f"it holds policy 0123456789abcdef, not {version}; delete the folder, and it is"
    ):
        learned()
