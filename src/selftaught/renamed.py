"""Names that a user may remember from an older version or another tool, and what they are called here.

A message about an unknown option suggests the first of the new names that is known where the old one was used. To add
a name: one line, the old name without dashes and with underscores. Command-line flags, options of methods, and fields
of `Sampling` and `TrainConfig` share the table.
"""

from __future__ import annotations

RENAMED: dict[str, tuple[str, ...]] = {
    # command line
    "heat": ("temperature",),
    "rows": ("max_batch_size",),
    "served": ("served_model_name",),
    "spend": ("max_cost",),
    "tokens": ("token_budget",),
    "batch": ("batch_size", "max_batch_size"),
    # training
    "micro_tokens": ("max_tokens_per_pass",),
    "checkpointing": ("gradient_checkpointing",),
    "warmup": ("warmup_ratio",),
    "cooldown": ("decay_ratio",),
    "plateau": ("constant_lr_ratio",),
    "clip": ("max_grad_norm",),
    "carry": ("keep_optimizer_state",),
    # methods
    "pace": ("lr_scale",),
    "kl": ("kl_coef",),
    "coolest": ("min_temperature",),
    "hottest": ("max_temperature",),
    "temperatures": ("num_temperatures",),
    "tokens_per_problem": ("max_tokens",),
    "budget": ("token_budget", "max_tokens"),
    "first": ("initial_budget",),
    "growth": ("growth_factor",),
    "most": ("max_pairs",),
    "checks": ("rollouts_per_critique",),
    "pinned": ("stage1_rounds",),
    "strong": ("stage1_kl_coef",),
    "offline": ("offline_fraction",),
    "process": ("step_reward",),
    "learns": ("data",),
    "pick": ("aggregation",),
    "form": ("mode",),
    "refined": ("self_refine",),
    "filtered": ("self_filter",),
    "self_evaluation": ("self_eval",),
    "trees": ("problems",),
    "step_tokens": ("max_step_tokens",),
    "smoothing": ("visit_smoothing",),
    "doubt": ("recheck_finished",),
    "confidence": ("min_confidence",),
    "direct": ("mixed_formats",),
    # other tools
    "lr": ("learning_rate",),
    "n": ("attempts", "samples"),
    "num_samples": ("samples", "attempts"),
    "num_generations": ("samples", "attempts"),
    "num_return_sequences": ("samples", "attempts"),
    "samples": ("attempts",),
    "max_num_seqs": ("max_batch_size",),
    "batch_size": ("max_batch_size",),
    "per_device_train_batch_size": ("batch_size",),
    "num_train_epochs": ("epochs",),
    "beta": ("kl_coef",),
    "max_new_tokens": ("max_tokens",),
    "max_completion_tokens": ("max_tokens",),
    "num_threads": ("threads",),
    "method": ("solver",),
    "limit": ("test",),
    "output": ("out",),
    "output_dir": ("out",),
    "rank": ("lora_rank",),
}
