"""Tiny random models with real tokenizers, saved as a user would save them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOS_CHATML = "{{ bos_token }}" + CHATML
SPECIALS = ("<|pad|>", "<s>", "<|im_start|>", "<|im_end|>")  # ids 0 to 3; bytes come after
VOCAB = len(SPECIALS) + 256
KINDS = ("llama", "llama-tied", "qwen2", "qwen3", "gpt2", "gpt_neox")
FUSED = ("llama", "llama-tied", "qwen2", "qwen3")


def save_tokenizer(
    folder: Path, template: str | None = CHATML, *, add_bos: bool = False, eos: str | None = "<|im_end|>"
) -> None:
    """A byte-level tokenizer: every byte one token, four special tokens, pad == eos."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
    if add_bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    saved = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token=eos, pad_token=eos)
    saved.chat_template = template
    saved.save_pretrained(str(folder))


def _config(kind: str, context: int) -> Any:
    from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig, Qwen2Config, Qwen3Config

    own = {"vocab_size": VOCAB, "initializer_range": 0.15, "bos_token_id": 1, "eos_token_id": 3}
    if kind == "gpt2":
        return GPT2Config(**own, n_embd=48, n_layer=2, n_head=4, n_positions=context)
    size = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": context}
    size["num_attention_heads"] = 4
    if kind == "gpt_neox":
        return GPTNeoXConfig(**own, **size)
    size["num_key_value_heads"] = 2
    if kind == "qwen3":
        return Qwen3Config(**own, **size, head_dim=16, tie_word_embeddings=True)
    if kind == "qwen2":
        return Qwen2Config(**own, **size, tie_word_embeddings=False)
    if kind == "llama-wide":  # vLLM's attention on CPUs takes heads of 32 and more
        return LlamaConfig(**own, **size, head_dim=64)
    return LlamaConfig(**own, **size, tie_word_embeddings=kind == "llama-tied")


def windowed_config(kind: str, **settings: Any) -> Any:
    """Of a model some or all of whose layers look back 16 tokens only."""
    import transformers

    size = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 256}
    size |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB, "initializer_range": 0.15}
    size |= {"bos_token_id": 1, "eos_token_id": 3, "pad_token_id": 3, "sliding_window": 16}
    own = {
        "Qwen2": {"use_sliding_window": True, "max_window_layers": 1},
        "GptOss": {"head_dim": 12, "num_local_experts": 4, "num_experts_per_tok": 2},
        "Gemma2": {"head_dim": 12},
        "Gemma3Text": {"head_dim": 12, "num_hidden_layers": 6},
    }
    return getattr(transformers, f"{kind}Config")(**(size | own.get(kind, {}) | settings))


def save_model(folder: Path, kind: str = "llama", *, seed: int = 0, context: int = 256, config: Any = None) -> None:
    """Random weights; biases and norm weights are shaken too, as their initial 0 and 1 would hide a mistake."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config or _config(kind, context))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias") or weight.ndim == 1:
                weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(str(folder))


def make_policy(
    folder: Path, kind: str = "llama", *, seed: int = 0, context: int = 256, template: str | None = CHATML
) -> Any:
    """The policy of a fresh tiny model in `folder`."""
    from selftaught.models import resolve

    save_model(folder, kind, seed=seed, context=context)
    save_tokenizer(folder, template)
    return resolve(folder)


def edit_json(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file, made where it is missing."""
    held = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    file.write_text(json.dumps({**held, **changes}), "utf-8")


def reference(policy: Any) -> Any:
    """The same weights in transformers, float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(policy.path), dtype=torch.float32).eval()


def prompt_ids(policy: Any, prompt: Sequence[Any]) -> list[int]:
    """Token ids of a chat as transformers makes them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(policy.weights))
    messages = [{"role": m.role, "content": m.content} for m in prompt]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def greedy(model: Any, ids: Sequence[int], most: int, eos: Sequence[int] = (3,)) -> tuple[int, ...]:
    """What `generate` of transformers continues `ids` with."""
    import torch

    given = torch.tensor([list(ids)])
    out = model.generate(
        given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=most,
        eos_token_id=list(eos) or None, pad_token_id=0,
    )  # fmt: skip
    return tuple(out[0, len(ids) :].tolist())


def teacher_forced(model: Any, ids: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """log p of each of `tokens` after `ids`, from one plain forward pass."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([[*ids, *tokens]])).logits[0, len(ids) - 1 : -1].double()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(list(tokens))[:, None])[:, 0].tolist()
