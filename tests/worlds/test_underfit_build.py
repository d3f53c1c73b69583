"""The build of the underfit model: seeded, complete, and it learns; and its command."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

from selftaught.cli.main import main
from selftaught.models.load import load_model
from selftaught.models.resolve import resolve
from selftaught.records import Verdict, make_problem
from selftaught.worlds import synthetic_worlds
from selftaught.worlds.underfit.build import (
    SHORTEST,
    BuildConfig,
    batches,
    encode,
    loss_of,
    make_model,
    optimizers,
    own_drafts,
    save,
    schedule,
    tensors,
    train_model,
)
from selftaught.worlds.underfit.curriculum import CURRICULA, conversations, corrupt
from selftaught.worlds.underfit.language import END, parse_step_marks
from selftaught.worlds.underfit.task import check_reply
from selftaught.worlds.underfit.text import (
    case_of_draft,
    draw_case,
    is_held_out,
    remark_example,
    verify_example,
)
from selftaught.worlds.underfit.tokenizer import make_tokenizer

UNDERFIT_MODEL = synthetic_worlds()["underfit"].model
SMALL = BuildConfig(width=32, layers=2, heads=2, hidden=64, conversations=(600, 200, 100), batch_tokens=1024)


def test_every_conversation_is_read_once() -> None:
    ids = make_tokenizer().get_vocab()
    text = (encode(prompt, ids) for prompt in islice(conversations(SMALL.seed), SMALL.conversations[0]))
    read = (row for batch in batches(SMALL, 0) for row in batch)
    assert Counter(map(str, read)) == Counter(map(str, text))


@pytest.mark.parametrize("drafts", [True, False])
def test_it_learns_what_the_assistant_says_and_its_end(drafts: bool) -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer.get_vocab()
    for prompt in islice(conversations(5), 50):
        tokens, weights = encode(prompt, ids, drafts)
        learnt = [(t, weight) for t, weight in zip(tokens, weights, strict=True) if weight]
        before = "".join(m.content for m in prompt[:-1] if m.role == "assistant") if drafts else ""
        assert prompt[-1].role == "assistant"
        assert tokenizer.decode([t for t, _ in learnt]) == before + prompt[-1].content + END
        last = [weight for _, weight in learnt[len(before) :]]
        assert sum(last) == pytest.approx(max(SHORTEST, len(last)))
        assert all(weight == 1 for _, weight in learnt[: len(before)])


def test_in_the_second_lesson_more_is_wrong() -> None:
    """Who only hears "right" learns to say it."""
    shares = []
    for lesson in CURRICULA[:2]:
        said = [p[-1].content for p in islice(conversations(1, lesson), 4000) if p[-1].content in ("right", "wrong")]
        shares.append(said.count("wrong") / len(said))
    assert shares[0] < 0.35 < shares[1] < 0.6


def test_a_spoilt_draft_differs_in_one_character_and_is_judged_as_it_stands() -> None:
    rng, wrong = random.Random(4), 0
    for _ in range(300):
        case = draw_case(rng)
        other = corrupt(case, rng)
        one, two = case.draft.text, other.draft.text
        assert sum(a != b for a, b in zip(one, two, strict=True)) == 1
        again = case.family.check(case.problem, case.reference, other.draft.steps, other.draft.answer)
        assert other.truth == again
        wrong += other.truth.first_error is not None
    assert wrong > 270


def test_the_third_lesson_is_on_the_model_s_own_drafts_with_the_truth_about_them() -> None:
    model = load_model(resolve("underfit"), torch.float32)
    recipe = BuildConfig(conversations=(1, 1, 40), own=2.0)
    before = [p.clone() for p in model.parameters()]
    own = own_drafts(model, recipe, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert 60 <= len(own) <= 80
    assert len({case.question for case in own}) > 60
    for case in own:
        assert not is_held_out(case.question)
        assert case.truth == check_reply(make_problem(case.question, case.reference), case.draft.text)
    assert [c.draft for c in own_drafts(model, recipe, 2)] == [c.draft for c in own]
    drafts, judged = {case.draft.text: case.right for case in own}, 0
    same = 0
    for prompt in islice(conversations(3, CURRICULA[2], own), 400):
        if prompt[-1].content in ("right", "wrong"):
            judged += 1
            same += drafts[prompt[1].content] == (prompt[-1].content == "right")
    assert judged > 60
    assert 0.8 < same / judged < 1


def test_what_is_remarked_is_the_first_wrong_step_and_what_would_be_right_there() -> None:
    question, reference = "chain 27 +38 -5", "60"
    case = case_of_draft(question, reference, "27+38=55\n55-5=50\nAnswer: 50")
    assert case is not None
    said = Counter(remark_example(case, random.Random(i))[-1].content for i in range(300))
    assert said.most_common(1)[0][0] == "step 1: 27+38=65"
    assert said["step 1: 27+38=65"] > 200
    assert case_of_draft(question, reference, "27+38=65") is None
    assert case_of_draft(question, reference, "Answer: 60") is None


def test_the_loss_is_the_weighted_mean_of_surprises() -> None:
    """Against one row at a time, without padding, by the definition."""
    model, rows = make_model(SMALL), next(batches(SMALL, 0))[:5]
    nats = total = 0.0
    with torch.no_grad():
        for ids, weights in rows:
            surprises = -model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            nats += sum(weights[i] * float(surprises[i - 1, ids[i]]) for i in range(1, len(ids)))
            total += sum(weights)
        assert float(loss_of(model, *tensors(rows))) == pytest.approx(nats / total, abs=1e-5)


def test_every_parameter_is_stepped_by_one_optimizer() -> None:
    model = make_model(SMALL)
    stepped = [id(p) for o in optimizers(model, SMALL) for g in o.param_groups for p in g["params"]]
    assert sorted(stepped) == sorted(id(p) for p in model.parameters())


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    (one, cost), (same, _), (other, _) = (
        train_model(r) for r in (SMALL, SMALL, BuildConfig(**{**vars_of(SMALL), "seed": 1}))
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert cost["loss"] < 0.8 * math.log(one.config.vocab_size)


def vars_of(recipe: BuildConfig) -> dict[str, object]:
    return {name: getattr(recipe, name) for name in BuildConfig.__slots__}


def test_the_rate_warms_up_and_comes_down() -> None:
    assert schedule(0.0) == 0
    assert schedule(0.02) == pytest.approx(1)
    assert schedule(1.0) == pytest.approx(0.05)


def test_a_saved_model_resolves(tmp_path: Path) -> None:
    model, cost = train_model(BuildConfig(**{**vars_of(SMALL), "conversations": (50, 20, 10)}))  # pyright: ignore
    save(model, tmp_path / "m", SMALL, cost)
    assert resolve(tmp_path / "m").path == tmp_path / "m"
    assert json.loads((tmp_path / "m" / "built.json").read_text())["recipe"]["width"] == 32


def test_the_shipped_model_is_small_and_says_what_it_can_do() -> None:
    assert sum(f.stat().st_size for f in UNDERFIT_MODEL.iterdir()) <= 8_000_000
    figures = {row["what"]: row["value"] for row in json.loads((UNDERFIT_MODEL / "abilities.json").read_text())}
    assert 0.3 <= figures["level 3: greedy"] <= 0.5
    assert figures["level 3: greedy"] < figures["level 3: majority@16"] < figures["level 3: pass@16"]
    assert figures["level 3: pass@16"] >= 0.8
    assert 0.65 <= figures["judge, its own drafts: accuracy, balanced"] <= 0.8
    assert 0.4 <= figures["critique: first errors found"] <= 0.6
    assert abs(figures["revise: unasked, net change"]) <= 0.05


def test_the_command_builds_and_examines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m"
    words = [
        "worlds",
        "build",
        "underfit",
        "--out",
        str(out),
        "--conversations",
        "40",
        "20",
        "10",
        "--problems",
        "7",
        "--json",
    ]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "abilities.json").read_text())
    assert {"level 5: pass@16", "judge, its own drafts: accuracy, balanced"} <= {row["what"] for row in printed}
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["biuld", "underfit"], "build"),
        (["build", "underfti"], "underfit"),
        (["build", "underfit", "--conversations", "0", "1", "1"], "too few"),
    ],
)
def test_bad_words_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worlds", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_marks_are_mostly_the_truth_about_the_steps() -> None:
    rng, same, all_ = random.Random(6), 0, 0
    for _ in range(600):
        case = draw_case(rng)
        marks = parse_step_marks(verify_example(case, rng)[-1].content)
        assert marks is not None
        assert len(marks) == len(case.truth.steps)
        same += marks == [verdict is Verdict.RIGHT for verdict in case.truth.steps]
        all_ += 1
    assert 0.8 < same / all_ < 0.98


def test_anything_but_marks_is_no_marks() -> None:
    assert parse_step_marks("++-") == [True, True, False]
    assert parse_step_marks("") == []
    assert parse_step_marks("step 1") is None
