"""What a run folder was made with: whatever decides results is remembered, and what differs is said in words."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from selftaught.errors import BadInput
from selftaught.journal import Journal
from selftaught.method import Method, find, recipe
from selftaught.models import Policy
from selftaught.run.conclusion import conclude
from selftaught.run.run import Run
from selftaught.testing import Inverted, make_run, make_task

MINE = '''
from selftaught import recipe
from selftaught.curate import keep_right
from selftaught.learn import sft

HEAT = 0.9

@recipe(needs=("verifier",))
def mine(run, base, task):
    """Learn what is right."""
    for _ in run.rounds(1):
        tried = run.attempt(base, task.train, samples=4, temperature=HEAT)
        hook()
        policy = run.learn(base, sft(), keep_right(tried))
        run.measure(policy)
    return run.champion

def hook():
    """Nothing."""
'''


def written(folder: Path, text: str) -> Method:
    (folder / "mine.py").write_text(text)
    return find(f"{folder}/mine.py:mine")


def played(folder: Path, method: Method, **how: Any) -> Run:
    with make_run(folder, **how) as run:
        method(run, run.base, run.task)
        return run


def test_a_method_whose_code_has_changed_is_refused_until_its_old_code_is_back(tmp_path: Path) -> None:
    played(tmp_path, written(tmp_path, MINE))
    with pytest.raises(BadInput, match=r"the code of the method has changed since; use another .*--out \S+/run-2\)"):
        played(tmp_path, written(tmp_path, MINE.replace("0.9", "1.3")))
    played(tmp_path, written(tmp_path, MINE.replace("HEAT = 0.9", "HEAT = 0.9  # as in the paper")))


def test_changed_code_may_be_accepted_and_every_later_run_of_the_folder_says_so(tmp_path: Path) -> None:
    played(tmp_path, written(tmp_path, MINE))
    other = MINE.replace("0.9", "1.3")
    with pytest.raises(BadInput, match=r"or accept the change and go on: --accept method$"):
        played(tmp_path, written(tmp_path, other))
    said = r"accepted after \d+ effects: the code of the method has changed since"
    for accept in (["method"], []):
        notes = played(tmp_path, written(tmp_path, other), accept=accept).notes
        assert [bool(re.match(said, note)) for note in notes if "accepted" in note] == [True]
    with pytest.raises(BadInput, match="the code of the method has changed since"):
        played(tmp_path, written(tmp_path, MINE))  # what is accepted replaces what was there


def test_only_what_is_named_is_accepted(tmp_path: Path) -> None:
    make_run(tmp_path).close()
    task = make_task(verifier=Inverted())
    for accept in ([], ["method", "packages"]):
        with pytest.raises(BadInput, match=r"the verifier has changed, or its version; .*--accept verifier$"):
            make_run(tmp_path, task=task, accept=accept)
    with make_run(tmp_path, task=task, accept=["verifier"]) as run:
        assert run.notes == ["accepted after 0 effects: the verifier has changed, or its version"]
    with pytest.raises(BadInput, match=r"train is 12 there, 11 here; use another .*, or the same options$"):
        make_run(tmp_path, task=make_task(train=11, verifier=Inverted()), accept=["verifier"])
    with pytest.raises(BadInput, match=r"--accept: unknown change 'metod'.*method"):
        make_run(tmp_path, accept=["metod"])


def test_another_version_of_a_package_that_decides_results_is_refused(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        known = run.journal.meta_object("config")
        assert known["package.torch"] == version("torch")
        run.journal.set_meta("config", json.dumps(known | {"package.torch": "1.0.0"}))
    with pytest.raises(BadInput, match=r"package.torch is '1\.0\.0' there, '[\d.]+.*' here; .*--accept packages$"):
        make_run(tmp_path)
    with make_run(tmp_path, accept=["packages"]) as run:
        assert run.journal.meta_object("config")["package.torch"] == version("torch")


class Cut(BaseException):
    """As an interrupt."""


def test_a_method_that_raised_may_be_mended_and_what_it_cost_before_is_told(tmp_path: Path) -> None:
    broken = MINE.replace('    """Nothing."""', "    raise ValueError")
    with pytest.raises(ValueError):  # noqa: PT011
        played(tmp_path, written(tmp_path, broken))
    with make_run(tmp_path) as run:
        paid = run.journal.usage().spent
        written(tmp_path, MINE)(run, run.base, run.task)
        assert run.engine.calls == len(run.task.dev) * 2  # pyright: ignore[reportAttributeAccessIssue]
        conclude(run)
        assert not any("earlier code" in note for note in run.notes)  # all of it was used
    assert paid > 0


def test_tokens_spent_by_earlier_code_are_told(tmp_path: Path) -> None:
    broken = MINE.replace('    """Nothing."""', "    raise ValueError").replace("0.9", "1.3")
    with suppress(ValueError):
        played(tmp_path, written(tmp_path, broken))
    for _ in range(2):
        with make_run(tmp_path) as run:
            lost = run.journal.usage().spent
            written(tmp_path, MINE)(run, run.base, run.task)
            conclude(run)
            (note,) = [note for note in run.notes if "earlier code" in note]
            assert re.match(r"[\d,]+ tokens were spent here by earlier code of the method", note)
            assert lost


def test_an_interrupted_method_is_not_another_ones(tmp_path: Path) -> None:
    @recipe()
    def cut(run: Run, base: Policy, task: Any) -> Policy:
        """Be interrupted."""
        raise Cut

    with suppress(Cut):
        played(tmp_path, cut)
    with make_run(tmp_path) as run:
        assert "code" in run.config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": make_task(verifier=Inverted())}, "the verifier has changed, or its version"),
        ({"task": make_task(train=5, dev=4)}, "train is 12 there, 5 here; dev is 8 there, 4 here"),
        ({"task": make_task(train=11, test=8)}, "train is 12 there, 11 here"),
    ],
    ids=["verifier", "counts", "a count"],
)
def test_what_differs_is_said_in_words(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    make_run(tmp_path).close()
    with pytest.raises(BadInput, match=re.escape(said)) as refused:
        make_run(tmp_path, **change)
    assert not re.search(r"\b[0-9a-f]{16}\b", str(refused.value))
    assert f"--out {tmp_path / 'run-2'}" in str(refused.value)


def test_other_problems_in_the_same_number_are_said(tmp_path: Path) -> None:
    make_run(tmp_path).close()
    task = make_task()
    task.train = task.train[::-1]
    with pytest.raises(BadInput, match="the problems have changed, in content or order"):
        make_run(tmp_path, task=task)


def test_a_folder_of_an_older_version_is_refused_in_a_line(tmp_path: Path) -> None:
    make_run(tmp_path).close()
    journal = Journal(tmp_path / "run")
    config = json.loads(journal.meta("config") or "")
    older = {k: v for k, v in config.items() if k not in ("selftaught", "verifier", "train", "dev", "test")}
    journal.set_meta("config", json.dumps(older))
    journal.close()
    with pytest.raises(BadInput, match="made by an older selftaught") as refused:
        make_run(tmp_path)
    assert "\n" not in str(refused.value)
    journal = Journal(tmp_path / "run")
    journal.set_meta("config", json.dumps(config | {"selftaught": "0.0.1"}))
    journal.close()
    with pytest.raises(BadInput, match=r"selftaught is '0\.0\.1' there"):
        make_run(tmp_path)
