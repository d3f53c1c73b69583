"""vLLM in processes of its own, and the weights that it holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from selftaught.engines.vllm.environment import CHILD_ENVIRONMENT, child_environment
from selftaught.engines.vllm.weights import RequiredWeights, allocated_rank, merged_weights, weight_layout
from selftaught.errors import BadInput
from selftaught.models.policy import Policy

if TYPE_CHECKING:
    from selftaught.models.chat import ChatTokenizer

DEFAULT_CPU_CACHE_GIB = 2.0  # vLLM would take a share of the machine's memory


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How vLLM is started; see `VllmEngine`."""

    dtype: str
    max_batch_size: int
    cache_gib: float | None
    max_loras: int
    engine_args: Mapping[str, Any] = field(default_factory=dict)


class VllmServer:
    """vLLM with one set of full weights and the adapters over it. For one event loop, which it blocks while it loads.

    Attributes:
        llm: vLLM's engine; None while it does not run.
        tokenizer: of the loaded weights.
        encode_prompt: its `encode_prompt`, memoized.
        max_context: maximum number of tokens of a sequence.
        uses_token_sampler: whether tokens are chosen by `worker.SeededLogitsProcessor`; else by vLLM itself.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
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

    # --- what is loaded ---

    def has_base(self, need: RequiredWeights) -> bool:
        """Whether the full weights are loaded, with room for the adapter."""
        if self.llm is None or self.llm.errored or self._base is None:
            return False
        return self._base.version == need.base.version and self._lora_rank >= need.lora_rank

    def has_weights(self, need: RequiredWeights) -> bool:
        """Whether everything that is needed is loaded."""
        return self.has_base(need) and (not need.lora_rank or need.policy.version in self._loras)

    def has_lora_slot(self, active: Container[str]) -> bool:
        """Whether one more adapter can be loaded while those of the policies in `active` stay."""
        return len(self._loras) < self._config.max_loras or any(v not in active for v in self._loras)

    def lora_request(self, need: RequiredWeights) -> Any:
        """vLLM's handle of the adapter of a loaded policy; None if it has none."""
        if not need.lora_rank:
            return None
        self._loras.move_to_end(need.policy.version)
        return self._loras[need.policy.version]

    # --- loading ---

    async def load(self, need: RequiredWeights, active: Container[str]) -> None:
        """Load what is needed; full weights only while no request is in progress.

        Args:
            active: versions of the policies with requests in progress.

        Raises:
            BadInput: it cannot be loaded. What was loaded before may be gone, but never half replaced.
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
        merged = merged_weights(need.base) if need.base.adapter else None
        try:
            await self._replace_or_restart(Path(merged.name) if merged else need.base.path, layout, need.lora_rank)
        except BaseException as error:
            self.stop()
            if merged:
                merged.cleanup()
            if not isinstance(error, Exception) or isinstance(error, BadInput):
                raise
            what = shorten(str(error), 300, placeholder=" ...")
            fix = "see its standard error (set VLLM_LOGGING_LEVEL=INFO for all of it)"
            raise BadInput(f"vLLM cannot load it ({what})", where=str(need.base.path), fix=fix) from error
        if self._merged_folder:
            self._merged_folder.cleanup()
        self._merged_folder, self._base, self._layout, self.tokenizer = merged, need.base, layout, tokenizer
        self.encode_prompt = lru_cache(1024)(tokenizer.encode_prompt)  # many samples share a prompt

    async def _replace_or_restart(self, folder: Path, layout: Any, lora_rank: int) -> None:
        if layout == self._layout and self._lora_rank >= lora_rank and self._can_replace_weights():
            await self._replace_weights(folder)
            return
        rank = max(self._lora_rank, allocated_rank(lora_rank))
        self.stop()
        self._start(folder, rank)

    def _can_replace_weights(self) -> bool:
        """Whether vLLM runs, and holds its weights as they were read."""
        if self.llm is None or self.llm.errored:
            return False
        return self.llm.model_config.quantization is None

    async def _replace_weights(self, folder: Path) -> None:
        """Replace the loaded weights with others of the same shape, and drop what was computed with them."""
        self._base = None
        self._loras.clear()  # vLLM drops them with their base
        await self.llm.collective_rpc("replace_weights", args=(str(folder),))
        await self.llm.reset_prefix_cache()

    async def _add_lora(self, need: RequiredWeights, active: Container[str]) -> None:
        from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

        if len(self._loras) >= self._config.max_loras:
            oldest = next(version for version in self._loras if version not in active)
            await self.llm.remove_lora(self._loras.pop(oldest).lora_int_id)
        self._num_loras += 1  # never reused: vLLM identifies an adapter by its number
        request = LoRARequest(need.policy.version, self._num_loras, str(need.policy.path.resolve()))
        try:
            done = await self.llm.add_lora(request)
        except Exception as error:  # its reader may raise anything
            done, why = False, shorten(str(error), 200, placeholder=" ...")
        else:
            why = "vLLM did not accept it"
        if not done:
            fix = "train or save it again, or merge adapters (VllmEngine(max_loras=0))"
            raise BadInput(f"vLLM cannot load the adapter ({why})", where=str(need.policy.path), fix=fix)
        self._loras[need.policy.version] = request

    def _start(self, folder: Path, lora_rank: int) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs  # pyright: ignore[reportMissingImports]
        from vllm.v1.engine.async_llm import AsyncLLM  # pyright: ignore[reportMissingImports]

        arguments = self._arguments(folder, lora_rank)
        # Compilation takes minutes on a CPU, and vLLM compiles single functions even with `enforce_eager`.
        eager = {"TORCH_COMPILE_DISABLE": "1"} if arguments["enforce_eager"] else {}
        with child_environment(**CHILD_ENVIRONMENT, **eager):
            config = AsyncEngineArgs(**arguments).create_engine_config()
            self.uses_token_sampler = not getattr(config, "use_v2_model_runner", False)
            if self.uses_token_sampler:
                config.model_config.logits_processors = ["selftaught.engines.vllm.worker:SeededLogitsProcessor"]
                config.scheduler_config.async_scheduling = False  # the processor counts the tokens sampled so far
            self.llm = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        self.max_context, self._lora_rank = self.llm.model_config.max_model_len, lora_rank

    def _arguments(self, folder: Path, lora_rank: int) -> dict[str, Any]:
        from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

        from selftaught.machine.device import pick_dtype

        cpu, config = current_platform.is_cpu(), self._config
        cache = DEFAULT_CPU_CACHE_GIB if cpu and config.cache_gib is None else config.cache_gib
        made: dict[str, Any] = {
            "model": str(folder),
            "load_format": "safetensors",
            "use_tqdm_on_load": False,
            "skip_tokenizer_init": True,  # prompts are tokenized here
            "generation_config": "vllm",
            "dtype": str(pick_dtype(config.dtype, "cpu" if cpu else "cuda")).removeprefix("torch."),
            "max_num_seqs": config.max_batch_size,
            "max_model_len": -1,
            "max_logprobs": -1,
            "logprobs_mode": "raw_logprobs",
            "enforce_eager": cpu,
            "worker_extension_cls": "selftaught.engines.vllm.worker.WeightReplacement",
        }
        if cache is not None:
            made["kv_cache_memory_bytes"] = int(cache * 2**30)
        if lora_rank:
            made |= {"enable_lora": True, "max_lora_rank": lora_rank}
            # On a CPU, vLLM applies the adapter in the last slot to requests without one: it stays empty, hence zero.
            slots = config.max_loras + cpu
            made |= {"max_loras": slots, "max_cpu_loras": slots}
        return made | dict(config.engine_args)

    def stop(self) -> None:
        """End vLLM's processes, if they run, and forget what they held."""
        llm, self.llm, self._base, self._layout = self.llm, None, None, None
        self._loras.clear()
        if llm is not None:
            with suppress(Exception):  # it may be partly closed
                llm.shutdown()
        if self._merged_folder:
            self._merged_folder.cleanup()
            self._merged_folder = None
