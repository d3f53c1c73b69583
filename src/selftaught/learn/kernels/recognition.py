"""Which modules compute what the fused forms of `kernels.fused` compute, found by running both.

A layer's code changes between releases while its result stays, and its name guarantees nothing. So each kind of
module (class, settings, number format) is copied once per process at a small size with random weights, and run beside
its fused form: results and gradients must agree for small, usual and large inputs, and no random number may be drawn.
What such a trial cannot show (a window longer than its rows, a switch) would need an attribute or a layer of its own: a
module with one that is not known here is not recognized.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from selftaught.learn.kernels.packing import ATTENTION_NAME, pack_rows, register_attention
from selftaught.learn.objectives.base import Row

Compute = Callable[..., Any]
TOLERANCE = 1e-4  # relative to a typical value, in float32
BF16_TOLERANCE = 0.02  # of the norm, in bfloat16, beyond twice the layer's own rounding error
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
WIDTH, INNER = 8, 12  # of the copies
MODULE_ATTRIBUTES = frozenset(vars(nn.Module())) | {"_is_hf_initialized"}
TRIAL_ROWS = [Row((1, 2, 3), (4, 5, 6, 7)), Row((1, 2, 3), (7, 8)), Row((9, 10), tuple(range(11, 20)))]


@dataclass(frozen=True, slots=True)
class FusedPart:
    """A part of a model that has a fused form.

    Attributes:
        name: for users.
        weights: names of its own parameters.
        layers: names of the layers in it.
        unused_layers: those of them that the fused form does not call.
        required: attributes that the fused form reads.
        optional: further attributes that change nothing, or nothing that the trial would not show.
        scales: to try, of the inputs; for attention of queries and values, and inversely of keys.
        make_layers: makes the layers of a small copy, given the module.
        make_inputs: makes further inputs of its `forward` by name, given the module.
    """

    name: str
    parameters: frozenset[str]
    layers: frozenset[str]
    unused_layers: frozenset[str]
    required: frozenset[str]
    optional: frozenset[str]
    scales: tuple[float, ...]
    make_layers: Callable[[Any], dict[str, nn.Module]]
    make_inputs: Callable[[Any, torch.Generator], dict[str, Any]]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _gates(module: Any) -> dict[str, nn.Module]:
    gates: dict[str, nn.Module] = {name: nn.Linear(WIDTH, INNER) for name in ("gate_proj", "up_proj")}
    return gates | {"down_proj": nn.Linear(INNER, WIDTH), "act_fn": module.act_fn}


def _heads(module: Any) -> dict[str, nn.Module]:
    size = 2 * module.head_dim  # two heads of keys
    wide = size * module.num_key_value_groups
    shapes = {"q_proj": (WIDTH, wide), "k_proj": (WIDTH, size), "v_proj": (WIDTH, size), "o_proj": (wide, WIDTH)}
    return {name: nn.Linear(*shape) for name, shape in shapes.items()}


def _packed(module: Any, made: torch.Generator) -> dict[str, Any]:
    layout = pack_rows(TRIAL_ROWS)
    turns = tuple(torch.randn(1, layout.ids.shape[1], module.head_dim, generator=made) for _ in range(2))
    return {"position_embeddings": turns, "attention_mask": None, "layout": layout}


NORM = FusedPart(
    "norm", _names("weight"), frozenset(), frozenset(), _names("variance_epsilon"), _names("hidden_size"),
    (1e-4, 1.0, 1e4), lambda _: {}, lambda *_: {},
)  # fmt: skip
GATED = FusedPart(
    "gated layer", frozenset(), _names("gate_proj up_proj down_proj act_fn"), _names("act_fn"), frozenset(),
    _names("config hidden_size intermediate_size layer_idx"), (1e-2, 1.0, 1e3), _gates, lambda *_: {},
)  # fmt: skip
ATTENTION = FusedPart(
    "attention", frozenset(), _names("q_proj k_proj v_proj o_proj"), frozenset(),
    _names("config head_dim num_key_value_groups scaling attention_dropout"),
    _names("layer_idx is_causal layer_type sliding_window hidden_size num_heads num_attention_heads"
           " num_key_value_heads max_position_embeddings rope_theta attention_bias"),
    (1e-3, 1.0, 1e3), _heads, _packed,
)  # fmt: skip

_tried: dict[tuple[Any, ...], str] = {}


def why_not_fused(
    module: Any, part: FusedPart, fuse: Callable[[Any], Compute], config_texts: dict[int, str] | None = None
) -> str:
    """Why the fused form may not replace `module`, in a few words; empty if it may.

    Args:
        fuse: makes the fused form of a module.
        config_texts: cache of configurations as text, by identity, while they do not change.
    """
    kind = type(module)
    if odd := _unknown_part(module, part):
        return odd
    dtype = next((p.dtype for p in module.parameters() if p.dtype in DTYPES), torch.float32)
    settings = [
        f"{name}={value!r}"
        for name, value in vars(module).items()
        if name not in MODULE_ATTRIBUTES | {"config", "layer_idx"}
    ]
    act = type(getattr(module, "act_fn", None))
    key = (part.name, kind, kind.forward, dtype, module.training, act, *settings, _config_text(module, config_texts))
    if key not in _tried:
        _tried[key] = _trial(module, part, fuse, dict.fromkeys((torch.float32, dtype)), part.scales)
    layer = (*key, vars(module).get("layer_idx"))  # it may behave differently in some layers
    if not _tried[key] and layer not in _tried:
        _tried[layer] = _trial(module, part, fuse, [torch.float32], [1.0])
    return _tried[key] or _tried[layer]


def _unknown_part(module: Any, part: FusedPart) -> str:
    """What in a module's structure is not known here; empty if nothing."""
    if "forward" in vars(module) or type(module).__call__ is not nn.Module.__call__:
        return "its forward was replaced"
    for inner in (module._modules[name] for name in part.unused_layers & module._modules.keys()):
        if "forward" in vars(inner) or any(vars(inner).get(name) for name in HOOKS) or inner.state_dict():
            return f"its {type(inner).__name__} does more than is known"
    held = {
        n for names in (module._parameters, module._modules, module._buffers) for n, v in names.items() if v is not None
    }
    if odd := held ^ (part.parameters | part.layers):
        return f"it differs in {', '.join(sorted(odd))}"
    facts = vars(module).keys() - MODULE_ATTRIBUTES
    if odd := (facts - part.required - part.optional) | (part.required - facts):
        return f"it differs in {', '.join(sorted(odd))}"
    windows = getattr(module, "sliding_window", None), getattr(getattr(module, "config", None), "sliding_window", None)
    if part is ATTENTION and any(windows):
        return "a token sees only a window of those before it"
    return "" if part is ATTENTION or _takes(type(module).forward) == 1 else "it takes more than one tensor"


