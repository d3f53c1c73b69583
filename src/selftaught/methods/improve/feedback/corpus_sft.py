"""SFT on an annotator's answers: the control of SELF."""

from selftaught import Claim, Policy, Run, Task, recipe, routines, sft

CLAIM = Claim(
    "Fine-tuning on an annotator's revisions of one's own drafts beats the model it began with.",
    baselines=("greedy",),
    options={"annotated": 256, "drafts": 4},
    champion="last",
)


@recipe(paper="2310.00533", needs=("verifier", "teacher"), claim=CLAIM)
def corpus_sft(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 1,
    annotated: int = 256,
    drafts: int = 4,
    temperature: float = 0.7,
    teacher: str = "",
) -> Policy:
    """Fine-tune the base model on answers that an annotator has corrected.

    Source: Lu et al., SELF: Self-Evolution with Language Feedback, 2310.00533, section 4, where it is the baseline that
    SELF is compared with (D_QA): the refined responses of the meta-skill corpus as plain answers, without feedback and
    revision.

    Differs from the paper: as `self`. Further rounds draw further drafts of the same problems, so that the control can
    spend as much as SELF.

    Costs `drafts` answers to an annotated problem and round, a critique and a revision of each if the annotator is a
    model, and one fine-tuning.

    Args:
        rounds: how often drafts are drawn and annotated; each round trains the base model on all of them.
        annotated: train problems that are annotated, the first ones; at most half of all, as in `self`.
        drafts: answers per problem and round.
        temperature: sampling temperature of drafts.
        teacher: model that annotates, also behind an endpoint; empty for the task's annotator, else the base model.
    """
    annotator = routines.choose_teacher(run, base, task, teacher)
    known, _ = routines.split_train(task.train, annotated, 1, len(task.train))
    examples: list[routines.CritiqueExample] = []
    for _ in run.rounds(rounds):
        drafted = run.attempt(base, known, samples=drafts, temperature=temperature)
        found = routines.annotate_drafts(run, drafted, annotator, temperature=temperature)
        examples += routines.filter_verified(found)
        run.measure(run.learn(base, sft(), routines.answer_demos(examples)))
    return run.champion
