"""LMSI: self-improvement without labels, from the majority's rationales."""

from selftaught import Claim, Demo, Policy, Run, Task, Vote, by_problem, recipe, sft, vote
from selftaught.curate.keep import finished, source_ids

DIRECT = "{question}\nGive only the answer, without steps."

CLAIM = Claim(
    "Without labels, learning the rationales that agree with the majority of one's own answers raises greedy accuracy.",
    baselines=("greedy",),
    options={"samples": 8},
    ablations={"one format": {"mixed_formats": False}, "half of the votes": {"min_confidence": 0.5}},
)


@recipe(paper="2210.11610", claim=CLAIM)
def lmsi(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 1,
    samples: int = 32,
    temperature: float = 0.7,
    later_temperature: float = 1.2,
    min_confidence: float = 0.0,
    mixed_formats: bool = True,
) -> Policy:
    """Fine-tune on the rationales that agree with the majority of the model's own answers; needs no labels.

    Source: Huang et al., Large Language Models Can Self-Improve, 2210.11610, section 3. Many rationales
    are sampled per question, their answers vote, and every rationale that reaches the winning answer is
    a target, in more than one prompt and answer format.

    Differs from the paper: two formats (with steps; the answer alone) instead of four, since tasks bring
    no few-shot examples; questions are the task's training problems, none are generated. The paper
    trains once; further rounds sample from the last policy and train the base model again.

    Costs `rounds * samples` answers a problem, and one fine-tuning a round. Verdicts are not used.

    Args:
        rounds: rounds of labeling, training and measuring.
        samples: rationales per question.
        temperature: sampling temperature for the base model.
        later_temperature: sampling temperature for trained policies, from round 2.
        min_confidence: smallest share of the votes that the winning answer must have, 0..1.
        mixed_formats: also train on the answer alone, under a prompt that asks for no steps.
    """
    policy = base
    for number in run.rounds(rounds):
        current = temperature if number == 1 else later_temperature
        tried = run.attempt(policy, task.train, samples=samples, temperature=current)
        votes = [won for group in by_problem(tried).values() if (won := vote(group)) and won.share >= min_confidence]
        demos = [Demo(a.problem.prompt, a.text, attempts=source_ids(a)) for won in votes for a in finished(won.voters)]
        policy = run.learn(base, sft(), demos + [direct_demo(won, task) for won in votes if mixed_formats])
        run.measure(policy)
    return run.champion


def direct_demo(won: Vote, task: Task) -> Demo:
    """The majority's answer alone, under a prompt that asks for no steps."""
    prompt = task.turn(won.voters[0].problem.prompt, "direct", DIRECT)
    return Demo(prompt, f"Answer: {won.answer}", attempts=tuple(a.id for a in won.voters))
