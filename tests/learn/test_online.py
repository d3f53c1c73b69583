"""Learning online: it raises what is rewarded, resumes exactly, skips what agrees, and anchors turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from learn_models import WORDS, demos, make_policy, weights

from selftaught.console import Console
from selftaught.engines import Sampling
from selftaught.engines.local.engine import LocalEngine
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import ExtractedAnswer, right_or_wrong
from selftaught.learn import TrainConfig
from selftaught.learn.learner import OPTIMIZER_FOLDER, train_policy
from selftaught.learn.objectives import grpo, reinforce, sft
from selftaught.learn.online.importance import behavior_logprobs
from selftaught.learn.online.rollouts import CreditAssignment, Rollout
from selftaught.models import Policy
from selftaught.records import Attempt, Feedback, Message, Problem, TokenAdvantages, make_problem
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Kind, Task

GOOD = frozenset(WORDS[: len(WORDS) // 2])  # a random model says one of these about half the time
PROBLEMS = [make_problem(text) for text in ("what is one", "how red is the cat", "what is two plus two", "how")]
HOW = {"learning_rate": 1e-2, "precision": "float32", "batch_size": 2, "warmup_ratio": 0.0, "checkpoint_seconds": 0.0}


class Wanted:
    """Right where the first word is a good one."""

    version = "wanted"
    needs_reference = False

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        del problem, reference
        return right_or_wrong((answer.text.split() or [""])[0] in GOOD, self.version)

    decide = judge

    def close(self) -> None:
        """Nothing to stop."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("base"), spread=0.1)


def make_run(folder: Path, base: Any, seed: int = 0, *, tokens: int = 2, engine: Any = None) -> Run:
    task = Task("words", PROBLEMS, [make_problem("dog")], [], verifier=Wanted(), kind=Kind.TEXT)
    how = Settings(seed=seed, sampling=Sampling(max_tokens=tokens), training=TrainConfig())
    engine = engine or LocalEngine(dtype="float32", device="cpu", max_batch_size=16)
    return Run(folder, model=base, task=task, engine=engine, settings=how, console=Console(quiet=True))


def steps_of(run: Run) -> list[dict[str, Any]]:
    return [facts for _, _, facts, _ in run.journal.effects("online")]


async def two_turns(ask, problem):
    first = await ask(problem.prompt)
    again = (*problem.prompt, Message("assistant", first.text), Message("user", "what"))
    return await ask(again, role="revise", parent=first)


two_turns.__dict__["id"] = "two_turns"  # whichever file it moves to, its samples stay the same


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_raises_the_reward_and_journals_every_step(base, tmp_path, seed):
    with make_run(tmp_path, base, seed) as run:
        policy = run.learn_online(run.base, run.task.train, objective=grpo(kl_coef=0.01), steps=8, samples=16, **HOW)
        told = steps_of(run)
        first, last = (sum(facts["right"] for facts in some) / 2 for some in (told[:2], told[-2:]))
        assert last > first + 0.2
        assert policy.base == run.base
        usual = {
            "reward",
            "right",
            "length",
            "entropy",
            "clip_fraction",
            "kl",
            "kl_old",
            "grad_norm",
            "loss",
            "staleness",
        }
        assert usual <= told[0].keys()
        assert [facts["step"] for facts in told] == list(range(1, 9))
        assert told[0]["kl"]["1"] == pytest.approx(0, abs=1e-6)
        assert told[-1]["kl"]["1"] > 1e-4
        assert run.ledger.usage.trained == sum(facts["tokens"] for facts in told) > 0
        spent = run.ledger.usage
    with make_run(tmp_path, base, seed) as run:  # a rerun pays nothing and comes to the same
        assert (
            run.learn_online(run.base, run.task.train, objective=grpo(kl_coef=0.01), steps=8, samples=16, **HOW)
            == policy
        )
        assert run.ledger.usage == spent
        assert run.engine.busy_seconds == 0


