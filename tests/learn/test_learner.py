"""From a policy and demonstrations to a published policy: learnt, resumed, stacked, freed."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learn_models import demo, demos, learn_in_child, make_policy, weights

from selftaught.engines.base import Request, Sampling
from selftaught.engines.local.engine import LocalEngine
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig, sft
from selftaught.learn.learner import policy_version, train_policy
from selftaught.learn.objectives.sft import Sft
from selftaught.machine.malloc import release_memory
from selftaught.models.load import load_model
from selftaught.models.policy import load_policy, read_manifest
from selftaught.records import Demo, Message, as_prompt

FAST = TrainConfig(epochs=2, batch_size=2, learning_rate=1e-2, precision="float32", max_tokens_per_pass=64)
MEMORISE = replace(FAST, epochs=60, batch_size=3, schedule="constant")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path):
    return make_policy(tmp_path / "base", spread=0.2)  # wide enough that an adapter can make any token certain


def answers(policy, prompts, most=16):
    """Greedy samples in float32."""
    engine = LocalEngine(dtype="float32", device="cpu")

    async def ask():
        sampling = Sampling(temperature=0.0, max_tokens=most)
        return await asyncio.gather(*(engine.sample(policy, Request(p, sampling, i)) for i, p in enumerate(prompts)))

    try:
        return asyncio.run(ask())
    finally:
        engine.close()


def assert_same_weights(one, other, atol=1e-6):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert a
    assert max((a[n] - b[n]).abs().max().item() for n in a) <= atol


@pytest.mark.parametrize("rank", [0, 8])
def test_the_answer_is_learnt_with_its_end_though_pad_is_the_end_of_sequence(base, tmp_path, rank):
    policy = train_policy(
        base,
        sft(),
        demos(),
        replace(MEMORISE, lora_rank=rank, learning_rate=0.01),
        seed=0,
        folder=tmp_path / "policies",
    )
    samples = answers(policy, [d.prompt for d in demos()])
    assert [s.text for s in samples] == [d.target for d in demos()]
    assert {s.finish_reason for s in samples} == {"stop"}
    assert [s.text for s in answers(base, [d.prompt for d in demos()])] != [d.target for d in demos()]


@pytest.mark.parametrize("rank", [0, 4])
def test_killed_and_run_again_it_ends_with_the_weights_of_an_undisturbed_run(base, tmp_path, rank):
    how = {"epochs": 3, "batch_size": 2, "learning_rate": 1e-3, "precision": "float32", "lora_rank": rank,
           "weight_decay": 0.01, "checkpoint_seconds": 0.0}  # fmt: skip
    child = learn_in_child(base, tmp_path / "killed", how, kill_after=3)
    assert child.communicate()[1] is not None
    assert child.returncode == -9
    (work,) = (tmp_path / "killed").iterdir()  # no policy appeared
    assert work.suffix == ".work"
    seen = []
    arguments = {"seed": 3, "progress": lambda step, *_: seen.append(step)}
    resumed = train_policy(base, sft(), demos(), TrainConfig(**how), folder=tmp_path / "killed", **arguments)
    assert seen == [4, 5, 6]
    whole = train_policy(base, sft(), demos(), TrainConfig(**how), folder=tmp_path / "whole", **arguments)
    assert seen == [4, 5, 6, 1, 2, 3, 4, 5, 6]
    assert_same_weights(resumed.path, whole.path)
    facts = [read_manifest(p.path) for p in (resumed, whole)]
    assert facts[0]["losses"] == pytest.approx(facts[1]["losses"], abs=1e-5)
    assert [facts[0][k] for k in ("steps", "tokens", "version")] == [
        facts[1][k] for k in ("steps", "tokens", "version")
    ]
    assert [p.name for p in (tmp_path / "killed").iterdir()] == [resumed.version]


def test_what_a_killed_learn_left_does_not_confuse_the_next(base, tmp_path):
    folder = tmp_path / "policies"
    version = policy_version(base, sft(), demos(), FAST, 0)
    draft = folder / f"{version}.work" / "policy"
    draft.mkdir(parents=True)
    (draft / "model-00001-of-00002.safetensors").write_bytes(b"cut off")
    (draft / "selftaught.json").write_text("{")
    (folder / version).mkdir()  # a folder without a manifest is no policy
    (folder / version / "model.safetensors").write_bytes(b"cut off")
    policy = train_policy(base, sft(), demos(), FAST, seed=0, folder=folder)
    clean = train_policy(base, sft(), demos(), FAST, seed=0, folder=tmp_path / "clean")
    assert_same_weights(policy.path, clean.path, atol=0)
    assert sorted(p.name for p in policy.path.iterdir()) == sorted(p.name for p in clean.path.iterdir())
    assert [p.name for p in folder.iterdir()] == [version]


def test_a_policy_already_there_is_returned_untouched(base, tmp_path):
    first = train_policy(base, sft(), demos(), FAST, seed=0, folder=tmp_path / "policies")
    stamp = (first.path / "model.safetensors").stat().st_mtime_ns
    again = train_policy(base, sft(), demos(), FAST, seed=0, folder=tmp_path / "policies", progress=pytest.fail)
    assert again == first
    assert (first.path / "model.safetensors").stat().st_mtime_ns == stamp


def test_the_manifest_and_the_records_tell_what_was_learnt_from(base, tmp_path):
    given = [*demos(), Demo((Message("system", "é\u2028"), Message("user", "cat")), "dog\n.", -0.5, ("a1", "a2"))]
    policy = train_policy(base, sft(), given, FAST, seed=7, folder=tmp_path / "policies")
    with (policy.path / "records.jsonl").open(encoding="utf-8") as lines:
        read = [json.loads(line) for line in lines]
    back = [Demo(as_prompt(r["prompt"]), r["target"], r["weight"], tuple(r["attempts"])) for r in read]
    assert back == given
    facts = read_manifest(policy.path)
    assert facts["version"] == policy.version == policy_version(base, sft(), given, FAST, 7)
    assert (facts["records"], facts["seed"], facts["objective"], facts["adapter"]) == (4, 7, "sft", False)
    assert facts["steps"] == len(facts["losses"]) == 4
    assert TrainConfig(**facts["training"]) == FAST
    assert facts["base"]["version"] == base.version
    assert policy.base == base


def test_an_adapter_alone_is_trained_and_published(base, tmp_path):
    before = {file.name: file.read_bytes() for file in base.path.iterdir()}
    policy = train_policy(base, sft(), demos(), replace(FAST, lora_rank=2), seed=0, folder=tmp_path / "policies")
    assert policy.adapter
    assert policy.weights == base.path
    assert all("lora_" in name for name in weights(policy.path))
    assert any("lora_B" in n and t.any() for n, t in weights(policy.path).items())
    size = sum(t.numel() for t in weights(policy.path).values())
    assert size < 0.3 * sum(t.numel() for t in weights(base.path).values())
    assert not (policy.path / "tokenizer.json").exists()
    assert {file.name: file.read_bytes() for file in base.path.iterdir()} == before


def merged(policy):
    """The adapter's weights worked into its base by the formula of LoRA: W + alpha / r * B A."""
    model = load_model(policy.base, torch.float32)
    settings = json.loads((policy.path / "adapter_config.json").read_text("utf-8"))
    found = weights(policy.path)
    state = model.state_dict()
    for name, a in found.items():
        if name.endswith("lora_A.weight"):
            b = found[name.replace("lora_A", "lora_B")]
            target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
            state[target] += settings["lora_alpha"] / settings["r"] * b @ a
    return model.eval()


