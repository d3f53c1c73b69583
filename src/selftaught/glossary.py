"""The options that methods share: one name, one meaning, one unit.

A method's option is one of these, or a symbol of its own paper and says so in its help ("n* in the paper").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """An option that methods share.

    Attributes:
        meaning: what it sets.
        unit: of its value.
        quick: the value to use in quick runs where the default is larger; None leaves the default.
    """

    meaning: str
    unit: str
    quick: int | None = None


SHARE, TOKENS, COUNT, FACTOR, SWITCH = "share, 0..1", "tokens", "count", "factor", "on or off"

GLOSSARY: dict[str, Term] = {
    # how long
    "rounds": Term("rounds of a recipe: sample, train, measure", COUNT, quick=2),
    "steps": Term("optimizer or rollout steps per round", COUNT, quick=1),
    "step_growth": Term("ratio of a round's optimizer steps to those of the round before", FACTOR),
    "epochs": Term("passes over a round's training records", COUNT),
    "batch_size": Term("train problems per optimizer or rollout step", COUNT),
    "turns": Term("critiques and revisions of one answer, at most", COUNT, quick=2),
    "iterations": Term("iterations of a search from each root", COUNT, quick=12),
    # sampling
    "samples": Term("answers sampled per problem (and round or step)", COUNT, quick=3),
    "judgments": Term("judgments sampled per answer", COUNT, quick=1),
    "comparisons": Term("other answers in view when one is judged", COUNT),
    "problems": Term("train problems used per round", COUNT),
    "temperature": Term("sampling temperature", "0 is greedy"),
    "later_temperature": Term("sampling temperature from round 2", "0 is greedy"),
    "min_temperature": Term("lowest temperature tried", "0 is greedy"),
    "max_temperature": Term("highest temperature tried", "0 is greedy"),
    "num_temperatures": Term("temperatures tried between the lowest and the highest", COUNT, quick=2),
    "top_k": Term("sample among the k most probable tokens", "count; 0 for all"),
    "probe": Term("train problems on which settings are tuned or a critic is measured", COUNT, quick=2),
    "annotated": Term("train problems that an annotator writes about", "count; 0 for all"),
    "initial_budget": Term("tokens before the first intervention in an answer", TOKENS),
    "growth_factor": Term("ratio of each token budget to the one before", FACTOR),
    "max_tokens": Term("tokens generated for one answer, at most", TOKENS),
    "max_chain_tokens": Term("tokens of one chain of continued answers, at most", TOKENS),
    "max_step_tokens": Term("tokens of one reasoning step, at most", TOKENS),
    "width": Term("steps sampled at each node of a search tree", COUNT),
    "depth": Term("steps at which a search tree branches", COUNT),
    # selection and combination
    "target": Term("right answers wanted per problem (n* of B-STaR)", COUNT),
    "per_problem": Term("records kept per problem, at most", "count; 0 for all"),
    "selected": Term("answers trained on per problem, on average", COUNT),
    "tune_samples": Term("choose the number of answers per problem each round", SWITCH),
    "correct_trees": Term("train only on search trees whose final answer is right", SWITCH),
    "max_pairs": Term("preference pairs trained on per round, at most", COUNT),
    "threshold": Term("reward above which an answer is trained on", "reward"),
    "min_confidence": Term("share of the votes that the winning answer must have", SHARE),
    "min_success_rate": Term("share of a critique's revisions that must be right", SHARE),
    "candidates": Term("answers among which one is chosen (N of best-of-N)", COUNT, quick=3),
    "voters": Term("best answers that vote on the final one", COUNT),
    "reward_model": Term("policy whose value head scores answers", "a policy, or its folder; empty for none other"),
    "hard_threshold": Term("a problem is hard if at most this share of first samples is right", SHARE),
    "clusters": Term("groups of similar questions, with a demonstration each", COUNT, quick=2),
    "max_words": Term("words of a question, at most", COUNT),
    "max_steps": Term("steps of an answer, at most", COUNT),
    "selection": Term("which questions are chosen", "a choice"),
    "aggregation": Term("how several answers are combined into one", "a choice"),
    "feedback": Term("what the model reads of its answer before it revises", "a choice"),
    "mode": Term("how a solver arranges its calls", "a choice"),
    "data": Term("which samples are trained on", "a choice"),
    "step_reward": Term("who judges the steps of an answer", "a choice"),
    "step_solutions": Term("solutions per problem whose steps are labeled by rollouts", COUNT, quick=1),
    "step_rollouts": Term("continuations sampled from each step to label it", COUNT, quick=1),
    # critique and revision
    "drafts": Term("answers per problem that a critique corpus is made of", COUNT),
    "critiques": Term("critiques per draft", COUNT, quick=1),
    "rollouts_per_critique": Term("revisions per critique, to estimate its value", COUNT, quick=1),
    "repairs": Term("failed answers critiqued and revised per problem, at most", COUNT, quick=1),
    "teacher": Term("another model that writes training data", "a model; empty for the task's annotator or the base"),
    "critic": Term("policy that writes critiques", "a policy folder; empty for the solving policy"),
    "self_refine": Term("revise answers by the policy's own critique before training", SWITCH),
    "judge": Term("judge that scores answers", "a judge's id; empty for the method's own question"),
    "frozen_judge": Term("judge with the starting model, not with the policy in training", SWITCH),
    "both_orders": Term("compare a pair in both orders; a preference that flips is a tie", SWITCH),
    "compared": Term("what a judge sees of each of two answers", "a choice"),
    "self_filter": Term("train only on answers that the policy judges right", SWITCH),
    "self_eval": Term("use the policy's own probability that an answer, or a step of it, is right", SWITCH),
    "self_talk": Term("also train on draft, critique and revision as one text", SWITCH),
    "learn_revisions": Term("also train on revisions under the prompt with draft and critique", SWITCH),
    "learn_solutions": Term("also train on the annotator's solutions", SWITCH),
    "learn_refinements": Term(
        "also train on the annotator's revisions under the prompt with draft and critique", SWITCH
    ),
    "refine_at_test": Term("also measure answering with refinement", SWITCH),
    "recheck_finished": Term("ask again for a check of answers that have ended", SWITCH),
    "reference_branch": Term("add the written solution to a search tree as a branch", SWITCH),
    "hinted": Term("show a judge the written solution of what it judges", SWITCH),
    "rationalization": Term("sample failed problems again with the answer as a hint", SWITCH),
    "mixed_formats": Term("train on more than one prompt and answer format", SWITCH),
    # training
    "lr_scale": Term("learning rate, as a multiple of the run's", FACTOR),
    "lm_coef": Term("weight of the language modeling loss beside a reward model's", FACTOR),
    "beta": Term("strength of the KL constraint of DPO and its kin (β)", "1 / nats"),
    "alpha": Term("weight of a bonus in the reward", FACTOR),
    "nll_coef": Term("weight of the chosen answer's negative log-likelihood per token in a preference loss", FACTOR),
    "advantage": Term("how the rewards of a problem's answers become advantages", "a choice"),
    "second_advantage": Term("how the rewards of second answers become advantages", "a choice"),
    "loss_aggregation": Term("how a loss is averaged over tokens and answers", "a choice"),
    "loss_type": Term("form of a preference loss", "a choice"),
    "clip_low": Term("how far below 1 the probability ratio of PPO and its kin may fall (ε)", FACTOR),
    "clip_high": Term("how far above 1 the probability ratio of PPO and its kin may rise (ε)", FACTOR),
    "source": Term("where preferred answers come from", "a choice"),
    "past_rounds": Term("earlier rounds whose pairs are trained on again", COUNT),
    "start": Term("policy that each round trains", "a choice"),
    "reference": Term("the policy that training is kept close to", "a choice"),
    "reference_decay": Term("share of itself that a moving average of the policy keeps after each step", SHARE),
    "max_gen_batches": Term("batches of problems sampled per step until one has mixed results, at most", COUNT),
    "kl_coef": Term("weight of the KL penalty to the reference policy (β)", FACTOR),
    "stage1_rounds": Term("rounds of the first training stage", COUNT),
    "stage1_kl_coef": Term("additional KL weight in the first training stage", FACTOR),
    "credit": Term("what a turn's advantage in an episode is made of", "a choice"),
    "discount": Term("discount of a reward that comes one turn later", SHARE),
    "offline_fraction": Term("share of problems that start from stored answers", SHARE),
    "visit_smoothing": Term("smooth the label of a pair by the visit counts of its steps", SWITCH),
    "restart": Term("train from the starting model each round, not from the last policy", SWITCH),
    "online": Term("sample from the current policy, not from the starting model", SWITCH),
    "then_dpo": Term("follow each fine-tuning by preference learning", SWITCH),
}
"""Option name -> what it means in every method."""


def quick_options(defaults: Iterable[tuple[str, object]]) -> dict[str, int]:
    """The options to change for a quick run: those whose default is larger than the glossary's quick value.

    Args:
        defaults: name and default of each option.
    """
    known = ((name, default, GLOSSARY[name].quick) for name, default in defaults if name in GLOSSARY)
    return {name: quick for name, default, quick in known if quick and isinstance(default, int) and default > quick}
