"""LMSI: self-improvement without labels, from the majority's rationales."""

from selftaught.check.claim import Claim
from selftaught.curate import Vote, by_problem, vote, whole
from selftaught.curate.keep import lineage
from selftaught.learn import sft
from selftaught.method import recipe
from selftaught.models import Policy
from selftaught.records import Demo
from selftaught.run.run import Run
from selftaught.tasks import Task

DIRECT = "{question}\nGive only the answer, without steps."

CLAIM = Claim(
    "Without labels, learning the rationales that agree with the majority of one's own answers raises greedy accuracy.",
    baselines=("greedy",),
    options={"samples": 8},
    ablations={"one format": {"direct": False}, "half of the votes": {"confidence": 0.5}},
)


@recipe(paper="2210.11610", claim=CLAIM)
def lmsi(
    run: Run, base: Policy, task: Task, *, rounds: int = 1, samples: int = 32, temperature: float = 0.7,
    later_temperature: float = 1.2, confidence: float = 0.0, direct: bool = True,
) -> Policy:  # fmt: skip
    """Fine-tune on the rationales that agree with the majority of the model's own answers; no labels.

    Source: Huang et al., Large Language Models Can Self-Improve, 2210.11610, section 3. Many rationales
    are sampled per question, their answers vote, and every rationale that reaches the winning answer is
    a target, in more than one prompt and answer format.

    Differs from the paper: two formats (with steps; the answer alone) instead of four, since tasks bring
    no few-shot examples; questions are the task's training problems, none are generated. The paper
    trains once; further rounds sample from the last policy and train the base model again.

    Costs `rounds * samples` answers a problem, and one fine-tuning a round. Verdicts are not used.

    Args:
        rounds: how often to label, learn and measure.
        samples: rationales per question.
        temperature: of sampling from the base model.
        later_temperature: of sampling from a trained policy.
        confidence: least share of the votes that the winning answer must have.
        direct: whether the answer alone is learnt too, under a prompt that asks for it.
    """
    policy = base
    for number in run.rounds(rounds):
        heat = temperature if number == 1 else later_temperature
        tried = run.attempt(policy, task.train, samples=samples, temperature=heat)
        elected = [won for group in by_problem(tried).values() if (won := vote(group)) and won.share >= confidence]
        demos = [Demo(a.problem.prompt, a.text, attempts=lineage(a)) for won in elected for a in whole(won.voters)]
        policy = run.learn(base, sft(), demos + [direct_demo(won, task) for won in elected if direct])
        run.measure(policy)
    return run.champion


def direct_demo(won: Vote, task: Task) -> Demo:
    """The elected answer alone, under a prompt that asks for no steps."""
    prompt = task.turn(won.voters[0].problem.prompt, "direct", DIRECT)
    return Demo(prompt, f"Answer: {won.answer}", attempts=tuple(a.id for a in won.voters))
