"""The table of the suite: what each check wants, the property of base models it stands for, and where that is reported.

Sources were looked up (abstract or results) unless marked "unconfirmed". Most report a direction, not a threshold:
thresholds are this project's, of sizes that are usual on grade-school mathematics, and are never fitted to a world.
"""

from __future__ import annotations

from selftaught.worlds.kit.calibration.figures import (
    CheckSpec,
    above,
    at_least,
    at_most,
    below,
    between,
    not_above,
)

OWN = "a requirement on the instrument, not a finding about language models"

CHECKS: tuple[CheckSpec, ...] = (
    CheckSpec(
        1, "the model is its writer",
        "A language model trained long enough on a text has the text's own next-token distribution: its loss is the"
        " text's entropy.",
        OWN,
        {"KL(writer || model), nats a decision": at_most(0.03), "accuracy by skill, largest difference": at_most(0.02)},
        20,
    ),
    CheckSpec(
        2, "a vote beats greedy",
        "The majority of sampled answers is right more often than the greedy answer, by 4 to 18 points.",
        "Wang et al., 2203.11171, abstract: +17.9 on GSM8K to +3.9 on ARC-challenge",
        {"majority@16 - greedy": at_least(0.05)},
        200,
    ),
    CheckSpec(
        3, "the ladder of decoding",
        "Some sample is right far more often than the majority, which is right more often than the greedy answer, which"
        " is right more often than a sample.",
        "Brown et al., 2407.21787, abstract: majority voting plateaus while coverage grows; greedy over sample:"
        " unconfirmed",
        {
            "pass@16 - majority@16": at_least(0.05),
            "majority@16 - greedy": at_least(0.05),
            "greedy - sample": at_least(0.01),
        },
        1,
    ),
    CheckSpec(
        4, "temperature trades accuracy for diversity",
        "The hotter the sampling, the more problems some sample solves, and the fewer each sample solves; a vote is"
        " best in between.",
        "Chen et al., 2107.03374, section 3.3 (best temperature grows with k): unconfirmed",
        {
            "pass@8 at the highest - at the lowest": at_least(0.03),
            "pass@1 at the lowest - at the highest": at_least(0.03),
            "largest step against the trend": at_most(0.01),
            "inner temperatures' best majority@8 - better end's": at_least(0.0),
        },
        370,
    ),
    CheckSpec(
        5, "problems differ in difficulty",
        "Over problems the chance of a right sample is spread widely, with some nearly always and some nearly never"
        " solved.",
        "Schaeffer et al., 2502.17578 (heavy left tail of per-problem success): unconfirmed",
        {
            "SD of p(right)": at_least(0.25),
            "share below 0.1": between(0.10, 0.25),
            "share above 0.9": between(0.05, 0.20),
        },
        1,
    ),
    CheckSpec(
        6, "confidence is informative",
        "Language models mostly know what they know: vote share and P(True) are calibrated, and rank right answers over"
        " wrong ones.",
        "Kadavath et al., 2207.05221, abstract: larger models are well calibrated on their own answers; AUROC:"
        " unconfirmed",
        {
            "ECE of the vote share": at_most(0.07),
            "ECE of P(True)": at_most(0.07),
            "AUROC of P(True)": at_least(0.75),
        },
        20,
    ),
    CheckSpec(
        7, "rejection sampling helps, less each round",
        "Fine-tuning on one's own right samples raises accuracy; a second round adds less than the first.",
        "Singh et al., 2312.06585, abstract (gain); diminishing rounds: Song et al., 2412.02674",
        {
            "round 1 - start": at_least(0.08),
            "round 2 - round 1": at_least(0.0),
            "second gain / first gain": at_most(0.5),
        },
        600,
    ),
    CheckSpec(
        8, "rejection sampling sharpens",
        "Training on verified samples raises pass@1 much more than pass@k at large k: it finds what the model can"
        " already do.",
        "Yue et al., 2504.13837, abstract (RL with verified rewards)",
        {"gain in pass@1 - gain in pass@32": at_least(0.05), "gain in pass@32 / gain in pass@1": at_most(0.5)},
        1,
    ),
    CheckSpec(
        9, "majority labels help up to the vote",
        "Without labels, learning the majority's solutions brings greedy answers near the vote of many samples, not"
        " above it, and costs diversity.",
        "Huang et al., 2210.11610, abstract (gain); plateau and loss of diversity: Song et al., 2412.02674. Over rounds"
        " it passes the vote of as few samples as a round takes: Zuo et al., 2504.16084, abstract",
        {
            "greedy, last round - start": at_least(0.04),
            "greedy, last round - start's majority@64": at_most(0.0),
            "pass@8, last round - start": at_most(-0.05),
        },
        450,
    ),
    CheckSpec(
        10, "unfiltered or wrongly filtered samples do not help",
        "Learning one's own unfiltered samples again and again costs diversity and gains nothing; learning the wrong"
        " ones harms.",
        "Herel & Mikolov, 2404.02305, abstract (collapse); wrong filter: unconfirmed",
        {
            "unfiltered: distinct answers, end - start": below(0.0),
            "unfiltered: greedy, end - start": at_most(0.02),
            "unfiltered: share of runs with an alarm": at_least(0.5),
            "inverted filter: greedy, end - start": below(0.0),
        },
        600,
    ),
    CheckSpec(
        11, "blind self-correction does not help",
        "Asked to look again without feedback, models change about as many right answers to wrong as wrong to right.",
        "Huang et al., 2310.01798, abstract: no gain, at times a loss",
        {"second answer - first answer": between(-0.03, 0.01)},
        20,
    ),
    CheckSpec(
        12, "revision is as good as its critique",
        "Revision helps little by one's own critique, more by a trained critic's, and a lot by a true one.",
        "Tyen et al., 2311.08516, abstract: errors are corrected once located; trained critic: Xi et al., 2411.16579,"
        " unconfirmed",
        {
            "true critique: revised - draft": at_least(0.25),
            "true - trained critique": above(0.0),
            "trained - own critique": above(0.0),
        },
        40,
    ),
    CheckSpec(
        13, "locating mistakes can be learned",
        "Models locate mistakes badly, and a little training on located mistakes makes them much better at it.",
        "Tyen et al., 2311.08516, abstract: a small trained classifier finds mistakes better than a prompted model",
        {"F1 of the first error, trained - before": at_least(0.15)},
        1,
    ),
    CheckSpec(
        14, "search over steps pays on long problems",
        "At equal sampled tokens, beam search with a process reward model beats best-of-N where problems are hard, and"
        " does not where they are easy.",
        "Snell et al., 2408.03314, section 5.3 and figure 3, of large budgets",
        {"long: beam - best-of-N": above(0.0), "short: beam - best-of-N": not_above(0.0)},
        1100,
    ),
    CheckSpec(
        15, "preferences teach what demonstrations teach, and more",
        "Preferring right answers to the wrong steps of others raises accuracy at least as much as imitating the same"
        " right ones.",
        "Setlur et al., 2406.14532, abstract (consistent gains over positive data alone, if credit is given by step)",
        {"preferences - SFT on the chosen answers": at_least(0.0)},
        240,
    ),
    CheckSpec(
        16, "what is learned transfers to longer problems",
        "Training on problems of one difficulty raises accuracy on harder ones of the same kind.",
        "Singh et al., 2312.06585 (held-out benchmarks), and Sun et al., 2403.09472 (easy to hard): unconfirmed",
        {"gain on longer problems / gain on trained ones": at_least(0.5)},
        1,
    ),
    CheckSpec(
        17, "checking is easier than solving, unless it takes the same knowledge",
        "Selecting by the model's own judgment raises accuracy on problems that can be checked, and not where checking"
        " takes the same look-up as solving.",
        "Song et al., 2412.02674 (generation-verification gap; none on factual tasks): gap looked up, factual"
        " unconfirmed",
        {"checkable: accepted - all": above(0.0), "look-up only: accepted - all": between(-0.03, 0.03)},
        10,
    ),
    CheckSpec(
        18, "a forced second look fixes more than it spoils",
        "A model whose text has second looks fixes more of its wrong steps than it spoils right ones when made to look"
        " again; one whose text has none does not.",
        "Muennighoff et al., 2501.19393 (budget forcing by 'Wait'), and Gandhi et al., 2503.01307: unconfirmed",
        {"fixed of wrong - spoiled of right": above(0.0), "without it in the text: fixed - spoiled": not_above(0.0)},
        20,
    ),
    CheckSpec(
        19, "demonstrations in the prompt help",
        "Worked examples in the prompt that show a good way raise accuracy.",
        "Brown et al., 2005.14165, and Wei et al., 2201.11903: unconfirmed",
        {"with demonstrations - without": at_least(0.05)},
        20,
    ),
    CheckSpec(
        20, "a method does not beat itself",
        "The statistics of claims call the same system against itself 'reproduced' in at most one of twenty cases.",
        OWN,
        {"share of A/A comparisons called reproduced": at_most(0.05)},
        5,
    ),
)  # fmt: skip

SMOKE_CHECKS = (1, 2, 3, 5, 11, 20)
"""Checks of the smoke tier."""


def spec(number: int) -> CheckSpec:
    """The check of a number."""
    return CHECKS[number - 1]