def test_the_sign_of_the_advantage_decides(base, tmp_path):
    with make_run(tmp_path, base) as run:
        run.learn_online(
            run.base,
            run.task.train,
            credit=CreditAssignment(lambda r: -float(r.attempt.right)),
            steps=6,
            samples=16,
            **HOW,
        )
        told = steps_of(run)
    assert told[-1]["right"] < told[0]["right"] - 0.1


def moments(policy: Policy) -> dict[str, Any]:
    return weights(policy.path / OPTIMIZER_FOLDER)


def taught(base: Policy, folder: Path) -> Policy:
    """A policy that was left with its optimiser's state."""
    return train_policy(
        base,
        sft(),
        demos(),
        TrainConfig(precision="float32", epochs=1, keep_optimizer_state=True),
        seed=0,
        folder=folder,
    )


@pytest.mark.parametrize(("rank", "carry"), [(0, False), (4, False), (0, True)])
def test_killed_in_a_step_and_run_again_it_ends_with_the_same_weights(base, tmp_path, rank, carry):
    base = taught(base, tmp_path / "initial") if carry else base
    how = {**HOW, "lora_rank": rank, "epochs": 2, "keep_optimizer_state": carry}
    calls = 0

    class Killed(BaseException):
        """As an interrupt: nothing catches it on the way."""

    async def dies(ask, problem):
        nonlocal calls
        calls += 1
        if calls == 2 * 4 * 3 + 3:  # in the fourth step
            raise Killed
        return await ask(problem.prompt)

    async def lives(ask, problem):
        return await ask(problem.prompt)

    for rollout in (dies, lives):
        rollout.__dict__["id"] = "same"
    with pytest.raises(Killed), make_run(tmp_path / "killed", base) as run:
        run.learn_online(run.base, run.task.train, solver=dies, steps=5, samples=4, **how)
    found = []
    for folder in ("killed", "whole"):
        with make_run(tmp_path / folder, base) as run:
            policy = run.learn_online(run.base, run.task.train, solver=lives, steps=5, samples=4, **how)
            left = moments(policy) if carry else {}
            found.append((policy.version, weights(policy.path) | left, steps_of(run), run.ledger.usage))
    (version, first, told, usage), (other, second, retold, spent) = found
    assert (version, usage) == (other, spent)
    assert told == retold
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


class Ended(BaseException):
    """As an interrupt: nothing catches it on the way."""


class Mortal(LocalEngine):
    """Ends while it answers, after a number of answers."""

    def __init__(self, left: int, size: int = 16) -> None:
        super().__init__(device="cpu", max_batch_size=size, batch_invariant=True)
        self.left = left

    async def sample(self, policy, request):
        found = await super().sample(policy, request)
        self.left -= 1
        if self.left < 0:
            raise Ended
        return found


def test_ended_while_it_samples_a_batch_invariant_training_is_the_same_run(base, tmp_path):
    """What is still to be sampled of a step is then sampled in other company."""
    how = {**HOW, "learning_rate": 1e-3, "checkpoint_seconds": 3600.0}

    def trained(folder, left=10**9, size=16):
        with make_run(tmp_path / folder, base, tokens=24, engine=Mortal(left, size)) as run:
            policy = run.learn_online(run.base, run.task.train, steps=4, samples=8, **how)
            return run.journal.digest(), weights(policy.path)

    digest, first = trained("whole")
    for left in (5, 34, 10):  # answers until the process ends, in the first step, the third, and the fourth
        with pytest.raises(Ended):
            trained("ended", left)
    again, second = trained("ended", size=7)
    assert again == digest
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_with_the_state_carried_two_trainings_are_one(base, tmp_path):
    """On rollouts that the weights alone decide: greedy ones, each token of which is to be made likelier."""

    def more_of_it(rollouts: Sequence[Rollout]) -> list[TokenAdvantages]:
        return [TokenAdvantages(one.attempt, (1.0,) * one.attempt.num_tokens) for one in rollouts]

    with make_run(tmp_path, base) as run:

        def train(start: Policy, steps: int, carry: bool) -> Policy:
            return run.learn_online(
                start, run.task.train, steps=steps, samples=2, keep_optimizer_state=carry, objective=reinforce(),
                credit=CreditAssignment(advantages=more_of_it, outcome_key=lambda rollout: rollout.attempt.id),
                temperature=0.0, **{**HOW, "batch_size": len(PROBLEMS), "learning_rate": 1e-3},
            )  # fmt: skip

        whole, half = train(run.base, 4, True), train(run.base, 2, True)
        carried, fresh = train(half, 2, True), train(half, 2, False)
    assert len({one.version for one in (whole, half, carried, fresh)}) == 4
    wanted, same, other = (weights(one.path) for one in (whole, carried, fresh))
    assert all(torch.allclose(same[name], wanted[name], atol=1e-5) for name in wanted)
    assert max((other[name] - wanted[name]).abs().max() for name in wanted) > 1e-4
    left, wanted = moments(carried), moments(whole)
    assert left.keys() == wanted.keys()
    assert {float(value) for name, value in left.items() if name.startswith("step.")} == {4.0}
    assert all(torch.allclose(left[name], wanted[name], rtol=1e-2, atol=1e-5) for name in wanted)
    assert not (fresh.path / OPTIMIZER_FOLDER).exists()


