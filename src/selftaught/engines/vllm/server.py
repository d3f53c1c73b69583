"""vLLM in processes of its own, and the weights that it holds at a time."""

from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from types import ModuleType
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.models.policy import Policy

if TYPE_CHECKING:
    from selftaught.models.chat import ChatTokenizer

SMALL_CPU_COUNT = 4  # up to which vLLM shall keep no core of a CPU to its scheduler alone
INSTALL_FIX = "pip install 'selftaught[vllm]' in an environment of its own"
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM makes room
DEFAULT_CPU_CACHE_GIB = 2.0  # on a CPU, where vLLM would take a share of the machine
# Of an adapter, what vLLM does not compute; such a one is merged into its base instead.
UNSUPPORTED_LORA_FIELDS = (
    "use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias", "layer_replication",
    "trainable_token_indices", "target_parameters", "use_qalora", "arrow_config", "corda_config", "eva_config",
)  # fmt: skip
IGNORED_CONFIG_FIELDS = (
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
)  # of no effect on the shape
ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is the commands' own
    "VLLM_NO_USAGE_STATS": "1",
    # A copy of a process with threads, ours among them, may hang.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
CHILD_ENVIRONMENT = {"PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}


@dataclass(frozen=True, slots=True)
class RequiredWeights:
    """What has to be loaded for a policy.

    Attributes:
        policy: what is asked for.
        whole: the policy whose whole weights are loaded; one that is an adapter is merged into its base.
        rank: of the adapter of `policy` laid over them; 0 where there is none.
    """

    policy: Policy
    base: Policy
    lora_rank: int = 0


def required_weights(policy: Policy, *, use_loras: bool = True) -> RequiredWeights:
    """What has to be loaded for `policy`: its own weights, or its base's and an adapter over them.

    vLLM lays one plain LoRA adapter over whole weights; other kinds, and adapters over adapters, are merged.

    Args:
        adapters: whether adapters may be laid over.

    Raises:
        BadInput: the weights are behind an endpoint, or the adapter's configuration cannot be read.
    """
    _ = policy.weights  # refused where they are behind an endpoint
    if not policy.adapter or policy.base is None:
        return RequiredWeights(policy, policy)
    rank = _lora_rank(policy.path) if use_loras and not policy.base.adapter else 0
    return RequiredWeights(policy, policy.base, rank) if rank else RequiredWeights(policy, policy)


def _lora_rank(folder: Path) -> int:
    """The rank of a plain LoRA adapter; 0 for one that has to be merged."""
    file = folder / "adapter_config.json"
    try:
        config = json.loads(file.read_text("utf-8"))
        plain = config["peft_type"] == "LORA" and config.get("bias", "none") == "none"
        rank = int(config["r"]) if plain and not any(config.get(name) for name in UNSUPPORTED_LORA_FIELDS) else 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"cannot read the adapter ({error})", where=str(file), fix="train or save it again") from None
    return rank if rank <= LORA_RANKS[-1] else 0


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How vLLM is started.

    Attributes:
        dtype: as of `LocalEngine`.
        rows: most requests decoded together.
        cache_gib: most memory for keys and values; None: 2 GiB on a CPU, elsewhere what vLLM finds free.
        adapters: most LoRA adapters held together; 0: they are merged.
        options: further arguments of vLLM's `AsyncEngineArgs`, which come before all others.
    """

    dtype: str
    max_batch_size: int
    cache_gib: float | None
    max_loras: int
    engine_args: Mapping[str, Any] = field(default_factory=dict)


class VllmServer:
    """vLLM with one set of whole weights and the adapters over it. For one event loop; it blocks while it loads.

    Attributes:
        llm: vLLM's engine while it runs.
        tokenizer: of the weights that are held.
        encoded: its `encode_prompt`, remembering.
        context: most tokens of a sequence.
        chooses: whether tokens are chosen by `vllm_inside`; else by vLLM, whose seeds count positions too.
    """

    def __init__(self, settings: ServerConfig) -> None:
        self._config = settings
        self.llm: Any = None
        self.tokenizer: ChatTokenizer
        self.encode_prompt: Callable[..., list[int]]
        self.max_context, self.uses_token_sampler = 0, False
        self._base: Policy | None = None
        self._layout: Any = None
        self._lora_rank = 0
        self._loras: OrderedDict[str, Any] = OrderedDict()  # version -> vLLM's LoRARequest; last used last
        self._num_loras = 0
        self._merged_folder: TemporaryDirectory[str] | None = None

    # --- what it holds ---

    def has_base(self, need: RequiredWeights) -> bool:
        """Whether the whole weights are loaded, with room for the adapter."""
        if self.llm is None or self.llm.errored or self._base is None:
            return False
        return self._base.version == need.base.version and self._lora_rank >= need.lora_rank

    def has_weights(self, need: RequiredWeights) -> bool:
        """Whether all that is needed is loaded."""
        return self.has_base(need) and (not need.lora_rank or need.policy.version in self._loras)

    def has_lora_slot(self, active: Container[str]) -> bool:
        """Whether one more adapter can be laid over, if those of policies in `busy` must stay."""
        return len(self._loras) < self._config.max_loras or any(v not in active for v in self._loras)

    def lora_request(self, need: RequiredWeights) -> Any:
        """What vLLM calls the adapter of a policy that is held; None where it has none."""
        if not need.lora_rank:
            return None
        self._loras.move_to_end(need.policy.version)
        return self._loras[need.policy.version]

    # --- loading ---

    async def load(self, need: RequiredWeights, active: Container[str]) -> None:
        """Load what is needed; whole weights only where nothing is under way.

        Args:
            busy: versions of the policies with answers under way.

        Raises:
            BadInput: it cannot be loaded. What was held before may be gone, never half replaced.
        """
        if not self.has_base(need):
            await self._load_base(need)
        if need.lora_rank and need.policy.version not in self._loras:
            await self._add_lora(need, active)

    async def _load_base(self, need: RequiredWeights) -> None:
        from selftaught.models.chat import ChatTokenizer
        from selftaught.models.load import load_errors

        with load_errors(need.base.weights):
            layout = weight_layout(need.base.weights)
            tokenizer = ChatTokenizer(need.base.weights)
        scratch = _merged(need.base) if need.base.adapter else None
        folder = Path(scratch.name) if scratch else need.base.path
        try:
            if layout == self._layout and self._lora_rank >= need.lora_rank and self._can_replace_weights():
                await self._replace_weights(folder)
            else:
                rank = max(
                    self._lora_rank, next((r for r in LORA_RANKS if r >= need.lora_rank), 0) if need.lora_rank else 0
                )
                self.stop()
                self._start(folder, rank)
        except BaseException as error:
            self.stop()
            if scratch:
                scratch.cleanup()
            if not isinstance(error, Exception) or isinstance(error, BadInput):
                raise
            what = shorten(str(error), 300, placeholder=" ...")
            fix = "see what it wrote to standard error (all of it with VLLM_LOGGING_LEVEL=INFO)"
            raise BadInput(f"vLLM cannot load it ({what})", where=str(need.base.path), fix=fix) from error
        if self._merged_folder:
            self._merged_folder.cleanup()
        self._merged_folder, self._base, self._layout, self.tokenizer = scratch, need.base, layout, tokenizer
        self.encode_prompt = lru_cache(1024)(tokenizer.encode_prompt)  # many samples are asked of one prompt

    def _can_replace_weights(self) -> bool:
        """Whether vLLM runs, and holds its weights as they were read."""
        if self.llm is None or self.llm.errored:
            return False
        return self.llm.model_config.quantization is None

    async def _replace_weights(self, folder: Path) -> None:
        """Put other weights of the same shape in the place of those held, and forget what was computed with them."""
        self._base = None
        self._loras.clear()  # vLLM drops them with the weights they lie over
        await self.llm.collective_rpc("replace_weights", args=(str(folder),))
        await self.llm.reset_prefix_cache()

    async def _add_lora(self, need: RequiredWeights, active: Container[str]) -> None:
        from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

        if len(self._loras) >= self._config.max_loras:
            oldest = next(version for version in self._loras if version not in active)
            await self.llm.remove_lora(self._loras.pop(oldest).lora_int_id)
        self._num_loras += 1  # never used again: vLLM knows an adapter by its number
        request = LoRARequest(need.policy.version, self._num_loras, str(need.policy.path.resolve()))
        try:
            done = await self.llm.add_lora(request)
        except Exception as error:  # whatever its reader stumbles over
            done, why = False, shorten(str(error), 200, placeholder=" ...")
        else:
            why = "it is not taken"
        if not done:
            fix = "train or save it again, or merge adapters (VllmEngine(adapters=0))"
            raise BadInput(f"vLLM cannot load the adapter ({why})", where=str(need.policy.path), fix=fix)
        self._loras[need.policy.version] = request

    def _start(self, folder: Path, rank: int) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs  # pyright: ignore[reportMissingImports]
        from vllm.v1.engine.async_llm import AsyncLLM  # pyright: ignore[reportMissingImports]

        arguments = self._arguments(folder, rank)
        # Compiling takes minutes on a CPU, and vLLM compiles single functions even where it is told to be eager.
        eager = {"TORCH_COMPILE_DISABLE": "1"} if arguments["enforce_eager"] else {}
        with _child_environment(**CHILD_ENVIRONMENT, **eager):
            config = AsyncEngineArgs(**arguments).create_engine_config()
            self.uses_token_sampler = not getattr(config, "use_v2_model_runner", False)
            if self.uses_token_sampler:
                config.model_config.logits_processors = ["selftaught.engines.vllm.worker:SeededLogitsProcessor"]
                config.scheduler_config.async_scheduling = False  # a choice needs to know how many went before
            self.llm = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        self.max_context, self._lora_rank = self.llm.model_config.max_model_len, rank

    def _arguments(self, folder: Path, rank: int) -> dict[str, Any]:
        from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

        from selftaught.machine.device import pick_dtype

        cpu, own = current_platform.is_cpu(), self._config
        cache = DEFAULT_CPU_CACHE_GIB if cpu and own.cache_gib is None else own.cache_gib
        made: dict[str, Any] = {
            "model": str(folder), "load_format": "safetensors", "use_tqdm_on_load": False,
            "skip_tokenizer_init": True, "generation_config": "vllm",  # tokenized here
            "dtype": str(pick_dtype(own.dtype, "cpu" if cpu else "cuda")).removeprefix("torch."),
            "max_num_seqs": own.max_batch_size, "max_model_len": -1, "max_logprobs": -1, "logprobs_mode": "raw_logprobs",
            "enforce_eager": cpu, "worker_extension_cls": "selftaught.engines.vllm.worker.WeightReplacement",
        }  # fmt: skip
        if cache is not None:
            made["kv_cache_memory_bytes"] = int(cache * 2**30)
        if rank:
            made |= {"enable_lora": True, "max_lora_rank": rank}
            # On a CPU, vLLM lays what is in the last place over whatever has no adapter: it stays empty, and so zero.
            places = own.max_loras + cpu
            made |= {"max_loras": places, "max_cpu_loras": places}
        return made | dict(own.engine_args)

    def stop(self) -> None:
        """End vLLM's processes, if they run; all that they held is forgotten."""
        llm, self.llm, self._base, self._layout = self.llm, None, None, None
        self._loras.clear()
        if llm is not None:
            with suppress(Exception):  # whatever is left of it
                llm.shutdown()
        if self._merged_folder:
            self._merged_folder.cleanup()
            self._merged_folder = None


