"""The command line in this process: exit codes, messages, files."""

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from safetensors.torch import load_file, save_file

from hpcfast import cli
from hpcfast.distributed.comm import World
from tests.conftest import RUN


class Done(NamedTuple):
    """How a command ended and what it printed."""

    code: object
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def hpcfast(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World) -> Run:
    """Run ``hpcfast ARGS``."""

    def run(*args: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["hpcfast", *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return Done(caught.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def config(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of a tiny run in the working directory's runs/."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(RUN.replace("epochs: 3", "epochs: 1").replace("size: 10,", f"size: 10, path: {images},"))
    return path


def assert_refused(done: Done, *parts: str) -> None:
    """Assert exit code 2 and one message that holds ``parts``, no traceback."""
    assert done.code == 2, done
    assert done.err.startswith("error: "), done.err
    assert "Traceback" not in done.err
    missing = [part for part in parts if part not in done.err]
    assert not missing, f"the message lacks {missing}: {done.err}"


@pytest.mark.parametrize("command", [[], ["train"], ["eval"], ["report"], ["data"], ["data", "prepare"], ["config"]])
def test_every_command_has_help(hpcfast: Run, command: list[str]) -> None:
    done = hpcfast(*command, "--help")
    assert done.code == 0
    assert " ".join(["hpcfast", *command]) in done.out.splitlines()[0]
    assert done.err == ""


@pytest.mark.parametrize(
    "args", [["nonsense"], ["train"], ["train", "a.yaml", "--nonsense"], ["eval", "x", "--steps", "a"]]
)
def test_a_wrong_command_line_exits_with_2(hpcfast: Run, args: list[str]) -> None:
    done = hpcfast(*args)
    assert done.code == 2
    assert "Traceback" not in done.err


def test_config_show_prints_what_a_run_would_use(hpcfast: Run, config: Path, tmp_path: Path) -> None:
    done = hpcfast("config", "show", config, "threat.eps=8/255", "attack.name=pgd")
    shown = yaml.safe_load(done.out)
    assert (shown["threat"]["eps"], shown["attack"]["steps"], shown["name"]) == (8 / 255, 7, "tiny")
    (tmp_path / "shown.yaml").write_text(done.out)
    assert hpcfast("config", "show", tmp_path / "shown.yaml").out == done.out


def test_config_schema_is_json(hpcfast: Run) -> None:
    done = hpcfast("config", "schema")
    assert "epochs" in json.dumps(json.loads(done.out))


@pytest.mark.parametrize("command", [["config", "show"], ["train"]])
def test_a_wrong_setting_is_one_message(hpcfast: Run, config: Path, command: list[str]) -> None:
    assert_refused(hpcfast(*command, config, "epochs=0"), "epochs", "got 0", "greater than 0")
    assert_refused(hpcfast(*command, config, "epochs"), "'epochs' is no setting")
    assert_refused(hpcfast(*command, "nowhere.yaml"), "no config file nowhere.yaml")


def test_other_ranks_print_nothing(hpcfast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOROVOD_RANK", "1")
    assert hpcfast("config", "show", "nowhere.yaml") == Done(2, "", "")


def test_an_interrupt_exits_with_130(hpcfast: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hpcfast.training.train.train", interrupted)
    assert hpcfast("train", config).code == 130


def test_a_bug_is_shown_with_its_traceback(config: Path, monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("hpcfast.training.train.train", broken)
    monkeypatch.setattr(sys, "argv", ["hpcfast", "train", str(config)])
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("rank", [None, 0, 1])
def test_a_disk_that_cannot_be_written_is_one_message_of_rank_0(
    hpcfast: Run, config: Path, monkeypatch: pytest.MonkeyPatch, rank: int | None, number: int
) -> None:
    """It would be so again: a job must not start its ranks again for it."""

    def train(*_: object) -> None:
        raise OSError(number, os.strerror(number), "runs/tiny/events.jsonl")

    monkeypatch.setattr("hpcfast.training.train.train", train)
    monkeypatch.setattr("hpcfast.distributed.launcher.rank", lambda: rank)
    monkeypatch.setattr("hpcfast.distributed.comm.abort", sys.exit)
    done = hpcfast("train", config)
    if rank:  # it has a message of its own, since rank 0 may have no trouble
        assert done.code == 1
        assert done.err.startswith("rank 1 failed:")
    else:
        assert done.code == 2
        (said,) = done.err.splitlines()
        assert said.startswith(f"error: [Errno {number}] {os.strerror(number)}: 'runs/tiny/events.jsonl': the disk is ")
        assert said.endswith("and give the same command again")


def test_digits_are_prepared_once(hpcfast: Run, tmp_path: Path) -> None:
    for _ in range(2):
        done = hpcfast("data", "prepare", "digits", "--out", tmp_path / "digits", "--json", tmp_path / "made.json")
        assert done.code == 0, done
        assert json.loads((tmp_path / "made.json").read_text())["images"] == {"train": 1437, "val": 360}
    assert len(list((tmp_path / "digits").rglob("*.png"))) == 1797


def test_an_unknown_data_set_gets_a_suggestion(hpcfast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(hpcfast("data", "prepare", "digit"), "'digit' is not one of", "did you mean 'digits'")
    assert_refused(hpcfast("data", "prepare", "fashion-mnist"), "needs --source, the folder of its four IDX files")


def test_train_eval_and_report(hpcfast: Run, config: Path, tmp_path: Path) -> None:
    """The whole way of a user, in order: each command needs what the one before left."""
    run = tmp_path / "runs" / "tiny"
    assert_refused(hpcfast("eval", run), "is no run directory")

    first = hpcfast("train", config, "--json", tmp_path / "train.json")
    assert (first.code, first.err) == (0, "")
    assert "clean 0." in first.out
    assert "pgd, 12 images" in first.out
    assert json.loads((tmp_path / "train.json").read_text()) == json.loads((run / "summary.json").read_text())
    assert "is finished already" in hpcfast("train", config).out
    assert_refused(hpcfast("train", config, "seed=1"), "another configuration", "+seed: 1")
    assert hpcfast("train", config, "seed=1", "--overwrite").code == 0

    summary = json.loads((run / "summary.json").read_text())
    assert hpcfast("eval", run, "--json", tmp_path / "eval.json").code == 0
    result = json.loads((tmp_path / "eval.json").read_text())
    for key in ("clean_accuracy", "robust_accuracy", "n_eval", "ci95", "attack"):
        assert result[key] == summary[key], "the training's own last evaluation, found again"
    assert result["masking"]["n"] == round(12 * result["clean_accuracy"])
    (kept,) = (run / "evaluations").iterdir()
    assert json.loads((kept / "result.json").read_text()) == result
    assert_refused(hpcfast("eval"), "either a run directory or --weights")
    assert_refused(hpcfast("eval", run, "--weights", "x.pt"), "either a run directory or --weights")

    chosen = ["--attack", "pgd", "--steps", 4, "--restarts", 3, "--images", 7]
    done = hpcfast("eval", run, "threat.eps=0.1", *chosen, "--json", tmp_path / "eval.json")
    result = json.loads((tmp_path / "eval.json").read_text())
    assert result["attack"] == {"name": "pgd", "steps": 4, "alpha": None, "restarts": 3, "norm": "L2", "eps": 0.1}
    assert result["n_eval"] == 7
    assert f"clean_accuracy   {result['clean_accuracy']:.4f}   95 % interval" in done.out

    assert_refused(
        hpcfast("eval", run, "--attack", "pgdd"), "--attack pgdd: 'pgdd' is not one of", "did you mean 'pgd'"
    )
    assert_refused(hpcfast("eval", run, "--attack", "natural"), "--attack natural: 'natural' is called 'standard' here")
    assert_refused(hpcfast("eval", run, "--steps", 0), "error: --steps 0: ", "greater than 0")
    assert_refused(hpcfast("eval", run, "--json", tmp_path), "--json", "cannot be written")
    assert_refused(hpcfast("eval", run, "model.options.width=3"), "weights of another model")
    assert_refused(hpcfast("eval", run, "model.mean=[0.4]"), "normalises otherwise", "model.mean is [0.5]")
    assert_refused(hpcfast("eval", run, "--size", 8), "--size is for --weights", "key=value")
    assert_refused(hpcfast("eval", run, "--eps", 10), "--eps 10: 10 allows every change", "10/255")
    weights = load_file(run / "model.safetensors")
    weights["net.fc.bias"][1] = float("inf")
    save_file(weights, run / "model.safetensors")
    assert_refused(hpcfast("eval", run), "model.safetensors: 1 of its", "first net.fc.bias (0 NaN, 1 infinite, of 3)")
    assert_refused(hpcfast("export", run, "--format", "onnx", "--out", tmp_path / "x"), "net.fc.bias", "diverged")


def test_report_writes_a_table_a_picture_and_json(
    hpcfast: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcfast.explain.fooling.RADII", [0.1, 8])
    assert_refused(hpcfast("report", "runs/tiny"), "is no run directory")
    assert hpcfast("train", config, "epochs=10", "model.options.width=4", "evaluation.every=0").code == 0
    done = hpcfast("report", "runs/tiny", "--json", "report.json")
    assert done.code == 0, done
    assert "tiny" in done.out
    assert (tmp_path / "runs" / "tiny" / "figures" / "adversarial.png").is_file()
    assert len(json.loads((tmp_path / "report.json").read_text())["runs"]) == 1


def test_weights_from_elsewhere_are_measured_as_the_run_they_come_from(
    hpcfast: Run, config: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hpcfast("train", config).code == 0
    run, weights = tmp_path / "runs" / "tiny", tmp_path / "weights.pt"
    assert hpcfast("export", run, "--format", "robustbench", "--out", weights).code == 0
    chosen = ["--attack", "pgd", "--steps", 3, "--restarts", 2, "--norm", "L2", "--eps", 0.5, "--json", "eval.json"]
    place = ["--data", images, "--size", 10]
    done = hpcfast("eval", "--weights", weights, *place, *chosen)
    assert done.code == 0, done
    result, summary = (json.loads(path.read_text()) for path in (tmp_path / "eval.json", run / "summary.json"))
    for key in ("clean_accuracy", "robust_accuracy", "n_eval"):
        assert result[key] == summary[key]
    assert (tmp_path / "evaluations" / "weights").is_dir()

    def refused(*options: object) -> Callable[..., None]:
        return lambda *words: assert_refused(hpcfast("eval", "--weights", weights, *options), *words)

    refused(*place)("--eps is missing", "--eps 8/255")
    refused("--size", 10, "--eps", 1)("--data is missing")
    refused("--data", images, "--eps", 1)("--size is missing")
    refused(*place, "--eps", 0)("--eps 0: ", "greater than 0")
    refused(*place, "--eps", 1, "--mean", "a,b")("--mean a,b", "0.5,0.5,0.5")
    refused(*place, "--eps", 1, "--arch", "resnet18")("resnet18")
    refused(*place, "--eps", 0.5, "model.mean=[0.4]")("--arch, --mean, --std")
    refused(*place, "--eps", 1, "--weights-key", "ema")("--weights-key ema", "leave it out")
    refused(*place, "--eps", 10)("--eps 10: 10 allows every change")
    assert "each image is resized to 10 x 10, whatever its shape" in done.out