def test_a_state_goes_through_a_training_without_updates_and_not_into_an_adapter(base, tmp_path):
    start = taught(base, tmp_path / "initial")
    with make_run(tmp_path / "run", start) as run:
        how = {
            "steps": 1,
            "samples": 2,
            "credit": CreditAssignment(outcome_key=lambda _: "all the same"),
            "keep_optimizer_state": True,
            **HOW,
        }
        policy = run.learn_online(run.base, run.task.train, **how)
        before, after = moments(start), moments(policy)
        assert before.keys() == after.keys() != set()
        assert all(torch.equal(before[name], after[name]) for name in before)
        with pytest.raises(BadInput, match="keep_optimizer_state: each LoRA training has a new adapter"):
            run.learn_online(run.base, run.task.train, lora_rank=4, **how)
    with make_run(tmp_path / "none", base) as run:  # nothing was left, and nothing is
        first = run.learn_online(run.base, run.task.train, **how)
        assert moments(first) == {}
        assert moments(run.learn_online(first, run.task.train, **how)) == {}


def test_problems_whose_answers_agree_are_skipped_whatever_their_rewards(base, tmp_path):
    with make_run(tmp_path, base) as run:
        policy = run.learn_online(
            run.base, run.task.train, steps=2, samples=4, **HOW,
            credit=CreditAssignment(lambda r: float(len(r.attempt.text)), outcome_key=lambda _: "all the same"),
        )  # fmt: skip
        told = steps_of(run)
    assert [facts["skipped"] for facts in told] == [2, 2]
    assert [facts["updates"] for facts in told] == [0, 0]
    before, after = weights(base.path), weights(policy.path)
    assert all(torch.equal(before[name], after[name]) for name in before)


def only_anchored(rollouts: Sequence[Rollout]) -> list[TokenAdvantages]:
    """No turn is reinforced, each is anchored."""
    return [TokenAdvantages(one.attempt, (0.0,) * one.attempt.num_tokens, kl_coef=0.5) for one in rollouts]


def test_where_rollouts_agree_the_anchor_acts_if_asked_to(base, tmp_path):
    """A policy that has left the reference is drawn back to it by the KL penalty alone."""
    with make_run(tmp_path, base) as run:
        away = run.learn(run.base, sft(), demos(), epochs=8, learning_rate=1e-2, precision="float32")
        kl, versions = {}, []
        for skip in (True, False):
            credit = CreditAssignment(
                advantages=only_anchored, outcome_key=lambda _: "all the same", skip_agreeing=skip
            )  # fmt: skip
            before = len(steps_of(run))
            policy = run.learn_online(
                away, run.task.train, credit=credit, objective=reinforce(reference=base), steps=8, samples=8, **HOW
            )
            kl[skip], versions = steps_of(run)[before:], [*versions, policy.version]
    assert [facts["skipped"] for facts in kl[True]] == [2] * 8
    assert [facts["updates"] for facts in kl[True]] == [0] * 8
    assert "agreeing" not in kl[True][0]
    told = [facts["kl"]["1"] for facts in kl[False]]
    assert [facts["skipped"] for facts in kl[False]] == [0] * 8
    assert [facts["agreeing"] for facts in kl[False]] == [2] * 8
    assert told[0] > 0.1
    assert sum(told[-2:]) < 0.5 * sum(told[:2])
    assert len(set(versions)) == 2
    with pytest.raises(BadInput, match=r"skip_agreeing=False\): objectives leave out problems"):
        CreditAssignment(skip_agreeing=False)


