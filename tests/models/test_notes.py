"""Notes: what a policy reads before every prompt, its version, and its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from selftaught.engines.create import is_remote
from selftaught.errors import BadInput
from selftaught.models import ChatTokenizer, Demonstration, Notes, Policy, resolve
from selftaught.models.load import load_model
from selftaught.models.policy import load_policy, publish_notes
from selftaught.models.remote import remote_policy
from selftaught.records import Message, as_prompt
from tiny_models import CHATML, save_tokenizer

ALL = Notes("Be brief.", (Demonstration("1 + 1?", "2"),), ("Check twice.", "Carry the one."))
LIST = "Notes:\n- Check twice.\n- Carry the one."
ASKED = as_prompt("2 + 2?")
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


def turns(*pairs: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(*pair) for pair in pairs)


def test_everything_stands_before_the_prompt() -> None:
    wanted = turns((SYSTEM, f"Be brief.\n\n{LIST}"), (USER, "1 + 1?"), (ASSISTANT, "2"), (USER, "2 + 2?"))
    assert ALL.apply(ASKED) == wanted


def test_the_system_message_of_the_prompt_follows_the_instructions() -> None:
    asked = turns((SYSTEM, "You add."), (USER, "2 + 2?"))
    wanted = turns((SYSTEM, "Be brief.\n\nYou add."), (USER, "2 + 2?"))
    assert Notes("Be brief.").apply(asked) == wanted
    shown = Notes(demonstrations=(Demonstration(asked, "4"),))
    assert shown.apply(asked) == turns((SYSTEM, "You add."), (USER, "2 + 2?"), (ASSISTANT, "4"), (USER, "2 + 2?"))


def test_without_a_system_role_the_first_user_message_begins_with_the_instructions() -> None:
    wanted = turns((USER, f"Be brief.\n\n{LIST}\n\n1 + 1?"), (ASSISTANT, "2"), (USER, "2 + 2?"))
    assert ALL.apply(ASKED, system_role=False) == wanted
    assert Notes("Be brief.").apply((), system_role=False) == turns((USER, "Be brief."))


def test_empty_notes_change_nothing(tiny: Any) -> None:
    policy = tiny()
    assert Notes().apply(ASKED) == ASKED
    assert policy.with_notes(Notes()) is policy
    assert policy.with_notes(None) is policy
    assert policy.with_notes(ALL).with_notes(None) is policy


def test_the_version_is_that_of_weights_and_text() -> None:
    weights, others = Policy("one", Path("one")), Policy("two", Path("two"))
    made = weights.with_notes(ALL)
    assert made.version == weights.with_notes(Notes.from_json(ALL.to_json())).version
    assert len({made.version, weights.version, others.with_notes(ALL).version}) == 3
    assert made.version != weights.with_notes(Notes("Be brief.", ALL.demonstrations)).version
    replaced = made.with_notes(Notes("Think."))
    assert (replaced.base, replaced.version) == (weights, weights.with_notes(Notes("Think.")).version)
    assert made.root is made.weights_policy is weights


def test_notes_are_one_file(tmp_path: Path) -> None:
    ALL.save(tmp_path / "notes.json")
    assert Notes.load(tmp_path / "notes.json") == ALL
    assert json.loads((tmp_path / "notes.json").read_text()) == ALL.to_json()


@pytest.mark.parametrize(
    "data", [[], {"plan": "x"}, {"demonstrations": [{"prompt": "x"}]}, {"insights": "x"}, {"system": 3},
             {"demonstrations": [{"prompt": [{"role": "system", "content": "x"}], "answer": "y"}]}],
)  # fmt: skip
def test_other_data_is_refused_in_a_line(data: Any, tmp_path: Path) -> None:
    file = tmp_path / "notes.json"
    file.write_text(json.dumps(data))
    with pytest.raises(BadInput, match="cannot read notes") as refused:
        Notes.load(file)
    assert "\n" not in str(refused.value)
    assert refused.value.where == str(file)


def test_a_published_policy_loads_by_its_folder_and_copies_no_weights(tiny: Any, tmp_path: Path) -> None:
    weights = tiny()
    made = publish_notes(weights.with_notes(ALL), tmp_path / "noted", {"attempts": ["a"]})
    assert [file.name for file in made.path.iterdir()] == ["selftaught.json"]
    loaded = resolve(tmp_path / "noted")
    assert (loaded.version, loaded.notes, loaded.weights) == (made.version, ALL, weights.path)
    assert loaded.weights_policy.version == weights.version
    assert loaded.with_notes(None) == loaded.base


def test_a_policy_behind_an_endpoint_is_published_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    weights = remote_policy("gpt-x")
    publish_notes(weights.with_notes(ALL), tmp_path / "noted", {})
    loaded = resolve(tmp_path / "noted")
    assert (loaded.remote, loaded.weights_policy, loaded.notes) == ("gpt-x", weights, ALL)
    assert is_remote(loaded)
    assert is_remote(str(tmp_path / "noted"))
    with pytest.raises(BadInput, match="behind an endpoint"):
        _ = loaded.weights
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:2/v1")
    with pytest.raises(BadInput, match="is now version"):
        resolve(tmp_path / "noted")


def test_changed_notes_and_lost_weights_are_told_in_a_line(tiny: Any, tmp_path: Path) -> None:
    made = publish_notes(tiny().with_notes(ALL), tmp_path / "noted", {})
    file = made.path / "selftaught.json"
    good = json.loads(file.read_text())
    file.write_text(json.dumps({**good, "notes": {"system": "Lie."}}))
    with pytest.raises(BadInput, match="notes or their base were changed"):
        load_policy(made.path)
    file.write_text(json.dumps({**good, "base": {**good["base"], "path": "nowhere"}}))
    with pytest.raises(BadInput, match=r"its base .* is gone"):
        load_policy(made.path)


def test_where_only_weights_are_read_notes_are_refused(tiny: Any) -> None:
    noted = tiny().with_notes(ALL)
    with pytest.raises(BadInput, match="has notes"):
        load_model(noted, torch.float32)


@pytest.mark.parametrize(
    ("template", "supported"),
    [
        (CHATML, True),
        (None, True),
        ("{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{% endfor %}", False),
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", False),
    ],
    ids=["chatml", "no template", "rejects", "drops"],
)
def test_a_template_says_whether_system_messages_reach_the_model(
    template: str | None, supported: bool, tmp_path: Path
) -> None:
    save_tokenizer(tmp_path, template)
    assert ChatTokenizer(tmp_path).has_system_role is supported