@cache
def _takes(forward: Any) -> int:
    return len(inspect.signature(forward).parameters) - 1


def _config_text(module: Any, config_texts: dict[int, str] | None) -> str:
    """All values of the configuration that a layer may read, as text."""
    config, config_texts = getattr(module, "config", None), {} if config_texts is None else config_texts
    if config is None:
        return ""
    if id(config) not in config_texts:
        config_texts[id(config)] = repr([item for item in vars(config).items() if "attn_implementation" not in item[0]])
    return config_texts[id(config)]


def _trial(
    module: Any,
    part: FusedPart,
    fuse: Callable[[Any], Compute],
    formats: Iterable[torch.dtype],
    scales: Iterable[float],
) -> str:
    register_attention()
    try:
        with _isolated():
            same = all(_agree(module, part, fuse, scale, kind) for kind in formats for scale in scales)
    except Exception as error:  # any code may raise anything
        return f"it could not be tried ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
    return "" if same else "it computes something else"


@contextmanager
def _isolated() -> Iterator[None]:
    """Inside, gradients are enabled, and drawn random numbers leave the generators unchanged."""
    outside = torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False)
    with outside[0], outside[1], outside[2], torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _twin(module: Any, part: FusedPart, scale: float) -> Any:
    """A small copy of `module` with random weights, of the same class and settings."""
    twin = copy.copy(module)
    layers = part.make_layers(module)
    weights = {name: nn.Parameter(torch.randn(WIDTH)) for name in part.parameters}
    vars(twin).update(_parameters=weights, _modules=layers, _buffers={})
    for name, layer in layers.items():
        for p in layer.parameters() if name not in part.unused_layers else ():
            nn.init.normal_(p, std=(p.shape[-1] if p.dim() > 1 else 1) ** -0.5)
    if part is ATTENTION:
        twin.config, twin.attention_dropout = copy.copy(module.config), 0.0
        twin.config._attn_implementation = ATTENTION_NAME
        with torch.no_grad():
            for name, factor in {"q_proj": scale, "k_proj": 1 / scale, "v_proj": scale}.items():
                for p in layers[name].parameters():
                    p.mul_(factor)
    return twin


def _agree(module: Any, part: FusedPart, fuse: Callable[[Any], Compute], scale: float, dtype: torch.dtype) -> bool:
    """Whether both forms agree; in bfloat16, whether the fused form is as close to float32."""
    made, twin = torch.Generator().manual_seed(1), _twin(module, part, scale)
    more = part.make_inputs(twin, made)
    count = more["layout"].ids.shape[1] if "layout" in more else 64
    x, d = torch.randn(2, 1, count, WIDTH, generator=made).unbind()
    x = x * (2.0 if part is ATTENTION else scale)
    before = torch.get_rng_state()
    own = _run_with_gradients(twin.to(dtype), type(twin).forward, x, d, more)
    if not torch.equal(before, torch.get_rng_state()):
        return False
    fast = _run_with_gradients(twin, lambda module, *given, **named: fuse(module)(*given, **named), x, d, more)
    if dtype != torch.bfloat16:
        return all(_is_close(a, b) for a, b in zip(own, fast, strict=True))
    true = _run_with_gradients(twin.float(), type(twin).forward, x.to(dtype).float(), d.to(dtype).float(), more)
    return all(_is_as_close(*three) for three in zip(own, fast, true, strict=True))


def _run_with_gradients(twin: Any, compute: Compute, x: Tensor, d: Tensor, more: dict[str, Any]) -> list[Tensor]:
    """The result for `x`, and the gradients of its inputs for the output gradient `d`."""
    dtype = next(twin.parameters()).dtype
    leaf = x.to(dtype).requires_grad_()
    named = {n: tuple(t.bfloat16().to(dtype) for t in v) if n == "position_embeddings" else v for n, v in more.items()}
    found = compute(twin, leaf, **named)
    if isinstance(found, tuple):
        found, weights = found
        assert weights is None
    return [found.detach(), *torch.autograd.grad(found, [leaf, *twin.parameters()], d.to(dtype))]


def _is_close(one: Tensor, other: Tensor) -> bool:
    usual = one.square().mean().sqrt()
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and bool(((one - other).abs() <= TOLERANCE * (one.abs() + usual)).all())


def _is_as_close(one: Tensor, other: Tensor, true: Tensor) -> bool:
    size, mine, others = (float(t.float().norm()) for t in (true, one - true, other - true))
    return one.shape == other.shape and one.dtype == other.dtype and others <= 2 * mine + BF16_TOLERANCE * size
