"""Refinement: prompts for critique, revision, judgment and step scores, parsers of the replies, and episodes."""

from selftaught.refine.perturbations import first_error_steps, perturb, self_talk
from selftaught.refine.play import answered, play
from selftaught.refine.turns import (
    answer_turn,
    criticize,
    critique_and_revise,
    error_step,
    finds_no_error,
    judge_answer,
    keeps_steps,
    parse_verdict,
    revise,
    score_steps,
    second_attempt,
    self_correction_prompt,
    step_scores,
    two_turns,
)

__all__ = [
    "answer_turn",
    "answered",
    "criticize",
    "critique_and_revise",
    "error_step",
    "finds_no_error",
    "first_error_steps",
    "judge_answer",
    "keeps_steps",
    "parse_verdict",
    "perturb",
    "play",
    "revise",
    "score_steps",
    "second_attempt",
    "self_correction_prompt",
    "self_talk",
    "step_scores",
    "two_turns",
]
