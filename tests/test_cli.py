"""The command line: what a user types, what comes back, and one clear line for everything that is wrong."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from selftaught.cli.main import main
from selftaught.cli.parsing import MAX_NAMED
from selftaught.cli.solve import problem_of
from selftaught.errors import BadInput
from selftaught.journal import Journal
from selftaught.method import Method, methods
from selftaught.tasks import load_task
from selftaught.tasks.source import INSTRUCTION
from tiny_models import edit_json

SMALL = ["--train", "6", "--dev", "6", "--test", "6"]
QUICK = ["--rounds", "1", "--samples", "3", "--max-tokens", "8", "--epochs", "1", "--dtype", "float32", "--quiet"]


def write(file: Path, text: str) -> str:
    file.write_text(textwrap.dedent(text), "utf-8")
    return str(file)


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = [json.dumps({"question": f"What is {i} + 1?", "answer": str(i + 1)}) for i in range(18)]
    return write(tmp_path / "sums.jsonl", "\n".join(rows))


@pytest.fixture
def lenient(tmp_path: Path) -> str:
    """A verifier that a random model can please."""
    return write(tmp_path / "own.py", "def check(problem, text):\n    return len(text) % 4 != 0\n") + ":check"


@pytest.fixture
def teach(tmp_path: Path, data: str, lenient: str, tiny: Any) -> Callable[..., list[str]]:
    """The words of a quick run on a tiny random model."""

    def words(*more: str, method: str = "rest-em", out: Path | None = None) -> list[str]:
        where = ["--task", data, "--model", str(tiny("llama").path), "--out", str(out or tmp_path / "out")]
        return ["run", method, *where, "--verifier", lenient, *SMALL, *QUICK, *more]

    return words


def refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """What a refused command says: one line on stderr, nothing on stdout, exit status 2."""
    capsys.readouterr()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("selftaught: ")
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    return err.removeprefix("selftaught: ").rstrip("\n")


def samples_in(folder: Path) -> dict[str, str]:
    """The samples of a run folder as they stand in its journal, by key; read without opening the run."""
    reader = sqlite3.connect(f"file:{folder / 'journal.sqlite'}?mode=ro", uri=True, timeout=10)
    try:
        return dict(reader.execute("SELECT key, payload FROM effects WHERE kind = 'sample'").fetchall())
    except sqlite3.OperationalError:  # the process that makes it has not come so far
        return {}
    finally:
        reader.close()


# --- what is misspelt ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rnu", "unknown command 'rnu'; did you mean 'run'?"),
        ("run", "run needs a method; choose one of {recipes}"),
        ("eval --task x --threads 0", "--threads: must be ≥ 1, got 0; use the number of cores"),
        ("solve", 'solve needs a question; write it in quotes: selftaught solve "What is 17 + 25?"'),
        ("solve self-refin", "method: unknown method 'self-refin'; did you mean 'self-refine'"),
        ("solve self-refin hello", "method: unknown method 'self-refin'; did you mean 'self-refine'"),
        ("eval --task x --heat 0.7", "eval: unknown option '--heat'; use '--temperature'"),
        ("eval --task x --rows=8", "eval: unknown option '--rows'; use '--max-batch-size'"),
        ("run rest-em --task x --batch 8", "run: unknown option '--batch'; use '--batch-size'"),
        ("run rest-em --task x --tokens 8", "run: unknown option '--tokens'; use '--token-budget'"),
        ("run evolve --task x --pace 0.5", "run: unknown option '--pace'; use '--lr-scale'"),
        ("run rest-em --task x --lr 1e-5", "run: unknown option '--lr'; use '--learning-rate'"),
        ("eval --task x --num-samples 4", "eval: unknown option '--num-samples'; use '--attempts'"),
        ("run rest-m --task x", "method: unknown method 'rest-m'; did you mean 'rest-em' or 'best-of-n'?"),
        ("run self-refine --task x", "run: self-refine is a solver, not a recipe; choose one of {recipes}"),
        ("solve star hello", "solve: star is a recipe, not a solver; choose one of {solvers}"),
        ("eval --solver star --task x", "eval: star is a recipe, not a solver"),
        ("run rest-em --task x --sampels 3", "run: unknown option '--sampels'; did you mean '--samples'"),
        ("run rest-em --task x --sampels=3", "run: unknown option '--sampels'; did you mean '--samples'"),
        ("run --sampels 3 rest-em --task x", "run: unknown option '--sampels'; did you mean '--samples'"),
        ("run rest-em", "run: the following arguments are required: --task; see selftaught run --help"),
        ("run rest-em --task x --samples many", "run: argument --samples: invalid int value: 'many'"),
        ("run rest-em --task x --temperature nan", "run: argument --temperature: invalid float value: 'nan'"),
        ("run rest-em --task x --epochs 0", "run: argument --epochs: must be ≥ 1, got 0"),
        ("run rest-em --task x --max-batch-size 0", "run: argument --max-batch-size: must be ≥ 1, got 0"),
        ("run rest-em --task x --dtype int8", "--dtype: must be one of auto, float32, bfloat16, float16, got 'int8'"),
        ("run star --task x --rationalization yes extra", "run: unexpected argument 'yes'"),
        ("methods --jsn", "methods: unknown option '--jsn'; did you mean '--json'?"),
        ("run nowhere.py:mine --task x", "nowhere.py: cannot read the method's file"),
        ("solve self-refine", "solve: the following arguments are required: question"),
        ("run rest-em --task x --learning-rate 0", "learning_rate: must be above 0, got 0.0"),
        ("run rest-em --task x --learning-rate inf", "learning_rate: must be finite, got inf"),
    ],
)
def test_a_misspelt_word_is_one_line_with_the_nearest_names(
    capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    known = {shape: listed(m.id for m in methods().values() if m.shape == shape) for shape in ("recipe", "solver")}
    said = said.replace("{recipes}", known["recipe"]).replace("{solvers}", known["solver"])
    assert refused(capsys, words.split()).startswith(said)


def listed(ids: Iterable[str]) -> str:
    """Ids as a message names them: the first ones, and how many there are."""
    names = list(ids)
    more = f", ... ({len(names)} in all, see selftaught methods)" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def test_the_exit_status_of_a_real_process_is_2() -> None:
    command = [sys.executable, "-m", "selftaught", "run", "rest-m", "--task", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = "selftaught: method: unknown method 'rest-m'; did you mean 'rest-em' or 'best-of-n'?\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_unknown_task_model_and_split_sizes(capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path) -> None:
    assert "did you mean 'chain_sum'" in refused(capsys, ["run", "rest-em", "--task", "chain_sun"])
    unknown = ["run", "rest-em", "--task", data, *SMALL, "--out", str(tmp_path / "out")]
    assert "unknown model 'smollm2'; did you mean 'smollm2-135m'?" in refused(capsys, [*unknown, "--model", "smollm2"])
    assert refused(capsys, [*unknown, "--test", "0"]).startswith(f"--test: {data} has no test problems")
    assert refused(capsys, [*unknown, "--dev", "0"]).startswith(f"--dev: {data} has no dev problems")
    assert refused(capsys, [*unknown, "--model", "./nowhere"]).startswith("./nowhere: no such folder")
    assert refused(capsys, ["solve", "self-refine", " "]).startswith("question: the question is empty")
    nowhere = ["run", "rest-em", "--task", str(tmp_path / "no.jsonl")]
    assert "no.jsonl" in refused(capsys, nowhere)


def test_an_unknown_device_is_refused(capsys: pytest.CaptureFixture[str], teach: Callable[..., list[str]]) -> None:
    line = refused(capsys, teach("--device", "cdua"))
    assert line.startswith("--device: no device 'cdua' here (")
    assert line.endswith("did you mean 'cuda' or 'cpu'?")


# --- what is wrong with the data ---


def test_bad_data_names_file_and_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = '{"question": "What is 1 + 1?", "answer": "2"}'
    other = '{"question": "What is 2 + 2?", "answer": "4"}'
    cases = {
        "malformed.jsonl": ([good, '{"question": '], r"malformed.jsonl:2: malformed JSON"),
        "empty.jsonl": ([], "empty.jsonl: the file is empty"),
        "same.jsonl": ([good] * 5, "same.jsonl:1: all 5 problems are the same one"),
        "asked.jsonl": ([good, '{"text": "?"}'], "asked.jsonl:2: no question: the fields are text"),
    }
    for name, (lines, said) in cases.items():
        place = write(tmp_path / name, "\n".join(lines))
        assert said in refused(capsys, ["run", "rest-em", "--task", place, *SMALL])
    place, test = write(tmp_path / "a.jsonl", f"{good}\n{other}"), write(tmp_path / "b.jsonl", other)
    line = refused(capsys, ["run", "rest-em", "--task", f"{place}:test={test}", *SMALL])
    assert "1 problem of test also in train" in line
    assert "b.jsonl:1" in line
    assert "a.jsonl:2" in line


def test_a_missing_reference_is_told_to_those_who_read_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def rows(name: str, start: int, answered: bool) -> str:
        lines = [
            {"question": f"What is {i} + 1?"} | ({"answer": f"{i + 1}"} if answered else {})
            for i in range(start, start + 6)
        ]
        return write(tmp_path / name, "\n".join(map(json.dumps, lines)))

    dev, test, bare = rows("dev.jsonl", 100, True), rows("test.jsonl", 200, True), rows("bare.jsonl", 0, False)
    task = f"{bare}:dev={dev},test={test}"
    for method in ("rest-em", "star"):
        assert "bare.jsonl:1: the problem has no reference" in refused(capsys, ["run", method, "--task", task, *SMALL])
    assert main(["run", "lmsi", "--task", task, *SMALL, "--dry-run", "--samples", "2"]) == 0
    capsys.readouterr()
    untested = f"{dev}:dev={bare},test={test}"
    assert "bare.jsonl:" in refused(capsys, ["run", "lmsi", "--task", untested, *SMALL])


def test_a_model_without_tokenizer_or_with_pickled_weights_is_refused(
    capsys: pytest.CaptureFixture[str], teach: Callable[..., list[str]], tiny: Any, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(tiny("llama").path, copy)
    (copy / "tokenizer.json").unlink()
    assert refused(capsys, teach("--model", str(copy))).startswith(f"{copy}: no tokenizer; save it there too")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "is a pickle checkpoint" in refused(capsys, teach("--model", str(copy)))
    assert "no config.json" in refused(capsys, teach("--model", str(tmp_path)))


def cut(name: str) -> Callable[[Path], object]:
    """Takes the last thousand bytes off a file of a model folder."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1000])


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "tokenizer": ("llama", cut("tokenizer.json"), ": cannot load the tokenizer ("),
    "config": (
        "llama",
        lambda folder: (folder / "config.json").write_text('{"model_type": '),
        "/config.json: malformed",
    ),
    "config no object": ("llama", lambda folder: (folder / "config.json").write_text("[]"), "/config.json: malformed"),
    "weights": ("llama", cut("model.safetensors"), "/model.safetensors: cannot load the model ("),
    "unfused weights": ("gpt2", cut("model.safetensors"), ": cannot load the model (Error while deserializing"),
    "index": (
        "llama",
        lambda folder: (folder / "model.safetensors").rename(folder / "model.safetensors.index.json").write_text("[]"),
        ": cannot load the m",
    ),
    "architecture": (
        "llama",
        lambda folder: edit_json(folder / "config.json", model_type="lama", architectures=["LamaForCausalLM"]),
        ": cannot load the model (The checkpoint you are trying to load has model type `lama` but Transformers does",
    ),
    "another architecture": (
        "llama",
        lambda folder: edit_json(folder / "config.json", model_type="gpt_neox", architectures=["GPTNeoXForCausalLM"]),
        " weights of a GPTNeoXForCausalLM are missing, such as ",
    ),
    "no causal architecture": (
        "llama",
        lambda folder: edit_json(folder / "config.json", model_type="t5", architectures=["T5Model"]),
        ": cannot load the model (Unrecognized configuration class <class",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_model_folder_is_one_line(
    capfd: pytest.CaptureFixture[str], teach: Callable[..., list[str]], tiny: Any, tmp_path: Path, what: str
) -> None:
    kind, damage, said = BROKEN[what]
    copy = tmp_path / "model"
    shutil.copytree(tiny(kind).path, copy)
    damage(copy)
    line = refused(capfd, teach("--model", str(copy)))
    assert line.startswith(str(copy))
    assert said in line
    assert len(line) < len(str(copy)) + 400


# --- a whole run ---


def test_a_run_prints_only_json_is_whole_and_resumes_for_nothing(
    capsys: pytest.CaptureFixture[str], teach: Callable[..., list[str]], tmp_path: Path
) -> None:
    outcomes, words = [], [word for word in teach("--json") if word != "--quiet"]
    capsys.readouterr()  # making the model draws a bar
    for _ in range(2):
        assert main(words) == 0
        out, err = capsys.readouterr()
        outcomes.append(json.loads(out))
        assert outcomes[-1]["requests"]["refused"] == 0
        assert isinstance(outcomes[-1].pop("notes"), list)
        assert err.startswith("rest-em on ")  # what is meant for people goes where it spoils no JSON
        journal = Journal(tmp_path / "out")
        outcomes.append(journal.digest())
        journal.close()
    assert outcomes[:2] == outcomes[2:]
    assert json.loads((tmp_path / "out" / "summary.json").read_text("utf-8")) == outcomes[0]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "selftaught run rest-em --task" in page
    assert (tmp_path / "out" / "champion").exists()

    assert main(teach()) == 0  # for people
    out, _ = capsys.readouterr()
    assert "6 test problems, opened once:" in out
    assert "paired difference" in out

    line = refused(capsys, teach("--samples", "4"))
    assert line.startswith(
        f"{tmp_path / 'out'}: the folder has another configuration: option.samples is 3 there, 4 here"
    )
    line = refused(capsys, teach("--epochs", "2", "--seed", "1"))
    assert "seed is 0 there, 1 here" in line
    assert "training.epochs is 1 there, 2 here" in line


def test_a_folder_that_another_process_uses_is_refused(
    capsys: pytest.CaptureFixture[str], teach: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    hold = f"from pathlib import Path; from selftaught.journal import Journal; j = Journal(Path({str(out)!r}))"
    command = [sys.executable, "-c", f"{hold}; print('held', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        line = refused(capsys, teach())
        assert line == f"{out}: another process is using this run folder; wait for it, or use another folder"
        holder.communicate("\n")
    assert main(teach()) == 0


@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_damaged_journal_is_one_line(
    capsys: pytest.CaptureFixture[str], teach: Callable[..., list[str]], tmp_path: Path, page: int
) -> None:
    journal = Journal(tmp_path / "out")
    for i in range(200):
        journal.put(f"{i:016x}", "sample", {"text": "x" * 200})
    journal.close()
    file = tmp_path / "out" / "journal.sqlite"
    held = bytearray(file.read_bytes())
    held[4096 * page : 4096 * (page + 1)] = b"garbage!" * 512
    file.write_bytes(held)
    assert "not a journal, or a damaged one" in refused(capsys, teach())


@pytest.mark.parametrize("at", ["the process", "another thread"])
def test_an_interrupted_run_exits_with_130_and_goes_on_from_there(
    teach: Callable[..., list[str]], tmp_path: Path, at: str
) -> None:
    words, out = teach("--samples", "40", "--instruction", ""), tmp_path / "out"
    command = [sys.executable, "-m", "selftaught", *words, "--max-batch-size", "1"]  # slowly; it changes no result
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not ((out / "journal.sqlite").is_file() and samples_in(out)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if at == "the process":  # the system hands it to any of its threads
            process.send_signal(signal.SIGINT)
        else:
            first = min({int(name) for name in os.listdir(f"/proc/{process.pid}/task")} - {process.pid})
            assert ctypes.CDLL(None).tgkill(process.pid, first, signal.SIGINT) == 0
        said = process.communicate(timeout=60)
    assert (process.returncode, *said) == (130, "", "selftaught: interrupted; the same command resumes\n")
    paid = samples_in(out)
    assert 1 <= len(paid) < 120  # of 240: it stopped at once
    assert not (out / "summary.json").exists()
    assert main(words) == 0
    assert paid.items() <= samples_in(out).items()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting needs root")
@pytest.mark.parametrize("room", ["150k", "700k"])  # full while sampling; while saving the weights
def test_a_full_disk_is_one_line_and_with_room_the_same_command_finishes(
    capsys: pytest.CaptureFixture[str], teach: Callable[..., list[str]], tmp_path: Path, room: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(disk)], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        out = disk / "out"
        line = refused(capsys, teach("--samples", "9", out=out))
        paid = samples_in(out)
        assert len(paid) < 54 if room == "150k" else len(paid) >= 54
        assert not (out / "summary.json").exists()
        assert "the disk is full" in line
        assert line.endswith("free some space and run the same command again: it resumes")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert main(teach("--samples", "9", out=out)) == 0
        assert paid
        assert paid.items() <= samples_in(out).items()
        assert (out / "summary.json").is_file()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_verifier_that_raises_is_counted_and_above_the_limit_stops_the_run(
    capsys: pytest.CaptureFixture[str], teach: Callable[..., list[str]], tmp_path: Path
) -> None:
    own, words, out = tmp_path / "own.py", teach("--max-tokens", "64"), tmp_path / "out"  # so that some answers end
    own.write_text("def check(problem, text):\n    return 1 / 0\n")
    line = refused(capsys, words)
    failed = re.match(r"verifier: (\d+) of 18 verifications failed \(verifier raised: ZeroDivisionError", line)
    assert failed
    assert int(failed[1]) >= 10  # more where several are judged in the same moment
    assert line.endswith("; repair it and run the same command again: samples are kept")
    paid = samples_in(out)
    assert len(paid) >= 10
    again = refused(capsys, words)  # an unmended one is no better, and samples nothing anew
    assert again.startswith("verifier: ")
    assert paid.items() <= samples_in(out).items()

    # Raises for one problem of six, so below the limit whichever split that problem is in.
    own.write_text(
        "import re\ndef check(problem, text):\n"
        "    return 1 // (int(re.findall('[0-9]+', problem.question)[0]) % 6 != 1) and len(text) % 4 != 0\n"
    )
    assert main([word for word in words if word != "--quiet"]) == 0
    _, err = capsys.readouterr()
    assert "warning: verifier raised: ZeroDivisionError" in err
    (note,) = re.findall(r"note: (\d+) of (\d+) verifications failed and count as UNKNOWN \(verifier raised: Z", err)
    assert 0 < int(note[0]) < int(note[1]) / 2
    assert paid.items() <= samples_in(out).items()
    assert "UNKNOWN" in (out / "report.html").read_text("utf-8")


# --- the other commands ---


def test_methods_are_listed_for_programs_and_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [m["id"] for m in found] == sorted(m["id"] for m in found)
    root = Path(__file__).parent.parent
    for method in found:
        assert set(method) == {"id", "shape", "family", "paper", "preset_of", "also", "summary", "path"}
        assert method["path"].startswith("src/selftaught/methods/")
        assert (root / method["path"]).is_file()
    assert main(["methods"]) == 0
    listed = capsys.readouterr().out
    assert all(method["id"] in listed for method in found)
    assert {m["id"]: m["preset_of"] for m in found if m["id"] in ("rft", "rest-em")} == {
        "rft": "rest-em",
        "rest-em": None,
    }
    assert "id-sampling" in next(m["also"] for m in found if m["id"] == "iterative-deepening")


def test_one_family_of_methods_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--family", "self-training", "--json"]) == 0
    found = {m["id"]: m["family"] for m in json.loads(capsys.readouterr().out)}
    assert {"rest-em", "star"} <= set(found) == {m.id for m in methods().values() if m.family == "self_training"}
    assert main(["methods", "--family", "votin"]) == 2
    assert "unknown family 'votin'; did you mean 'voting'?" in capsys.readouterr().err


def test_help_tells_every_option_of_a_method_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "star", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "--rounds INT outer iterations (default 3)" in out
    assert "--rationalization, --no-rationalization sample failed problems again" in out
    assert "Keep rationales that reach the right answer" in out
    for words in (["--help"], [], ["run", "--help"], ["eval", "-h"], ["solve", "--help"], ["methods", "-h"]):
        assert main(words) == 0
        assert "selftaught" in capsys.readouterr().out
    assert main(["eval", "--solver", "self-refine", "--help"]) == 0
    assert "--turns INT" in capsys.readouterr().out


@pytest.mark.parametrize(
    "method", [m for m in methods().values() if m.shape in ("recipe", "solver")], ids=lambda m: m.id
)
def test_help_reads_well_and_leaves_no_option_out(capsys: pytest.CaptureFixture[str], method: Method) -> None:
    command = "run" if method.shape == "recipe" else "solve"
    assert main([command, method.id, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert method.summary in said
    assert ". (default" not in said
    for option in method.options:
        assert f"--{option.name.replace('_', '-')}" in said
        default = "none" if option.default == "" else option.default
        assert " ".join(f"{option.help.removesuffix('.')} (default {default})".split()) in said


def test_a_dry_run_tells_the_configuration_and_the_cost_and_makes_nothing(
    capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "rest-em", "--task", data, *SMALL]
    words += ["--rounds", "2", "--samples", "5", "--dry-run", "--max-tokens", "10"]
    assert main([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["options"] == {"rounds": 2, "samples": 5, "temperature": 0.7, "top_k": 40, "per_problem": 10}
    assert plan["settings"]["sampling"]["max_tokens"] == 10
    assert plan["problems"] == {"train": 6, "dev": 6, "test": 6}
    asked = 2 * 6 * 5 + 3 * 6  # two rounds on train; two policies and the start on dev
    assert plan["expected"]["requests"] == {"solve": asked}
    assert plan["expected"]["max_generated_tokens"] == 10 * asked
    assert plan["expected"]["trainings"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sums.jsonl"]
    assert main(words) == 0
    assert "requests solve 78" in " ".join(capsys.readouterr().out.split())


def test_solve_and_eval_answer_with_a_solver(
    capsys: pytest.CaptureFixture[str], tiny: Any, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ["--model", str(tiny("llama", context=2048).path), "--max-tokens", "6", "--quiet", "--dtype", "float32"]
    assert main(["solve", *model, "self-consistency", "What is 1 + 1?", "--samples", "3", "--json"]) == 0
    solved = json.loads(capsys.readouterr().out)
    keys = {"method", "model", "text", "answer", "confidence", "note", "tokens", "requests", "notes"}
    assert solved.keys() == keys
    assert solved["requests"]["answered"] == 3
    assert 3 <= solved["tokens"] <= 18
    assert main(["solve", "self-refine", "What is 1 + 1?", *model, "--turns", "1"]) == 0
    out, _ = capsys.readouterr()
    assert "tokens" in out
    assert not [c for c in out if not c.isprintable() and c not in "\n\t"]
    assert "refused" in refused(capsys, ["solve", "self-refine", "why " * 2000, *model])

    measured = ["eval", "--task", data, *SMALL, *model, "--json"]
    for more, samples, solver in ([], 1, "policy"), (["--attempts", "2", "--temperature", "1"], 2, "policy"), (
        ["--solver", "self-consistency", "--samples", "2"], 1, "self-consistency"
    ):  # fmt: skip
        assert main([*measured, *more]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["n"], found["samples"], found["solver"], found["split"]) == (6, samples, solver, "test")
        assert 0 <= found["accuracy"] <= 1
    assert len(list((tmp_path / "runs").iterdir())) == 2
    again = Path(data).with_name("again.jsonl")
    again.write_bytes(Path(data).read_bytes())
    assert main([words.replace(data, str(again)) for words in measured]) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 3  # the same problems under another name
    capsys.readouterr()
    assert main(["eval", "--task", data, *SMALL, *model, "--split", "dev"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_the_mean_of_scores_is_told_where_there_are_any(
    capsys: pytest.CaptureFixture[str], tiny: Any, data: str, tmp_path: Path
) -> None:
    own = write(tmp_path / "own.py", "def score(problem, text):\n    return 0.25\n") + ":score"
    model = ["--model", str(tiny("llama", context=2048).path), "--max-tokens", "6", "--quiet", "--dtype", "float32"]
    words = ["eval", "--task", data, *SMALL, *model, "--json", "--out", str(tmp_path / "out")]
    assert main([*words, "--verifier", own]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["accuracy"], found["mean_score"]) == (0.0, 0.25)
    low, high = found["mean_score_ci95"]
    assert low < 0.25 < high


def test_solve_asks_in_the_words_of_run_and_says_when_there_is_no_vote(
    capsys: pytest.CaptureFixture[str], tiny: Any
) -> None:
    model = ["--model", str(tiny("llama", context=2048).path), "--max-tokens", "6", "--quiet", "--dtype", "float32"]
    assert main(["solve", "What is 1 + 1?", *model, "--samples", "3", "--json"]) == 0  # a random model answers nothing
    solved = json.loads(capsys.readouterr().out)
    assert (solved["method"], solved["answer"], solved["confidence"]) == ("self-consistency", None, None)
    assert solved["note"].startswith("none of 3 samples has a final answer that can be read")
    assert main(["solve", "What is 1 + 1?", *model, "--samples", "3"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("the most probable of them, not a vote)")
    assert main(["solve", "self-refine", "What is 1 + 1?", *model, "--turns", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["note"].startswith("no final answer can be read from it")

    words = argparse.Namespace(question="What is 1 + 1?", instruction=None, model="m")
    assert problem_of(words).prompt[0].content == f"What is 1 + 1?\n{INSTRUCTION}"
    words.instruction = "Answer in one word."
    assert problem_of(words).prompt[0].content == "What is 1 + 1?\nAnswer in one word."
    words.instruction, words.model = None, "underfit"
    assert problem_of(words).prompt[0].content == "What is 1 + 1?"


def test_a_verifier_is_obeyed_or_refused_whatever_the_task(tmp_path: Path, lenient: str) -> None:
    script = write(
        tmp_path / "mine.py",
        """
        from selftaught import Task
        from selftaught.feedback import Exact
        from selftaught.records import make_problem
        from selftaught.tasks import Kind

        def rows():
            return [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(6)]

        def made():
            problems = [make_problem(row["question"], row["answer"]) for row in rows()]
            return Task("made", problems[:2], problems[2:4], problems[4:], verifier=Exact(), kind=Kind.NUMBER)
        """,
    )
    sizes: dict[str, Any] = {"train": 2, "dev": 2, "test": 2}
    made = load_task(f"{script}:made")
    for spec in ("underfit:family=add,level=2", "chain_sum", f"{script}:rows", f"{script}:made", made):
        with load_task(spec, **sizes, verifier=lenient) as task:
            assert task.verifier.version.startswith("check@"), spec
    with load_task("underfit:family=add,level=2", **sizes) as own:
        assert own.verify(own.train[0], "nonsense").verdict != "right"
    with load_task("underfit:family=add,level=2", **sizes, verifier=lambda problem, text: True) as own:
        assert own.verify(own.train[0], "nonsense").verdict == "right"
    for spec, how, said in (
        (
            "underfit",
            {"verifier": "exact"},
            "verifier exact: the underfit world only accepts its own verifier or a function",
        ),
        ("underfit", {"instruction": "Think."}, "instruction: the underfit world has its own language"),
        (f"{script}:made", {"instruction": "Think."}, "an existing task takes no instruction"),
        (made, {"verifier": "rg"}, "verifier 'rg' scores reasoning-gym tasks only"),
        (
            "chain_sum",
            {"verifier": lambda completions, tests: [1.0]},
            "takes 'tests', which is not a column of the data",
        ),
    ):
        with pytest.raises(BadInput, match=re.escape(said)):
            load_task(spec, **sizes, **how)


# --- methods of the user's own ---

OWN = """
    from __future__ import annotations
    from pathlib import Path
    from typing import TYPE_CHECKING, Literal, Optional
    from selftaught import recipe, solver
    if TYPE_CHECKING:
        from selftaught import Run, Task
        from somewhere import Policy

    @recipe()
    def mine(
        run: Run, base: Policy, task: Task, *, seed: int = 7, tokens: int | None = None, hard: bool = False,
        kind: Literal["a", "b"] = "a", heats: tuple[float, ...] = (0.5,), bare=3, who: Optional[str] = None,
        where: Path = Path("x"), hook: object = None, json: bool = True,
    ) -> Policy:
        '''Say what one was given.

        Args:
            seed: a seed of its own,
                on two lines: 100 % of it.
        '''
        raise KeyError(repr((seed, tokens, hard, kind, heats, bare, who, where, hook, json)))

    @solver()
    async def asked(ask, problem, *, must: int):
        '''Needs an option.'''
        return await ask(problem.prompt)

    def plain(run):
        pass
"""


def test_options_come_from_the_signature_and_give_way_to_the_command_s_own(
    capsys: pytest.CaptureFixture[str], teach: Callable[..., list[str]], tmp_path: Path
) -> None:
    own = write(tmp_path / "my_file.py", OWN)
    given = teach(method=f"{own}:mine")
    words = given[: given.index("--rounds")]
    words += ["--seed", "2", "--method-seed", "5", "--tokens", "9", "--hard", "--kind", "b", "--quiet"]
    words += ["--heats", "0.5,1", "--bare", "4", "--who", "none", "--where", "y", "--no-method-json", "--epochs", "1"]
    with pytest.raises(KeyError) as told:
        main(words)
    assert told.value.args[0] == repr((5, 9, True, "b", (0.5, 1.0), 4, None, Path("y"), None, False))
    capsys.readouterr()
    assert main(["run", f"{own}:mine", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--method-seed INT a seed of its own, on two lines: 100 % of it (default 7)" in said
    assert "--kind a|b" in said
    assert "--tokens INT|NONE" in said
    assert "--hook" not in said
    assert refused(capsys, [*words, "--kind", "c"]) == "--kind: must be one of a, b, got 'c'"


FAILING = """
    from selftaught import BadInput, recipe

    @recipe()
    def several(run, base, task):
        inner = ExceptionGroup("inner", [BadInput("one thing", fix="mend it")])
        raise ExceptionGroup("outer", [inner, BadInput("two")])

    @recipe()
    def stopped(run, base, task):
        raise BaseExceptionGroup("outer", [BadInput("one thing"), KeyboardInterrupt()])

    @recipe()
    def peeking(run, base, task):
        str(task.train[0].reference)
"""


def test_what_fails_at_the_same_time_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], teach: Callable[..., list[str]], tmp_path: Path
) -> None:
    own = write(tmp_path / "failing.py", FAILING)

    def words(name: str) -> list[str]:
        given = teach(method=f"{own}:{name}", out=tmp_path / name)
        return [*given[: given.index("--rounds")], "--quiet"]

    assert refused(capsys, words("several")) == "one thing; mend it"
    assert "reads a problem's reference without declaring it" in refused(capsys, words("peeking"))
    assert main(words("stopped")) == 130
    assert capsys.readouterr().err == "selftaught: interrupted; the same command resumes\n"


def test_a_user_s_file_is_told_what_it_lacks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = write(tmp_path / "my_file.py", OWN)
    cases = {
        f"run {own}:mien --task x": "no function 'mien' in the method's file; did you mean 'mine'",
        f"run {own} --task x": "which function? in the method's file",
        f"run {own}:plain --task x": "'plain' is not a method; decorate it with @recipe or @solver",
        f"solve {own}:asked hello": "the following arguments are required: --must",
        f"run {write(tmp_path / 'broken.py', 'def x(:')}:x --task x": "broken.py:1: not valid Python",
        f"run {write(tmp_path / 'raises.py', 'import nope')}:x --task x": "no function 'x'",
    }
    for words, said in cases.items():
        assert said in refused(capsys, words.split())
    raises = write(
        tmp_path / "raises2.py", "from selftaught import recipe\n1 / 0\n@recipe()\ndef x(run, base, task): ...\n"
    )
    assert "raises2.py:2: the file raises ZeroDivisionError" in refused(capsys, ["run", f"{raises}:x", "--task", "x"])


# --- weight and manners ---


def fresh(code: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **more)


HEAVY = ("torch", "transformers", "reasoning_gym", "sympy", "jinja2", "numpy")


@pytest.mark.parametrize(
    "words", [["methods", "--json"], ["run", "rest-em", "--help"], ["run", "rest-em", "--taks", "x"], ["rnu"]]
)
def test_talking_about_methods_imports_nothing_heavy(words: list[str]) -> None:
    code = f"import sys; from selftaught.cli.main import main; main({words!r})"
    code += f"; print([m for m in {HEAVY} if m in sys.modules])"
    done = fresh(code)
    assert done.stdout.splitlines()[-1] == "[]", done


def test_a_dry_run_imports_no_torch(data: str) -> None:
    words = ["run", "lmsi", "--task", data, *SMALL, "--dry-run", "--json", "--samples", "2"]
    done = fresh(f"import sys; from selftaught.cli.main import main; main({words!r}); print('torch' in sys.modules)")
    assert done.stdout.splitlines()[-1] == "False", done


def test_importing_the_package_is_quick_and_light() -> None:
    code = """
        import sys, time
        begun = time.perf_counter()
        import selftaught
        print(time.perf_counter() - begun)
        [getattr(selftaught, name) for name in selftaught.__all__]
        print(time.perf_counter() - begun)
        assert 'torch' not in sys.modules
    """
    tries = [fresh(textwrap.dedent(code)) for _ in range(3)]
    assert [done.returncode for done in tries] == [0, 0, 0], tries
    alone, every_name = zip(*(map(float, done.stdout.split()) for done in tries), strict=True)
    assert min(alone) < 0.5
    assert min(every_name) < 0.5


def test_a_reader_that_goes_away_is_no_error() -> None:
    words = f"{sys.executable} -m selftaught methods --json | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", words], capture_output=True, text=True, check=False)
    assert done.stdout == "["
    assert done.stderr == ""


def test_an_option_refused_before_anything_was_done_may_be_corrected_in_the_same_folder(
    capsys: pytest.CaptureFixture[str], teach: Callable[..., list[str]]
) -> None:
    for steps in ("0", "-1"):
        line = refused(capsys, teach("--steps", steps, method="grpo"))
        assert line == f"--steps: steps must be at least 1, got {steps}"
    assert refused(capsys, teach("--rounds", "0", method="rest-em")).startswith("--rounds: rounds must be at least 1")
    assert main(teach(method="rest-em")) == 0
    assert "rounds is 1 there, 2 here" in refused(capsys, teach("--rounds", "2", method="rest-em"))
