"""The formats of an export: how each is written, read again by the loader that its users have, and used in Python.

Where the normalisation is inside, images in [0,1] go in and logits come out.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from hpcfast import foreign
from hpcfast.errors import UserError
from hpcfast.export import hub
from hpcfast.models import ModelSettings, pretrained

Logits = Callable[[Tensor], Tensor]
"""Maps images (n, channels, h, w), float32, to logits (n, classes)."""

OPSET = 18
"""Of ONNX: the one torch.onnx is written for; others are converted from it."""


@dataclass(frozen=True)
class Format:
    """What the file is, in Markdown; how it is used in Python (see :func:`python`), written and read again."""

    describe: str
    recipe: str
    write: Callable[[nn.Module, Tensor, Path], object]
    """Given images for the model."""
    read: Callable[[Path, ModelSettings], Logits]
    after: str = ""
    """What else the card says, at its end."""
    folder: bool = False
    """Whether it is a folder, of the names that the Hub gives to files."""


def python(form: Format, file: str, model: ModelSettings, classes: int) -> str:
    """Python that computes ``logits`` of ``images`` (n, channels, h, w), with the file in the working directory."""
    options = {"num_classes": classes, "in_chans": len(model.mean), **model.options}
    arguments = ", ".join(f"{key}={value!r}" for key, value in options.items())
    own = foreign.is_path(model.name)
    module, _, member = model.name.rpartition(".")
    create = f"{member}({arguments})" if own else f'timm.create_model("{model.name}", {arguments})'
    moments = {"channels": len(model.mean), "mean": list(model.mean), "std": list(model.std)}
    code = form.recipe.format(file=json.dumps(file, ensure_ascii=False), create=create, **moments)
    if own:
        return f"from {module} import {member}\n" * ("{create}" in form.recipe) + code
    ours = "timm" in form.recipe and timm.model_entrypoint(model.name).__module__.startswith("hpcfast")
    return f"import hpcfast.models  # adds {model.name} to timm\n" * ours + code


def _plain(net: nn.Module) -> dict[str, Tensor]:
    """The state dict in the usual memory layout: channels-last is our choice, not the reader's."""
    return {name: tensor.detach().contiguous() for name, tensor in net.state_dict().items()}


def _write_robustbench(model: nn.Module, images: Tensor, path: Path) -> None:
    normalise = model.get_submodule("normalise").state_dict()
    moments = {"mu": normalise["mean"], "sigma": normalise["std"]}
    torch.save({"state_dict": {**moments, **_plain(model.get_submodule("net"))}}, path)


def _read_weights(path: Path, settings: ModelSettings) -> Logits:
    return pretrained.load(path, settings.name, options=settings.options)[0]


def _read_state_dict(path: Path, settings: ModelSettings) -> Logits:
    return pretrained.load(path, settings.name, settings.mean, settings.std, options=settings.options)[0]


def _write_torchscript(model: nn.Module, images: Tensor, path: Path) -> None:
    # TorchScript is deprecated, but the one format that C++ loads without a compiler; and what a trace may have frozen
    # in is found when the file is checked with batches of other sizes.
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.trace(model, images), path)


def _read_torchscript(path: Path, settings: ModelSettings) -> Logits:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return torch.jit.load(path)


def _write_onnx(model: nn.Module, images: Tensor, path: Path) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            raise UserError(
                f"--format onnx needs the package {package}, which is not installed; "
                f"'HPCFAST_EXTRAS=onnx scripts/setup' installs it"
            )
    torch.onnx.export(
        model,
        (images,),
        path,
        input_names=["images"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,  # one file
        verbose=False,
    )


def _read_onnx(path: Path, settings: ModelSettings) -> Logits:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # its own choice is every core, which may be others'
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


FORMATS = {
    "safetensors": Format(
        "Weights as safetensors, which hold no code. The network's names begin with `net.`; `normalise.mean` and "
        "`normalise.std` (pixels in [0,1]) are in the file.",
        """\
import timm
from safetensors.torch import load_file
weights = load_file({file})
net = {create}
net.load_state_dict({{name[4:]: tensor for name, tensor in weights.items() if name.startswith("net.")}})
logits = net.eval()((images - weights["normalise.mean"]) / weights["normalise.std"])
""",
        # save_file would hide it from the user's group
        lambda model, images, path: path.write_bytes(safetensors.torch.save(_plain(model))),
        _read_weights,
    ),
    "state-dict": Format(
        "The network's state dict, written by `torch.save`. **Normalisation is not inside:** subtract the mean and "
        "divide by the standard deviation below.",
        """\
import timm
import torch
net = {create}
net.load_state_dict(torch.load({file}, weights_only=True))
mean, std = torch.tensor({mean}).view(1, -1, 1, 1), torch.tensor({std}).view(1, -1, 1, 1)
logits = net.eval()((images - mean) / std)
""",
        lambda model, images, path: torch.save(_plain(model.get_submodule("net")), path),
        _read_state_dict,
    ),
    "torchscript": Format(
        "A TorchScript program, normalisation inside, for batches of any size.",
        "import torch\nlogits = torch.jit.load({file})(images)\n",
        _write_torchscript,
        _read_torchscript,
    ),
    "onnx": Format(
        f"An ONNX program (opset {OPSET}), normalisation inside, for batches of any size: input `images`, output "
        "`logits`.",
        """\
import onnxruntime
session = onnxruntime.InferenceSession({file})
(logits,) = session.run(["logits"], {{"images": images.numpy()}})
""",
        _write_onnx,
        _read_onnx,
    ),
    "robustbench": Format(
        "A checkpoint for RobustBench: `state_dict`, with the normalisation in the buffers `mu` and `sigma`.",
        """\
import timm
import torch
net = {create}
net.register_buffer("mu", torch.zeros(1, {channels}, 1, 1))
net.register_buffer("sigma", torch.ones(1, {channels}, 1, 1))
net.register_forward_pre_hook(lambda net, inputs: (inputs[0] - net.mu) / net.sigma)
net.load_state_dict(torch.load({file}, weights_only=True)["state_dict"])
logits = net.eval()(images)
""",
        _write_robustbench,
        _read_weights,
        """
## Before it is in RobustBench

The file has the form that RobustBench's `load_model` reads; RobustBench does not know the network yet.

1. Put the file at `MODEL_DIR/DATASET/THREAT/NAME.pt`, the JSON file beside it at `model_info/DATASET/THREAT/NAME.json`.
2. In its JSON fill in `link`, `name`, `authors` and `venue`; check `dataset` and `additional_data`.
3. Add the network, with the buffers `mu` and `sigma` as above, to RobustBench's `model_zoo`, under the same name.
4. Run RobustBench's `benchmark` on all its test images for `autoattack_acc`. `reported` is our number, under the
   attack in `footnote`.
""",
    ),
    "hub": Format(
        "A model repository of the Hugging Face Hub, for timm. **Normalisation is in `config.json`** "
        "(`pretrained_cfg`: `mean`, `std`), as timm has it, and not in the network.",
        """\
import timm
import torch
net = timm.create_model("local-dir:" + {file}, pretrained=True)
mean, std = (torch.tensor(net.pretrained_cfg[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
logits = net.eval()((images - mean) / std)
""",
        lambda model, images, path: path.write_bytes(safetensors.torch.save(_plain(model.get_submodule("net")))),
        hub.read,
        """
From the Hub: `timm.create_model("hf-hub:OWNER/NAME", pretrained=True)`.
""",
        folder=True,
    ),
}
