"""Files of models: versions by content, manifests, configurations, options, endpoints; what is wrong in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from selftaught.errors import BadInput
from selftaught.models.adapters import require_safetensors
from selftaught.models.cache import config_files, file_version, folder_version, locked_folder, write_cache
from selftaught.models.load import (
    check_complete,
    embedding_names,
    is_machine_error,
    load_errors,
    read_config,
    state_dict,
    weight_files,
)
from selftaught.models.policy import Policy, base_reference, load_policy, publish, read_manifest
from selftaught.models.remote import base_url, remote_policy, require_trainable
from selftaught.models.template_options import parse_options, read_options


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def model_folder(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"w": torch.arange(4.0)}, folder / "model.safetensors")
    return folder


# --- versions ---


def test_the_version_of_a_folder_is_that_of_its_content(tmp_path: Path) -> None:
    one, other = model_folder(tmp_path / "one", a=1), model_folder(tmp_path / "other", a=1)
    assert folder_version(one) == folder_version(other)
    (other / "README.md").write_text("no part of the model")
    assert folder_version(one) == folder_version(other)
    (other / "config.json").write_text('{"a": 2}')
    assert folder_version(one) != folder_version(other)


def test_a_version_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(b"one")
    first = file_version(file)
    memos = list((tmp_path / "cache" / "versions").iterdir())
    assert [json.loads(m.read_text())["version"] for m in memos] == [first]
    memos[0].write_text(memos[0].read_text().replace(first, "f" * 16))
    assert file_version(file) == "f" * 16  # from the memo
    file.write_bytes(b"other")
    assert file_version(file) not in (first, "f" * 16)
    memos[0].write_text("damaged")
    file.write_bytes(b"one")
    assert file_version(file) == first


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    write_cache(tmp_path / "file" / "memo.json", "x")
    write_cache(tmp_path / "new" / "memo.json", "x")
    assert (tmp_path / "new" / "memo.json").read_text() == "x"


def test_a_locked_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    import fcntl

    with locked_folder("m") as folder:
        assert folder == tmp_path / "cache" / "models" / "m"
        with folder.with_name("m.lock").open("w") as stream, pytest.raises(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with folder.with_name("m.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_links_out_of_the_folder_are_not_copied(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    os.symlink(secret, folder / "tokenizer.json")
    os.symlink("config.json", folder / "generation_config.json")
    blob = tmp_path / "models--org--name" / "blobs" / "abc"
    blob.parent.mkdir(parents=True)
    blob.write_text("{}")
    os.symlink(blob, folder / "vocab.json")
    assert [f.name for f in config_files(folder)] == ["config.json", "generation_config.json", "vocab.json"]


# --- weights and configurations ---


@pytest.mark.parametrize("way", ["a link", "a link to a part", "a path in the index"])
def test_weights_out_of_the_folder_are_not_read(tmp_path: Path, way: str) -> None:
    folder = model_folder(tmp_path / "m")
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    name = {"a link": "model.safetensors", "a link to a part": "part.safetensors"}.get(way, "../secret.safetensors")
    whole.rename(tmp_path / "secret.safetensors")
    if way != "a link":
        index.write_text(json.dumps({"weight_map": {"w": name}}))
    if way != "a path in the index":
        os.symlink(tmp_path / "secret.safetensors", folder / name)
    with pytest.raises(BadInput, match=r"\w+\.safetensors leads out of the folder; copy the file into the folder"):
        state_dict(folder)


def test_weights_are_one_file_or_those_of_the_index(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    assert [f.name for f in weight_files(folder)] == ["model.safetensors"]
    assert torch.equal(state_dict(folder)["w"], torch.arange(4.0))
    (folder / "model.safetensors").rename(folder / "part-1.safetensors")
    with pytest.raises(BadInput, match=r"neither model\.safetensors nor an index"):
        weight_files(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "part-1.safetensors"}}))
    assert [f.name for f in weight_files(folder)] == ["part-1.safetensors"]
    index.write_text(json.dumps({"weight_map": {"w": "part-1.safetensors", "v": "part-2.safetensors"}}))
    with pytest.raises(BadInput, match=r"part-2\.safetensors, which it names"):
        weight_files(folder)
    index.write_text("{}")
    with pytest.raises(BadInput, match="it has no 'weight_map'"):
        weight_files(folder)


@pytest.mark.parametrize(("text", "said"), [(None, "no such file"), ("{", "malformed JSON"), ("[]", "holds a list")])
def test_a_configuration_of_no_use_is_one_line(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=said):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("tied", "names", "found"),
    [
        (True, {"embed"}, ("embed", "embed")),
        (True, {"head"}, ("head", "head")),
        (True, {"embed", "head"}, ("embed", "head")),  # a weight of its own counts
        (False, {"embed", "head"}, ("embed", "head")),
    ],
)
def test_tied_embeddings_are_found_under_the_name_there_is(tied: bool, names: set[str], found: tuple[str, str]) -> None:
    assert embedding_names({"tie_word_embeddings": tied}, names, "embed", "head") == found


def test_an_untied_head_must_be_there() -> None:
    with pytest.raises(KeyError, match="head"):
        embedding_names({}, {"embed"}, "embed", "head")


def test_errors_of_the_files_are_the_users_and_those_of_the_machine_are_not(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot load the model .strange header"), load_errors(tmp_path):
        raise ValueError("strange header")
    for error in (MemoryError(), torch.OutOfMemoryError("cuda"), RuntimeError("can't allocate memory: 1 TB")):
        with pytest.raises(type(error)), load_errors(tmp_path):
            raise error
    assert not is_machine_error(RuntimeError("size mismatch"))


def test_missing_weights_are_named() -> None:
    check_complete(torch.nn.Linear(1, 1), {"missing_keys": []})
    with pytest.raises(ValueError, match="2 weights of a Linear are missing, such as a"):
        check_complete(torch.nn.Linear(1, 1), {"missing_keys": ["b", "a"]})


def test_an_adapter_needs_safetensors(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.bin").touch()
    with pytest.raises(BadInput, match=r"no adapter_model\.safetensors"):
        require_safetensors(tmp_path)


# --- policies ---


def published(folder: Path, version: str, **more: Any) -> Path:
    draft = model_folder(folder.with_name(f"{folder.name}.draft"))
    publish(draft, folder, {"version": version, **more})
    return folder


def test_a_policy_is_published_whole_and_read_back_with_its_lineage(tmp_path: Path) -> None:
    base = load_policy(published(tmp_path / "base", "b" * 16))
    child_folder = tmp_path / "child"
    child = load_policy(published(child_folder, "c" * 16, base=base_reference(base, child_folder)))
    assert (child.version, child.root.version) == ("c" * 16, "b" * 16)
    assert not list(tmp_path.glob("*.draft"))
    published(tmp_path / "base", "d" * 16)  # in its place
    assert load_policy(tmp_path / "base").version == "d" * 16
    assert load_policy(child_folder).base == Policy("b" * 16, (tmp_path / "base").resolve())


def test_neighbors_are_named_by_relative_paths_so_that_both_can_be_moved(tmp_path: Path) -> None:
    base = Policy("b" * 16, published(tmp_path / "a" / "base", "b" * 16))
    assert base_reference(base, tmp_path / "a" / "child")["path"] == "../base"
    assert base_reference(base, tmp_path / "z" / "child")["path"] == str((tmp_path / "a" / "base").resolve())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "unreadable manifest"),
        ("[]", "names no version"),
        ('{"version": 3}', "names no version"),
        ('{"version": "v", "base": {"path": 1}}', "its base has no path and version"),
    ],
)
def test_a_damaged_manifest_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "selftaught.json").write_text(text)
    with pytest.raises(BadInput, match=said):
        read_manifest(tmp_path)


def test_a_folder_without_manifest_is_no_policy(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) == {}
    with pytest.raises(BadInput, match=r"no selftaught\.json"):
        load_policy(tmp_path)


def test_an_adapter_whose_base_is_lost_or_replaced_is_refused(tmp_path: Path) -> None:
    base = {"path": "../base", "version": "b" * 16}
    folder = published(tmp_path / "adapter", "a" * 16, base=base, adapter=True)
    with pytest.raises(BadInput, match=r"its base .* is gone"):
        load_policy(folder)
    published(tmp_path / "base", "d" * 16)
    with pytest.raises(BadInput, match=r"is now version d+, not b+"):
        load_policy(folder)


# --- names ---


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("m", ("m", {})),
        ("m:enable_thinking=false", ("m", {"enable_thinking": False})),
        ("m:a=True,b=x,c=3", ("m", {"a": True, "b": "x", "c": 3})),
        ("openai:gpt-4o", ("openai:gpt-4o", {})),
    ],
)
def test_options_of_the_template_follow_a_name(name: str, parsed: tuple[str, dict[str, Any]]) -> None:
    assert parse_options(name) == parsed


@pytest.mark.parametrize("name", ["m:=1", "m:a=", "m:a b=1", "m:a=1,b"])
def test_an_option_without_name_or_value_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="write key=value"):
        parse_options(name)


def test_options_of_a_folder_never_replace_the_messages(tmp_path: Path) -> None:
    assert read_options(tmp_path) == {}
    (tmp_path / "template_options.json").write_text('{"messages": [], "enable_thinking": false}')
    assert read_options(tmp_path) == {"enable_thinking": False}
    (tmp_path / "template_options.json").write_text("[]")
    with pytest.raises(BadInput, match="expected an object"):
        read_options(tmp_path)


def test_the_address_of_an_endpoint_is_given_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert base_url() == "https://api.openai.com/v1"
    assert base_url("http://host:8000/v1/") == "http://host:8000/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://other/v1")
    assert base_url() == "http://other/v1"


@pytest.mark.parametrize("url", ["host:8000", "ftp://host", "http://", "http://host:99999", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="OPENAI_BASE_URL"):
        base_url(url)


@pytest.mark.parametrize("url", ["http://me:pw@host/v1", "http://host/v1?key=1", "http://host/v1#x"])
def test_an_address_with_secrets_in_it_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="OPENAI_API_KEY") as caught:
        base_url(url)
    assert "pw" not in str(caught.value)


def test_a_model_behind_an_endpoint_has_a_name_and_no_weights() -> None:
    policy = remote_policy("m", "http://host/v1")
    assert (policy.version, policy.remote) == ("openai:m@host/v1", "m")
    assert remote_policy("m", "http://other/v1").version != policy.version
    for use in (lambda: policy.weights, lambda: require_trainable(policy)):
        with pytest.raises(BadInput, match="behind an endpoint"):
            use()


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "m:enable_thinking=false"])
def test_a_remote_model_without_a_plain_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="openai:"):
        remote_policy(name)