def assert_samples_like(policy, model):
    from selftaught.models import ChatTokenizer

    tokenizer = ChatTokenizer(policy.weights)
    prompts = [d.prompt for d in demos()]
    for prompt, sample in zip(prompts, answers(policy, prompts, most=8), strict=True):
        ids = torch.tensor([tokenizer.encode_prompt(prompt)])
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8)
            logits = model(out).logits[0].log_softmax(-1)
        assert list(sample.token_ids) == out[0, ids.shape[1] :].tolist()
        wanted = [logits[ids.shape[1] + t - 1, token].item() for t, token in enumerate(sample.token_ids)]
        assert list(sample.logprobs) == pytest.approx(wanted, abs=1e-4)


def test_adapters_stack_and_sample_as_their_merged_weights_do(base, tmp_path):
    folder = tmp_path / "policies"
    first = train_policy(base, sft(), demos(), replace(FAST, lora_rank=4, epochs=6), seed=0, folder=folder)
    assert_samples_like(first, merged(first))
    second = train_policy(first, sft(), [demo("cat", "dog .")], replace(MEMORISE, lora_rank=4), seed=1, folder=folder)
    assert_samples_like(second, merged(second))
    assert answers(second, [demo("cat", "").prompt])[0].text == "dog ."
    whole = train_policy(first, sft(), [demo("cat", "blue .")], MEMORISE, seed=1, folder=folder)
    assert answers(whole, [demo("cat", "").prompt])[0].text == "blue ."
    assert (whole.adapter, whole.weights) == (False, whole.path)
    read = load_policy(second.path)
    assert [read.version, read.base.version, read.base.base.version] == [second.version, first.version, base.version]
    assert read.root == base


