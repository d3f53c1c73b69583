"""Small real models on disk for the learning tests: a word tokenizer whose pad token is its end of sequence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from selftaught.models.cache import folder_version
from selftaught.models.policy import Policy
from selftaught.records import Demo, Message

SENTENCES = """one two three four five six seven eight nine ten plus minus is the sum of red green blue cat dog
user assistant : what how . 0 1 good bad"""
WORDS = SENTENCES.split()
TEMPLATE = "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}assistant : "
HERE = Path(__file__).parent


def make_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<s>", "</s>", "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )
    made.chat_template = TEMPLATE
    return made


def make_model(
    kind: str = "llama", *, hidden: int = 32, layers: int = 2, context: int = 48, spread: float = 0.02, seed: int = 0
) -> Any:
    """A randomly initialised float32 model, the same each time for the same seed."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig
    from transformers import LlamaForCausalLM as Llama

    torch.manual_seed(seed)
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    if kind == "gpt2":
        no_drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        sizes = {"n_embd": hidden, "n_layer": layers, "n_head": 4, "n_positions": context}
        return GPT2LMHeadModel(GPT2Config(vocab_size=40, **sizes, **no_drop, **ids))
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": 4, "max_position_embeddings": context, "vocab_size": 40}
    if kind == "gpt_neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, **ids))
    return Llama(LlamaConfig(initializer_range=spread, num_key_value_heads=2, tie_word_embeddings=True, **sizes, **ids))


def make_policy(folder: Path, **sizes: Any) -> Policy:
    """The tiny Llama and its tokenizer as a starting policy."""
    make_model(**sizes).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return Policy(folder_version(folder), folder)


def demo(question: str, answer: str, weight: float = 1.0) -> Demo:
    return Demo((Message("user", question),), answer, weight)


def demos() -> list[Demo]:
    """Three demonstrations of different lengths."""
    return [
        demo("what is one plus two", "the sum is three ."),
        demo("how red is the cat", "green ."),
        demo("what is two plus two plus one", "the sum of two plus two plus one is five ."),
    ]


def step_gradients(model: Any, groups: Any, objective: Any, settings: Any) -> tuple[float, list[Any]]:
    """The loss of one step of the trainer over `groups`, and the gradient of each parameter."""
    from selftaught.learn.trainer import Trainer, packed_attention_on

    trainer = Trainer(model, objective, settings, groups, seed=0)
    with packed_attention_on(model):
        loss = trainer._backward(groups, None)
    found = [trainer._optimizer.gradient(p) for p in model.parameters()]
    return loss, [g.clone() for g in found if g is not None]


def weights(folder: Path) -> dict[str, Any]:
    """The tensors published in a policy's folder."""
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def learn_in_child(base: Policy, folder: Path, settings: dict[str, Any], kill_after: int = 0) -> subprocess.Popen[str]:
    """`learn` on `demos()` in another process, which kills itself after so many steps."""
    plan = {"base": str(base.path), "version": base.version, "folder": str(folder), "settings": settings}
    plan["kill_after"] = kill_after
    import torch

    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "learn_models", json.dumps(plan)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def _child(plan: dict[str, Any]) -> None:
    import signal

    from selftaught.learn import TrainConfig, sft
    from selftaught.learn.learner import train_policy

    def progress(step: int, _total: int, _loss: float) -> None:
        # called before the checkpoint of its own step: at step k + 1 the checkpoint of step k is on disk
        if plan["kill_after"] and step == plan["kill_after"] + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    base = Policy(plan["version"], Path(plan["base"]))
    settings, folder = TrainConfig(**plan["settings"]), Path(plan["folder"])
    train_policy(base, sft(), demos(), settings, seed=3, folder=folder, progress=progress)


if __name__ == "__main__":
    _child(json.loads(sys.argv[1]))