def check_installed() -> None:
    """Get ready to import vLLM.

    Raises:
        BadInput: it is not installed, or does not run here.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if (os.cpu_count() or 1) <= SMALL_CPU_COUNT:
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    try:
        import vllm.v1.engine.async_llm  # noqa: F401 # pyright: ignore[reportMissingImports]
    except ImportError as error:
        missing = error.name is not None and error.name.split(".")[0] == "vllm"
        what = "it is not installed" if missing else f"it cannot be imported ({error})"
        raise BadInput(what, where="vLLM", fix=INSTALL_FIX) from None


def weight_layout(folder: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """What must be alike for weights to take each other's place: configuration, and the shape of each tensor.

    Raises:
        Exception: of many kinds, where the files cannot be read.
    """
    from safetensors import safe_open

    from selftaught.models.load import read_config

    config = {name: value for name, value in read_config(folder).items() if name not in IGNORED_CONFIG_FIELDS}
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:  # pyright: ignore[reportPrivateImportUsage]
            shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    return config, shapes


def _merged(policy: Policy) -> TemporaryDirectory[str]:
    """A folder with the whole weights that a policy's adapters and their base make together."""
    import torch

    from selftaught.models.load import load_model

    scratch = TemporaryDirectory(prefix="selftaught-merged-")
    load_model(policy, torch.float32).save_pretrained(scratch.name)
    return scratch


@contextmanager
def _child_environment(**variables: str) -> Iterator[None]:
    """Inside, new processes get more environment variables, and do not run the main script again.

    They would, where it has no `if __name__ == "__main__"`: a new process imports the script of its parent.
    """
    script, before = sys.modules["__main__"], {name: os.environ.get(name) for name in variables}
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ.update({name: value for name, value in variables.items() if before[name] is None})
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        for name in variables:
            if before[name] is None:
                del os.environ[name]
