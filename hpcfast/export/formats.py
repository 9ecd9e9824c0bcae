"""The formats of an export: how each is written, and read again by the loader that its users have.

Where the normalisation is inside, images in [0,1] go in and logits come out.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from hpcfast.errors import UserError
from hpcfast.models import ModelSettings, pretrained

Logits = Callable[[Tensor], Tensor]
"""Maps images (n, channels, h, w), float32, to logits (n, classes)."""

OPSET = 18
"""Of ONNX: the one torch.onnx is written for; others are converted from it."""


@dataclass(frozen=True)
class Format:
    """One format."""

    describe: str
    """What the file is, in a sentence or two of Markdown."""
    write: Callable[[nn.Module, Tensor, Path], None]
    """Writes a model, given images for it, to a file."""
    read: Callable[[Path, ModelSettings], Logits]
    """Loads the file again, for a network of these settings."""


def _write_safetensors(model: nn.Module, images: Tensor, path: Path) -> None:
    path.write_bytes(safetensors.torch.save(_plain(model)))  # save_file would hide it from the user's group


def _write_state_dict(model: nn.Module, images: Tensor, path: Path) -> None:
    torch.save(_plain(model.get_submodule("net")), path)


def _write_robustbench(model: nn.Module, images: Tensor, path: Path) -> None:
    normalise = model.get_submodule("normalise").state_dict()
    moments = {"mu": normalise["mean"], "sigma": normalise["std"]}
    torch.save({"state_dict": {**moments, **_plain(model.get_submodule("net"))}}, path)


def _plain(net: nn.Module) -> dict[str, Tensor]:
    """The state dict in the usual memory layout: channels-last is our choice, not the reader's."""
    return {name: tensor.detach().contiguous() for name, tensor in net.state_dict().items()}


def _read_weights(path: Path, settings: ModelSettings) -> Logits:
    return pretrained.load(path, settings.name, options=settings.options)[0]


def _read_state_dict(path: Path, settings: ModelSettings) -> Logits:
    return pretrained.load(path, settings.name, settings.mean, settings.std, options=settings.options)[0]


def _write_torchscript(model: nn.Module, images: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        # TorchScript is deprecated, but the one format that C++ loads without a compiler; and what a trace may have
        # frozen in is found when the file is checked with batches of other sizes.
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, images), path)


def _read_torchscript(path: Path, settings: ModelSettings) -> Logits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        program: Logits = torch.jit.load(path)
    return program


def _write_onnx(model: nn.Module, images: Tensor, path: Path) -> None:
    _need_onnx()
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
    _need_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # its own choice is every core, which may be others'
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"--format onnx needs the package {error.name}, which is not installed; "
            f"'HPCFAST_EXTRAS=onnx scripts/setup' installs it"
        ) from None


FORMATS = {
    "safetensors": Format(
        "Weights as safetensors, which hold no code. The network's names begin with `net.`; `normalise.mean` and "
        "`normalise.std` (pixels in [0,1]) are in the file.",
        _write_safetensors,
        _read_weights,
    ),
    "state-dict": Format(
        "The network's state dict, written by `torch.save`. **Normalisation is not inside:** subtract the mean and "
        "divide by the standard deviation below.",
        _write_state_dict,
        _read_state_dict,
    ),
    "torchscript": Format(
        "A TorchScript program, normalisation inside, for batches of any size.",
        _write_torchscript,
        _read_torchscript,
    ),
    "onnx": Format(
        f"An ONNX program (opset {OPSET}), normalisation inside, for batches of any size: input `images`, output "
        "`logits`.",
        _write_onnx,
        _read_onnx,
    ),
    "robustbench": Format(
        "A checkpoint for RobustBench: `state_dict`, with the normalisation in the buffers `mu` and `sigma`.",
        _write_robustbench,
        _read_weights,
    ),
}
