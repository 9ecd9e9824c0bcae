"""What is wrong with a configuration is said with its key, its value and what is legal."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcfast import component
from hpcfast.cluster import slurm
from hpcfast.config import RunConfig, load
from hpcfast.errors import UserError
from tests.conftest import RUN

Tiny = Callable[..., RunConfig]

ATTACKS, SCHEDULES = (", ".join(component.names(f"hpcfast.{room}")) for room in ("attacks", "optim.schedules"))
BAD = [  # override, and what the message must hold: key, value, what is legal
    ("foo=1", ["foo", "unknown key", "epochs", "threat"]),
    ("epoch=1", ["epoch", "did you mean 'epochs'"]),
    ("data.sizes=3", ["data.sizes", "did you mean 'size'"]),
    ("evaluation.final.foo=1", ["evaluation.final.foo", "attack, curve, images"]),
    ("attack.steps=3", ["attack.steps", "alpha, name, start"]),
    ("attack.name=pgdd", ["attack.name", "'pgdd'", ATTACKS, "did you mean 'pgd'"]),
    ("attack=pgd", ["attack", "'pgd'"]),
    ("evaluation.monitor.attack.name=x", ["evaluation.monitor.attack.name", "'x'", ATTACKS]),
    ("evaluation.monitor.attack.steps=0", ["evaluation.monitor.attack.steps", "greater than 0", "got 0"]),
    ("evaluation.monitor.attack.stepz=1", ["evaluation.monitor.attack.stepz", "did you mean 'steps'"]),
    ("schedule.name=cosin", ["schedule.name", "'cosin'", SCHEDULES, "did you mean 'cosine'"]),
    ("schedule={name: piecewise, knots: [[1%, 0], [0, 1]]}", ["schedule.knots", "['1%', '0%']", "must increase"]),
    ("schedule={name: piecewise, knots: []}", ["schedule.knots", "must increase"]),
    ("schedule={name: piecewise}", ["schedule.knots", "missing"]),
    ("schedule.warmup=3 epochs", ["schedule.warmup", "3 epochs", "less than the run's 3"]),
    ("schedule.warmup=1", ["schedule.warmup", "1 has no unit", "25%", "5 epochs"]),
    ("schedule.warmup=0.5", ["schedule.warmup", "0.5 has no unit"]),
    ("schedule.warmup=1/0", ["schedule.warmup", "'1/0' has no unit"]),
    ("schedule.warmup=101%", ["schedule.warmup", "101%", "after the run's end"]),
    ("schedule={name: step, milestones: [50, 100]}", ["schedule.milestones.0", "50 has no unit"]),
    ("model.name=resnet5O", ["model.name", "'resnet5O'", "did you mean 'resnet50'"]),
    ("model.mean=[0.1, 0.2, 0.3]", ["model.mean", "3 numbers", "data.channels=1"]),
    ("model.std=[0]", ["model.std", "above 0 and at most 1", "got [0]"]),
    ("model.std=[58.4]", ["model.std", "above 0 and at most 1", "got [58.4]", "divide numbers for 0-255 by 255"]),
    ("model.mean=[116.3]", ["model.mean", "[0,1]", "got [116.3]", "divide numbers for 0-255 by 255"]),
    ("model.mean=[-0.5]", ["model.mean", "[0,1]", "got [-0.5]"]),
    ("optim.name=sdg", ["optim.name", "'sdg'", "did you mean 'sgd'"]),
    ("optim.lr=fast", ["optim.lr", "'fast'", "number"]),
    ("optim.momentum=-1", ["optim.momentum", "-1", "greater than or equal to 0"]),
    ("threat.norm=L3", ["threat.norm", "'L3'", "'Linf', 'L2' or 'L1'"]),
    ("threat.eps=0", ["threat.eps", "got 0", "greater than 0"]),
    ("threat.eps=8/0", ["threat.eps", "'8/0'", "number"]),
    ("threat.eps=.nan", ["threat.eps", "nan"]),
    ("data.channels=2", ["data.channels", "got 2", "1 or 3"]),
    ("data.augment=flip", ["data.augment", "'flip'", "'none'", "'pad_crop_flip'", "'resized_crop_flip'"]),
    ("data.batch_size=1.5", ["data.batch_size", "1.5", "integer"]),
    ("data=5", ["data", "got 5"]),
    ("epochs=", ["epochs", "epochs, steps, images", "got none"]),
    ("epochs=1.5", ["epochs", "1.5", "integer"]),
    ("steps=0", ["steps", "got 0", "greater than 0"]),
    ("epochs=0", ["epochs", "got 0", "greater than 0"]),
    ("seed=-1", ["seed", "-1"]),
    ("seed=${x}", ["seed", "'x' not found"]),
    ("name=a/b", ["name", "'a/b'", "no '/'"]),
    ("name=..", ["name", "'..'", "letters"]),
    ("name=.hidden", ["name", "'.hidden'"]),
    ("allreduce.compression=zip", ["allreduce.compression", "'zip'", "'none' or 'fp16'"]),
    ("allreduce.op=sum", ["allreduce.op", "'sum'", "'average' or 'adasum'"]),
    (
        "allreduce.hierarchical=true",
        ["allreduce.hierarchical", "set Horovod's own variable HOROVOD_HIERARCHICAL_ALLREDUCE"],
    ),
    ("compression=fp16", ["compression", "unknown key"]),
    ("precision=fp8", ["precision", "'fp8'", "'auto', 'fp32', 'bf16' or 'fp16'"]),
    ("label_smoothing=1", ["label_smoothing", "less than 1", "got 1"]),
    ("ema=1", ["ema", "less than 1", "got 1"]),
    ("ema=0", ["ema", "greater than 0", "got 0"]),
    ("target=1", ["target", "less than 1", "got 1"]),
    ("accumulate=0", ["accumulate", "got 0", "greater than 0"]),
    ("optim.lr_rule=cubic", ["optim.lr_rule", "'cubic'", "'linear', 'sqrt' or 'none'"]),
    ("guard.limit=0", ["guard.limit", "got 0", "greater than 0"]),
    ("guard.images=0", ["guard.images", "got 0", "greater than 0"]),
    ("guard.attack.name=pgdd", ["guard.attack.name", "did you mean 'pgd'", ATTACKS]),
    ("guard.ladder=[{name: pgd, stepz: 2}]", ["guard.ladder", "stepz", "did you mean 'steps'"]),
    ("guard.ladder=[{name: pdg}]", ["guard.ladder.0.name", "'pdg'", "did you mean 'pgd'"]),
    ("checkpoint.keep=0", ["checkpoint.keep", "got 0", "greater than 0"]),
    ("checkpoint.minutes=-1", ["checkpoint.minutes:", "-1", "greater than or equal to 0, or auto"]),
    ("checkpoint.minutes=soon", ["checkpoint.minutes:", "soon", "greater than or equal to 0, or auto"]),
    ("phases=[{size: 8, batch_size: 4}]", ["phases.0", "epochs, steps, images", "none"]),
    ("phases=[{epochs: 3, steps: 2, size: 8, batch_size: 4}]", ["phases.0", "epochs and steps", "one of"]),
    ("phases=[{epochs: 2, size: 8, batch_size: 4}]", ["phases", "sum to 2", "epochs is 3"]),
    ("phases=[{epochs: 3, size: 8}]", ["phases.0.batch_size", "missing"]),
    ("phases=[{epochs: 3, size: 8, batch_size: 4, batchsize: 3}]", ["phases.0.batchsize", "batch_size"]),
    ("attack=[1", ["attack=[1"]),
    ('name="a\\nscancel --me"', ["name:", r"'a\nscancel --me'", "line break"]),
    ('data.path="images\\x1b[2J"', ["data.path:", "control character"]),
    ('model.options={"a\\nb": 1}', ["model.options:", r"'a\nb'", "line break"]),
    ('model.options={x: "a\\u2028b"}', ["model.options.x:", "line break"]),
    ("[=1", ["[=1"]),
    ("threat.eps=.inf", ["threat.eps", "inf"]),
    ("optim.lr=.inf", ["optim.lr", "inf"]),
]


@pytest.mark.parametrize(("override", "parts"), BAD, ids=[override for override, _ in BAD])
def test_a_bad_setting_is_explained(tiny: Tiny, override: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        tiny(override)
    message = str(caught.value)
    missing = [part for part in [*parts, override.partition("=")[0]] if part not in message]
    assert not missing, f"the message lacks {missing}:\n{message}"


def test_all_wrong_settings_are_reported_at_once(tiny: Tiny) -> None:
    with pytest.raises(UserError) as caught:
        tiny("epochs=0", "foo=1", "attack.name=x", "data.channels=2")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == ["data.channels", "attack.name", "epochs", "foo"]


def test_combinations_that_do_not_fit_are_reported_at_once(tiny: Tiny) -> None:
    with pytest.raises(UserError) as caught:
        tiny("schedule.warmup=9 epochs", "data.channels=3", "evaluation.every=0", "target=0.5")
    for key in ("schedule.warmup:", "model.mean:", "model.std:", "target:"):
        assert key in str(caught.value)


def test_an_override_without_a_value_is_refused(tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"'epochs' is no setting: write key=value"):
        tiny("seed=1", "epochs")


def test_a_config_without_anything_says_all_that_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(UserError) as caught:
        load(tmp_path / "empty.yaml")
    for key in ("threat", "data", "model"):
        assert f"{key}: missing" in str(caught.value)


FILES = {
    "malformed": (b"a: [1\n", "bad.yaml is no readable YAML"),
    "list": (b"- 1\n- 2\n", "bad.yaml must hold 'key: value' lines at its top level"),
    "text": (b"hello\n", "'key: value'|unknown key"),
    "binary": (b"\xff\xfe\x00\x01", "bad.yaml is no readable YAML"),
    "duplicate": (b"epochs: 1\nepochs: 2\n", "duplicate key epochs"),
    "no-base": (b"base: nowhere.yaml\n", "no config file .*nowhere.yaml"),
    "number-base": (b"base: 5\n", "base"),
    "list-base": (b"base: [a.yaml, b.yaml]\n", "base"),
    "interpolated-base": (b"base: ${folder}/a.yaml\n", "bad.yaml is no readable YAML: .*'folder' not found"),
    "set": (b"epochs: !!set {1, 2}\n", "bad.yaml is no readable YAML"),
    "null-key": (b"null: 1\n", "bad.yaml is no readable YAML"),
    "deep": (b"a: " + b"[" * 9000 + b"]" * 9000, "bad.yaml.*(no readable YAML|nests too deeply)"),
    "deep-and-whole": (b"model: " + b"[" * 200 + b"]" * 200, "bad.yaml"),
    "odd-tag": (b"epochs: !!bool x\n", "bad.yaml is no readable YAML"),
    "odd-time": (b"name: !!timestamp x\n", "bad.yaml is no readable YAML"),
    "control-base": (b'base: "a\\0b.yaml"\n', r"base: 'a\\x00b.yaml' is no file name"),
    "long-base": (b"base: " + b"a" * 4000, "File name too long"),
    "own-base": (b"base: bad.yaml\n", "bad.yaml -> .*bad.yaml is a circle"),
    "own-base-elsewhere": (b"base: ../bad/bad.yaml\n", "is a circle"),
}


@pytest.mark.parametrize(("content", "problem"), FILES.values(), ids=FILES)
def test_a_bad_file_is_explained(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "bad" / "bad.yaml"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match=problem):
        load(path)


def test_a_circle_of_bases_is_shown(tmp_path: Path) -> None:
    for name, base in {"a": "b", "b": "c", "c": "a"}.items():
        (tmp_path / f"{name}.yaml").write_text(f"base: {base}.yaml\n{RUN}")
    with pytest.raises(UserError, match=r"a\.yaml -> .*b\.yaml -> .*c\.yaml -> .*a\.yaml is a circle"):
        load(tmp_path / "a.yaml")


def test_a_missing_file_lists_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no config file nowhere.yaml; there are: configs/cifar10_l2.yaml, "):
        load(Path("nowhere.yaml"))  # those that came with hpcfast
    Path("configs").mkdir()
    with pytest.raises(UserError, match=r"no config file nowhere.yaml; there are: none in configs/"):
        load(Path("nowhere.yaml"))
    Path("configs/digits.yaml").write_text("")
    with pytest.raises(UserError, match=r"there are: configs/digits.yaml$"):
        load(Path("nowhere.yaml"))


def test_a_configuration_that_came_with_hpcfast_is_read_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = load(Path("configs/digits_l2_standard.yaml"))
    assert (theirs.name, theirs.attack.name, theirs.epochs) == ("digits_l2_standard", "standard", 20)
    Path("configs").mkdir()
    Path("configs/digits_l2.yaml").write_text("epochs: 7")
    assert load(Path("configs/digits_l2_standard.yaml")) == theirs, "its base is theirs, too"
    Path("configs/digits_l2.yaml").write_text(Path(slurm.HOME["HPCFAST_HOME"], "configs/digits_l2.yaml").read_text())
    Path("configs/digits_l2_standard.yaml").write_text("{base: digits_l2.yaml, attack: {name: standard}, epochs: 3}")
    assert load(Path("configs/digits_l2_standard.yaml")).epochs == 3


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readable YAML"):
        load(tmp_path)


def test_a_setting_that_is_no_utf_8_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text("{}")
    with pytest.raises(UserError, match=r"data\.path=image\\xe9: this is no UTF-8.*rename the file"):
        load(tmp_path / "tiny.yaml", [os.fsdecode(b"data.path=image\xe9")])


@pytest.mark.parametrize(
    "override", ["data=" + "[" * 900, "[" * 900 + "=1", "a." * 900 + "b=1", "epochs=!!bool x", "x=*a"]
)
def test_an_override_that_nobody_can_read_is_one_message(tiny: Tiny, override: str) -> None:
    with pytest.raises(UserError, match=r"tiny\.yaml, .*: ."):
        tiny(override)


@pytest.mark.parametrize(
    "override", ["attack.name={}", "model.name={}", "optim.lr={}", "{}=1", 'model.options.x="\\0{}"']
)
def test_of_a_long_value_the_message_has_the_start(tiny: Tiny, override: str) -> None:
    with pytest.raises(UserError) as caught:
        tiny(override.format("a" * 100_000))
    assert len(str(caught.value).partition("wrong settings")[2]) < 3000