def test_the_folder_of_policies_can_be_moved_with_its_lineage(base, tmp_path):
    folder = tmp_path / "policies"
    first = train_policy(base, sft(), demos(), replace(FAST, lora_rank=2), seed=0, folder=folder)
    second = train_policy(first, sft(), demos(), replace(FAST, lora_rank=2), seed=1, folder=folder)
    before = answers(second, [demos()[0].prompt])[0].token_ids
    shutil.move(folder, tmp_path / "elsewhere")
    assert answers(load_policy(tmp_path / "elsewhere" / second.version), [demos()[0].prompt])[0].token_ids == before


def test_records_that_cannot_be_learnt_are_bad_input(base, tmp_path):
    folder = tmp_path / "policies"
    with pytest.raises(BadInput, match="nothing to learn from"):
        train_policy(base, sft(), [], FAST, seed=0, folder=folder)
    long = demo("cat", " ".join(["dog"] * 60))
    with pytest.raises(BadInput, match=r"training record 1: it has 66 tokens and the model's context holds 48"):
        train_policy(base, sft(), [demos()[0], long], FAST, seed=0, folder=folder)
    (base.path / "chat_template.jinja").unlink()
    with pytest.raises(BadInput, match="training record 0: its prompt is empty"):
        train_policy(base, sft(), [Demo((), "dog")], FAST, seed=0, folder=folder)
    assert not folder.exists()


def test_a_record_may_fill_the_context_to_its_last_token(base, tmp_path):
    full = demo("cat", " ".join(["dog"] * 42))  # five tokens of prompt, 42 of answer, the end: 48
    policy = train_policy(base, sft(), [full], replace(FAST, epochs=1), seed=0, folder=tmp_path / "policies")
    assert read_manifest(policy.path)["tokens"] == 48


def test_the_version_is_how_the_policy_is_made(base):
    def version(policy=base, objective=None, records=None, seed=0, **settings):
        return policy_version(policy, objective or sft(), records or demos(), replace(FAST, **settings), seed)

    changes = [
        {"policy": replace(base, version="0" * 16)}, {"objective": Sft(name="other")}, {"seed": 1},
        {"records": demos()[:2]}, {"records": demos()[::-1]},
        {"records": [*demos()[:2], replace(demos()[2], weight=2.0)]},
        {"epochs": 3}, {"learning_rate": 1.0}, {"batch_size": 3}, {"warmup_ratio": 0.1}, {"schedule": "linear"},
        {"weight_decay": 0.1}, {"max_grad_norm": 2.0}, {"lora_rank": 2}, {"precision": "bf16"},
        {"schedule_start": 0.5}, {"schedule_end": 0.5},
    ]  # fmt: skip
    versions = [version(**change) for change in changes]
    assert len({version(), *versions}) == len(changes) + 1
    assert version(checkpoint_seconds=1.0, max_tokens_per_pass=7) == version(records=tuple(demos())) == version()


def test_the_memory_of_a_training_is_given_back(tmp_path):
    pytest.importorskip("psutil")
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    # In a process of its own: what other tests left free in this one would hide or feign a leak.
    done = subprocess.run(
        [sys.executable, __file__, tmp_path], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    resident, alive = json.loads(done.stdout)
    assert resident[-1] - resident[0] < 30
    assert not alive


def trainings(folder):
    """Four trainings: the resident memory after each, in MB, and the models still alive at the end."""
    import peft  # noqa: F401 - its code is no leak of the training that is the first to need it
    import psutil

    base = make_policy(folder / "wide", hidden=512, layers=3)  # about 30 MB; four times that while it trains
    me = psutil.Process()
    resident = []
    for rank in (0, 0, 4, 0):
        how = replace(FAST, epochs=1, lora_rank=rank)
        train_policy(base, sft(), demos(), how, seed=len(resident), folder=folder / "policies")
        release_memory()  # as a run does; what the allocator keeps of freed memory differs from process to process
        resident.append(me.memory_info().rss / 2**20)
    models = [o for o in gc.get_objects() if isinstance(o, torch.nn.Module)]
    return resident, [name for o in models if (name := type(o).__name__).endswith("ForCausalLM")]


if __name__ == "__main__":
    print(json.dumps(trainings(Path(sys.argv[1]))))
