"""Auto-CoT: demonstrations that the model writes itself, one for each cluster of questions."""

from typing import Literal

from selftaught import Attempt, Baseline, Claim, Demonstration, Notes, Policy, Run, Task, recipe
from selftaught.curate import cluster, random_groups

CLAIM = Claim(
    "Rationales that the model writes itself for one question of each cluster, shown as demonstrations, beat its"
    " zero-shot answers, and beat those for random questions.",
    baselines=("greedy", Baseline("random questions", options={"selection": "random"})),
    options={"clusters": 2},
    ablations={"any rationale": {"max_steps": 1000}},
)


@recipe(paper="2210.03493", claim=CLAIM)
def auto_cot(
    run: Run,
    base: Policy,
    task: Task,
    *,
    clusters: int = 8,
    max_words: int = 60,
    max_steps: int = 5,
    selection: Literal["clusters", "random"] = "clusters",
) -> Policy:
    """Give the model its own rationales to one question of each cluster as demonstrations; trains no weights.

    Source: Zhang et al., Automatic Chain of Thought Prompting in Large Language Models, 2210.03493, section 4,
    Algorithms 1 and 2. Questions are clustered; in each cluster, from its center outward, the first short question
    whose zero-shot rationale is short too and reaches an answer becomes a demonstration.

    Differs from the paper: questions are TF-IDF vectors, not Sentence-BERT's; they are the task's train problems,
    where the paper clusters those of the test set, without their answers; demonstrations are earlier turns of the
    chat; the task's own prompt asks for steps, in place of "Let's think step by step". The demonstrations must pass
    the gate on dev to be used. The streaming variant (section 6) is left out.

    Costs one greedy answer a cluster, more where rationales are refused, and the demonstrations as prompt tokens of
    each answer. Verdicts are not used.

    Args:
        clusters: clusters of questions, with a demonstration each (k in the paper).
        max_words: words of a demonstrated question, at most.
        max_steps: steps of a demonstrated rationale, at most, besides the line with the answer.
        selection: "clusters", or "random": groups of random questions (Random-Q-CoT in the paper).
    """

    def accepted(attempt: Attempt) -> bool:
        steps = [step for step in task.steps.split(attempt.text) if not task.steps.finishes(step)]
        return attempt.answer is not None and not attempt.truncated and len(steps) <= max_steps

    for _ in run.rounds(1):
        short = [problem for problem in task.train if len(problem.question.split()) <= max_words]
        groups = (
            cluster([p.question for p in short], clusters)
            if selection == "clusters"
            else random_groups(len(short), clusters)
        )
        shown: dict[int, Attempt] = {}
        for place in range(max(map(len, groups), default=0)):
            waiting = [i for i, group in enumerate(groups) if i not in shown and place < len(group)]
            tried = run.attempt(base, [short[groups[i][place]] for i in waiting], temperature=0.0) if waiting else []
            shown |= {i: attempt for i, attempt in zip(waiting, tried, strict=True) if accepted(attempt)}
        found = [shown[i] for i in sorted(shown)]
        notes = Notes(demonstrations=tuple(map(Demonstration.of, found)))
        run.measure(run.write_notes(base, notes, sources=found) if found else base)
    return run.champion
