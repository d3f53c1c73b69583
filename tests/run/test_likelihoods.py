"""Token distributions and likelihoods in solvers: what they are, what they cost, and that they are paid once."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from selftaught.console import Console
from selftaught.engines import Capabilities, RequestRefused, ScriptedEngine
from selftaught.engines.local.engine import LocalEngine
from selftaught.errors import BadInput
from selftaught.models import Policy
from selftaught.records import Attempt, Problem, Prompt, Solution, as_prompt, make_problem
from selftaught.run.ask import Ask
from selftaught.run.likelihoods import choose, softmax
from selftaught.run.run import Run
from selftaught.samples import Likelihood
from selftaught.tasks import Task
from selftaught.testing import assert_survives, make_run, make_task, solve_sum
from tiny_models import prompt_ids, reference, teacher_forced

OPTIONS = ("yes", "no", "no, not at all")
NATS = {"yes": [-1.0], "no": [-0.5, -0.5], "no, not at all": [-0.1] * 7}


def scripted(policy: Policy, prompt: Prompt, text: str) -> Sequence[float]:
    """Known log-probabilities; after an empty prompt, "yes" is improbable."""
    del policy
    return [-4.0] if not prompt[-1].content and text == "yes" else NATS[text]


def solved(folder: Path, solver: Callable[..., Any], engine: Any = None) -> tuple[Any, Run]:
    with make_run(folder, engine=engine or ScriptedEngine(solve_sum, likelihood=scripted)) as run:
        (made,) = run.search(run.base, run.task.train[:1], solver=solver)
        return made.data, run


@pytest.mark.parametrize("spoiled", ['{"logprobs": "m!", "prompt_tokens": 1}', '{"prompt_tokens": 1}', "[]", "7"])
def test_a_damaged_likelihood_is_one_line(tmp_path: Path, spoiled: str) -> None:
    async def choosing(ask: Ask, problem: Problem) -> Solution:
        return Solution(await ask(problem.prompt), (await ask.choose("Is it?", OPTIONS)).best)

    _, run = solved(tmp_path, choosing)
    with closing(sqlite3.connect(run.folder / "journal.sqlite")) as file, file:
        file.execute("UPDATE effects SET payload = ? WHERE kind = 'loglikelihood'", (spoiled,))
    with pytest.raises(BadInput, match=r"a damaged journal, effect [0-9a-f]+ is no (likelihood|reading) \("):
        solved(tmp_path, choosing)


def test_options_are_as_probable_as_their_texts(tmp_path: Path) -> None:
    async def choosing(ask: Ask, problem: Problem) -> Solution:
        found = [await ask.choose("Is it?", OPTIONS, normalize=n) for n in ("none", "tokens", "bytes", "pmi")]
        assert [one.best for one in found] == ["no, not at all", "no, not at all", "no, not at all", "yes"]
        assert found[0]["yes"] == found[0].probabilities[0]
        assert not found[0].failed
        return Solution(await ask(problem.prompt), [one.probabilities for one in found])

    data, run = solved(tmp_path, choosing)
    by_hand = [(-1.0, -1.0, -0.7), (-1.0, -0.5, -0.1), (-1 / 3, -1 / 2, -0.7 / 14), (3.0, 0.0, 0.0)]
    for probabilities, logits in zip(data, by_hand, strict=True):
        weights = [math.exp(value) for value in logits]
        assert probabilities == pytest.approx([weight / sum(weights) for weight in weights])
        assert sum(probabilities) == pytest.approx(1)
    read = sum(len(NATS[option]) + len("Is it?") for option in OPTIONS) + sum(map(len, NATS.values()))
    assert run.ledger.usage.prompt == read + len(run.task.train[0].question)  # each text once, though chosen four times
    assert run.ledger.usage.judge == 0


def test_nothing_is_paid_twice_wherever_it_is_killed(tmp_path: Path) -> None:
    async def reading(ask: Ask, problem: Problem) -> Solution:
        attempt = await ask(problem.prompt, top_logprobs=2, temperature=1.0)
        more = await ask.continue_from(attempt, " So", top_logprobs=0, max_tokens=5)
        likelihood = await ask.loglikelihood(problem.prompt, "no")
        choice = await ask.choose(problem.prompt, OPTIONS)
        facts = (attempt.sample, more.sample, likelihood, choice.probabilities)
        assert more.top_logprobs == ((),) * more.num_tokens
        return Solution(attempt, repr(facts))

    def opened(name: str) -> Run:
        return make_run(tmp_path / name, engine=ScriptedEngine(solve_sum, likelihood=scripted))

    def work(run: Run) -> Any:
        made = run.search(run.base, run.task.train[:2], solver=reading)
        return [one.data for one in made], run.ledger.usage

    assert assert_survives(work, opened, every=True) == 2 * (2 + 3 + 1) + 2  # samples, readings, solution, verdict


def test_distributions_are_asked_for_and_change_no_other_key(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        (plain,) = run.attempt(run.base, run.task.train[:1])
        keys = {key for key, *_ in run.journal.effects("sample")}
        (found,) = run.attempt(run.base, run.task.train[:1], top_logprobs=3)
        (again,) = run.attempt(run.base, run.task.train[:1], solver=_asks)
        assert keys < {key for key, *_ in run.journal.effects("sample")}
    assert (plain.entropies, plain.self_certainties, plain.top_logprobs, again.top_logprobs) == ((), (), (), ())
    assert len(found.entropies) == len(found.self_certainties) == found.num_tokens
    assert [step[0] for step in found.top_logprobs] == [
        (token, round(logprob, 4)) for token, logprob in zip(found.token_ids, found.logprobs, strict=True)
    ]
    with make_run(tmp_path / "own", script=solve_sum) as run:
        (asked,) = run.attempt(run.base, run.task.train[:1], solver=_asks, top_logprobs=1)
    assert [len(step) for step in asked.top_logprobs] == [1] * asked.num_tokens


async def _asks(ask: Ask, problem: Problem) -> Attempt:
    return await ask(problem.prompt)


def test_a_distribution_of_the_scripted_engine_is_one() -> None:
    from selftaught.engines.scripted import _with_distributions
    from selftaught.samples import Sample

    sample = _with_distributions(Sample("a", (97,), (-98 / 256,)), 256)
    (step,) = sample.top_logprobs
    values = [logprob for _, logprob in step]
    assert math.fsum(map(math.exp, values)) == pytest.approx(1)
    assert sample.entropies == (pytest.approx(-math.fsum(math.exp(v) * v for v in values)),)
    assert sample.self_certainties == (pytest.approx(math.fsum(math.log(1 / 256) - v for v in values) / 256),)


REFUSAL = "engine endpoint: it (returns no token distributions|cannot score a given text).*--engine local"


class Endpoint(ScriptedEngine):
    """Knows no distributions, as an endpoint."""

    name = "endpoint"
    capabilities = Capabilities(prefix=True)


ASKING: dict[str, Callable[[Ask, Problem], Any]] = {
    "ask": lambda ask, problem: ask(problem.prompt, top_logprobs=1),
    "loglikelihood": lambda ask, problem: ask.loglikelihood(problem.prompt, "yes"),
    "choose": lambda ask, problem: ask.choose(problem.prompt, OPTIONS),
}


@pytest.mark.parametrize("what", ASKING)
def test_an_engine_without_distributions_refuses_before_anything_is_paid(tmp_path: Path, what: str) -> None:
    with make_run(tmp_path, engine=Endpoint(solve_sum)) as run:
        with pytest.raises(BadInput, match=REFUSAL):
            run.attempt(run.base, run.task.train[:1], solver=ASKING[what])
        assert run.engine.calls == 0


def test_such_an_engine_is_named_where_a_run_or_a_continuation_asks(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Endpoint(solve_sum)) as run:
        with pytest.raises(BadInput, match=REFUSAL):
            run.attempt(run.base, run.task.train[:1], top_logprobs=0)
        (attempt,) = run.attempt(run.base, run.task.train[:1])
        with pytest.raises(BadInput, match=REFUSAL):
            run.attempt(run.base, [attempt], solver=lambda ask, one: ask.continue_from(one, top_logprobs=1))
        assert run.engine.calls == 1


@pytest.mark.parametrize(
    ("options", "how", "line"),
    [
        ([], {}, "options must be non-empty texts"),
        (["a", ""], {}, "options must be non-empty texts"),
        ("ab", {}, "options must be non-empty texts"),
        (["a", "b", "a"], {}, "option 'a' is given twice.*give each option once"),
        (["a", "b"], {"normalize": "token"}, "normalize: unknown 'token'.*tokens"),
    ],
)
def test_options_that_are_none_are_refused_in_one_line(
    tmp_path: Path, options: Any, how: dict[str, Any], line: str
) -> None:
    with pytest.raises(BadInput, match=line) as caught:
        solved(tmp_path, lambda ask, problem: ask.choose(problem.prompt, options, **how))
    assert "\n" not in str(caught.value)


def test_a_count_below_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="top_logprobs must be ≥ 0, got -1"):
        solved(tmp_path, lambda ask, problem: ask(problem.prompt, top_logprobs=-1))


def test_what_the_engine_refuses_to_read_has_no_probability(tmp_path: Path) -> None:
    def refusing(policy: Policy, prompt: Prompt, text: str) -> Sequence[float]:
        if text == "no":
            raise RequestRefused("too long")
        return scripted(policy, prompt, text)

    async def choosing(ask: Ask, problem: Problem) -> Solution:
        choice = await ask.choose(problem.prompt, OPTIONS)
        assert choice.failed
        assert choice.best is None
        assert math.isnan(choice["yes"])
        assert [one.failed for one in choice.likelihoods] == [False, True, False]
        return Solution(await ask(problem.prompt), 1)

    _, run = solved(tmp_path, choosing, ScriptedEngine(solve_sum, likelihood=refusing))
    assert run.request_counts["refused"] == 1


def test_large_differences_do_not_overflow() -> None:
    assert softmax([-10_000.0, 0.0]) == (0.0, 1.0)
    assert softmax([-5000.0, -5000.0]) == (0.5, 0.5)
    assert choose(("a", "b"), [Likelihood((-1.0,)), Likelihood((-1.0,))], [], "none").best == "a"


def test_they_equal_a_forward_pass_of_transformers(tiny: Any, tmp_path: Path) -> None:
    policy = tiny("llama", seed=1)
    problem, texts = make_problem("hi", "1"), (" (A)", " (B) no", "naïve ☕")
    sampled: list[Attempt] = []

    async def reading(ask: Ask, problem: Problem) -> Solution:
        sampled.append(await ask(problem.prompt, max_tokens=6, top_logprobs=2))
        choice = await ask.choose("which?", texts)
        return Solution(sampled[0], [*choice.probabilities, *(one.total for one in choice.likelihoods)])

    task, engine = make_task(train=1), LocalEngine(dtype="float32", device="cpu")
    task = Task("one", [problem], [], [], verifier=task.verifier, kind=task.kind)
    with Run(tmp_path, model=policy, task=task, engine=engine, console=Console(quiet=True)) as run:
        ((made),) = run.search(policy, [problem], solver=reading)
    from transformers import AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(str(policy.path)), reference(policy)
    ids = prompt_ids(policy, as_prompt("which?"))
    true = [sum(teacher_forced(model, ids, tokenizer(t, add_special_tokens=False)["input_ids"])) for t in texts]
    assert made.data[3:] == pytest.approx(true, abs=1e-4)
    assert made.data[:3] == pytest.approx(softmax(true), abs=1e-4)
    assert sum(made.data[:3]) == pytest.approx(1)
    usage = 3 * len(ids) + sum(len(text.encode()) for text in texts) + len(prompt_ids(policy, problem.prompt))
    assert run.ledger.usage.prompt == usage
    _check_distributions(model, prompt_ids(policy, problem.prompt), sampled[0])


def _check_distributions(model: Any, ids: list[int], attempt: Attempt) -> None:
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([[*ids, *attempt.token_ids]])).logits[0, len(ids) - 1 : -1].double()
    logp = torch.log_softmax(logits, -1)
    assert attempt.entropies == pytest.approx((-(logp.exp() * logp).sum(-1)).tolist(), abs=1e-4)
    size = logp.shape[1]
    assert attempt.self_certainties == pytest.approx((-(size * logp.exp()).log().mean(-1)).tolist(), abs=1e-4)
    assert [[token for token, _ in step] for step in attempt.top_logprobs] == logp.topk(2, -1).indices.tolist()
