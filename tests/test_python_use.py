"""The package as it is used from Python: six lines, one's own method, one's own verifier, on a real (tiny) model."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import selftaught as st
from selftaught.engines import Sampling
from selftaught.learn import TrainConfig

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def check(problem: Any, text: str) -> bool:
    """What a random model gets right often enough."""
    return len(text) % 4 != 0


def example(text: str, first: str) -> str:
    """The example of a text that begins with the line `first`, up to the end of its block or of the text."""
    found = re.search(rf"^{first}\n.*?(?=^```|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[0]


def six_lines(text: str) -> str:
    """The first Python example of a text, which is six lines long."""
    code = example(text, "import selftaught as st")
    assert len(code.splitlines()) == 6
    return code


def played(code: str, model: Path) -> dict[str, Any]:
    """Run the six lines with a tiny model in place of the real one and fewer, shorter problems; their names after."""
    small = "train=2, dev=6, test=4, verifier=check, instruction='')"
    for old, new in {
        '"smollm2-135m"': repr(str(model)),
        'max_digits=2")': f'max_digits=2", {small}',
        "task=task)": "task=task, settings=settings)",
    }.items():
        assert code.count(old) == 1
        code = code.replace(old, new)
    settings = st.Settings(sampling=Sampling(max_tokens=64), training=TrainConfig(epochs=1))  # so that some answers end
    names: dict[str, Any] = {"check": check, "settings": settings}
    exec(compile(code, "six lines", "exec"), names)
    return names


@pytest.mark.parametrize("inside_a_loop", [False, True])
def test_the_six_lines_run_as_a_program_and_in_a_notebook(
    tmp_path: Path, tiny: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, inside_a_loop: bool
) -> None:
    async def cell() -> dict[str, Any]:
        await asyncio.sleep(0)  # the loop is running by now
        return played(six_lines(st.__doc__ or ""), tiny("llama").path)

    monkeypatch.chdir(tmp_path)
    names = asyncio.run(cell()) if inside_a_loop else played(six_lines(README), tiny("llama").path)
    assert capsys.readouterr().out.startswith("Comparison(old=")
    assert names["better"].path.is_dir()
    assert names["run"].round == 2
    assert (tmp_path / "runs" / "mine" / "journal.sqlite").is_file()


def test_names_mean_the_same_however_often_they_are_used() -> None:
    """A submodule that has been imported hides no name of the package."""
    import selftaught.cli.run  # imports nearly every submodule

    assert selftaught.cli.run
    for name in st.__all__:
        first = getattr(st, name)
        assert not isinstance(first, ModuleType)
        assert getattr(st, name) is first


@pytest.mark.parametrize("from_a_file", [False, True])
def test_a_method_and_a_verifier_of_one_s_own_on_one_s_own_problems(
    tmp_path: Path, tiny: Any, from_a_file: bool
) -> None:
    (tmp_path / "my_file.py").write_text(example(README, "from selftaught import keep_right, recipe, sft"))
    (tmp_path / "own.py").write_text("def check(problem, text):\n    return len(text) % 4 != 0\n")
    (tmp_path / "own.jsonl").write_text("\n".join(f'{{"question": "Say {i}."}}' for i in range(12)))
    verifier: Any = f"{tmp_path / 'own.py'}:check" if from_a_file else check
    task = st.load_task(str(tmp_path / "own.jsonl"), train=4, dev=4, test=4, verifier=verifier, instruction="")
    ends = tuple("abcdefghijklm 0123456789")  # a random model seldom ends by itself
    settings = st.Settings(sampling=Sampling(max_tokens=160, stop=ends))
    with st.Run(tmp_path / "run", model=tiny("llama").path, task=task, settings=settings) as run:
        champion = st.find_method(f"{tmp_path / 'my_file.py'}:my_method")(run, run.base, task, rounds=1, samples=4)
        assert champion == run.champion
        (row,) = run.history
        right = [v for _, _, v, _ in run.journal.effects("verify") if v[0] == "right"]
        assert row["records"] > 0
        assert right
        assert st.conclude(run).before.n == 4
    assert list((run.folder / "policies" / row["policy"]).glob("*.safetensors"))


def test_a_user_s_mistake_is_raised_as_it_is(tmp_path: Path) -> None:
    task = st.load_task("chain_sum", train=1, dev=1, test=1)
    with pytest.raises(st.BadInput, match="unknown model 'nope'"):
        st.Run(tmp_path / "run", model="nope", task=task)
    with pytest.raises(st.BadInput, match="did you mean 'rest-em'"):
        st.find_method("rest-me")


def test_a_model_folder_that_is_not_there_is_the_user_s_to_mend(tmp_path: Path) -> None:
    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.tokenizer import load_image

    for read in (load_image, ChatTokenizer):
        with pytest.raises(st.BadInput, match="gone: no such folder"):
            read(tmp_path / "gone")


@pytest.mark.parametrize("name", ["learning_rate", "max_grad_norm", "epochs", "batch_size", "max_tokens_per_pass"])
def test_training_refuses_zero_wherever_it_is_said(name: str) -> None:
    from selftaught.run.settings import override

    for value in (0, -1, float("nan")):
        with pytest.raises(st.BadInput, match=f"{name}: must be above 0, got {value}; use more than 0"):
            replace(TrainConfig(), **{name: value})
        with pytest.raises(st.BadInput, match=f"{name}: must be above 0, got {value}; use more than 0"):
            override(TrainConfig(), {name: value})
    assert TrainConfig(max_grad_norm=float("inf")).max_grad_norm == float("inf")  # clips nothing
    with pytest.raises(st.BadInput, match="learning_rate: must be finite, got inf"):
        TrainConfig(learning_rate=float("inf"))