def per_turn(first_anchor: float):
    """Credits with an anchor of its own for each turn, as SCoRe has them."""

    def credit(rollouts: list[Rollout]) -> list[TokenAdvantages]:
        made = []
        for one in rollouts:
            for place, turn in enumerate(one.turns):
                gain = 1.0 if turn.right else -1.0
                made.append(
                    TokenAdvantages(turn, (gain,) * turn.num_tokens, kl_coef=first_anchor if place == 0 else 0.0)
                )
        return made

    return credit


def test_each_turn_has_an_anchor_and_a_kl_of_its_own(base, tmp_path):
    how = {**HOW, "learning_rate": 3e-3}  # small steps: what holds then holds for each of five seeds
    moved = {}
    for anchor in (0.0001, 10.0):
        with make_run(tmp_path / f"{anchor}", base) as run:
            run.learn_online(
                run.base, run.task.train, solver=two_turns,
                credit=CreditAssignment(
                    advantages=per_turn(anchor), outcome_key=lambda r: [turn.right for turn in r.turns]
                ),
                objective=reinforce(), steps=12, samples=8, **how,
            )  # fmt: skip
            moved[anchor] = steps_of(run)[-1]["kl"]
    assert set(moved[10.0]) == {"1", "2"}
    assert moved[10.0]["1"] < 0.6 * moved[0.0001]["1"]
    assert moved[10.0]["2"] > moved[10.0]["1"]


def test_what_cannot_be_reinforced_is_one_line(base, tmp_path):
    from selftaught.engines import ScriptedEngine

    with make_run(tmp_path / "a", base) as run:
        with pytest.raises(BadInput, match="dev or test"):
            run.learn_online(run.base, run.task.dev, steps=1)
        with pytest.raises(BadInput, match="no problems"):
            run.learn_online(run.base, [], steps=1)
        with pytest.raises(BadInput, match="steps must be at least 1, got 0"):
            run.learn_online(run.base, run.task.train, steps=0)
        with pytest.raises(BadInput, match="temperature: all samples of a problem are alike at temperature 0"):
            run.learn_online(run.base, run.task.train, steps=1, temperature=0.0)
    task = Task("words", PROBLEMS, [], [], verifier=Wanted(), kind=Kind.TEXT)
    scripted = ScriptedEngine(lambda *_: "cat")
    quiet = Console(quiet=True)
    with (
        Run(tmp_path / "b", model=base, task=task, engine=scripted, console=quiet) as run,
        pytest.raises(BadInput, match="cannot sample from weights in training"),
    ):
        run.learn_online(run.base, run.task.train, steps=1, **HOW)


def test_a_note_says_where_all_problems_were_skipped(tmp_path):
    from selftaught.testing import make_run, make_task

    with make_run(tmp_path, script=lambda *_: "Answer: none", task=make_task(4, 1, 1)) as run:
        run.learn_online(run.base, run.task.train, steps=1, samples=2)
        assert "no problem had rollouts with different outcomes: nothing was learned" in run.notes


def test_a_rehearsal_asks_what_the_training_would(tmp_path):
    from selftaught.method import recipe
    from selftaught.run.dry_run import dry_run
    from selftaught.testing import make_task

    @recipe(paper="2402.03300")
    def online(run, base, task):
        """Three steps of GRPO."""
        return run.learn_online(base, task.train, steps=3, samples=4, batch_size=2)

    bill = dry_run(online, {}, make_task(), Settings())
    assert bill["requests"] == {"solve": 3 * 4 * 2}
    assert bill["trainings"] >= 1


# --- importance weights ---


@pytest.mark.parametrize(
    "how", [Sampling(temperature=0.7), Sampling(top_p=0.6), Sampling(top_k=3), Sampling(1.5, 0.8, 5), Sampling(0.0)]
)
def test_the_samplers_probabilities_are_those_that_tokens_are_drawn_with(how):
    from selftaught.engines.sampler import sample_tokens

    torch.manual_seed(0)
    logits = 2 * torch.randn(1, 9).expand(4000, 9)
    drawn, _ = sample_tokens(logits, [how] * 4000, torch.rand(4000).tolist())
    told = behavior_logprobs(logits[:9], torch.arange(9), how).exp()
    shares = torch.bincount(drawn, minlength=9) / 4000
    seen = shares > 0
    assert torch.allclose(told[seen], shares[seen], atol=0.03)
    assert told[seen].sum() == pytest.approx(1.0, abs=2e-3)


def test_weighted_by_them_samples_tell_the_policys_own_mean():
    from selftaught.engines.sampler import sample_tokens

    torch.manual_seed(0)
    logits, gain = torch.randn(1, 9).expand(20_000, 9), torch.randn(9)
    for how in (Sampling(temperature=0.7), Sampling(temperature=1.4)):
        drawn, logprobs = sample_tokens(logits, [how] * 20_000, torch.rand(20_000).tolist())
        ratio = (logprobs - behavior_logprobs(logits, drawn, how)).exp()
        true = float((logits[0].softmax(-1) * gain).sum())
        assert float((ratio * gain[drawn]).mean()) == pytest.approx(true, abs=0.015)
        assert abs(float(gain[drawn].mean()) - true) > 0.03


def test_rollouts_at_a_temperature_are_weighed_and_plain_ones_are_not(base, tmp_path):
    from selftaught.learn.objectives import Row
    from selftaught.learn.online.importance import importance_weights
    from selftaught.models.load import load_model

    model = load_model(base, torch.float32)
    with make_run(tmp_path, base) as run:
        tried: list[Attempt] = run.attempt(run.base, run.task.train, samples=2, temperature=1.0)
        hot = run.attempt(run.base, run.task.train, samples=2, temperature=2.0)
    from selftaught.models import ChatTokenizer

    tokenizer = ChatTokenizer(base.weights)
    for attempts, how in ((tried, Sampling()), (hot, Sampling(temperature=2.0))):
        rows = [Row(tuple(tokenizer.encode_prompt(a.prompt)), a.token_ids) for a in attempts]
        told = importance_weights(model, rows, [how] * len(rows), [a.logprobs for a in attempts], max_weight=2.0)
        for attempt, (now, _) in zip(attempts, told, strict=True):
            assert now == pytest.approx(attempt.logprobs, abs=1e-4)
        ratios = [w for _, each in told for w in each]
        if how.temperature == 1:
            assert ratios == pytest.approx([1.0] * len(ratios), abs=1e-3)
        else:
            assert max(abs(w - 1) for w in ratios) > 0.02
            assert max(ratios) <= 2.0


def test_a_plan_names_what_it_is_made_of(base):
    from selftaught.learn.online.config import OnlineConfig

    plan = OnlineConfig(grpo(), TrainConfig(), 5, 4, CreditAssignment(), 2.0, "named", 0)
    others = [replace(plan, **change) for change in (
        {"steps": 6}, {"samples": 5}, {"max_importance_weight": 3.0}, {"rollout_key": "other"}, {"seed": 1},
        {"objective": grpo(kl_coef=0.1)}, {"max_gen_batches": 2}, {"reference_decay": 0.9},
        {"training": TrainConfig(batch_size=3)}, {"training": TrainConfig(keep_optimizer_state=True)})]  # fmt: skip
    assert len({one.version(base, PROBLEMS) for one in (plan, *others)}) == len(others) + 1
    size = min(plan.training.batch_size, len(PROBLEMS))
    asked = [problem.id for step in range(3) for problem in plan.problems_of(PROBLEMS, step)]
    assert len(asked) == 3 * size
    assert all(asked.count(problem.id) == 3 for problem in PROBLEMS)
