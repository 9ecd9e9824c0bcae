"""How a stranger loads an exported file: the few lines of Python in its card. Tests run them as they stand."""

import timm

from hpcfast.models import ModelSettings

_RECIPES = {
    "safetensors": """\
from safetensors.torch import load_file
weights = load_file("{file}")
net = {create}
net.load_state_dict({{name[4:]: tensor for name, tensor in weights.items() if name.startswith("net.")}})
logits = net.eval()((images - weights["normalise.mean"]) / weights["normalise.std"])
""",
    "state-dict": """\
net = {create}
net.load_state_dict(torch.load("{file}", weights_only=True))
mean, std = torch.tensor({mean}).view(1, -1, 1, 1), torch.tensor({std}).view(1, -1, 1, 1)
logits = net.eval()((images - mean) / std)
""",
    "torchscript": """\
logits = torch.jit.load("{file}")(images)
""",
    "onnx": """\
import onnxruntime
session = onnxruntime.InferenceSession("{file}")
(logits,) = session.run(["logits"], {{"images": images.numpy()}})
""",
    "robustbench": """\
net = {create}
net.register_buffer("mu", torch.zeros(1, {channels}, 1, 1))
net.register_buffer("sigma", torch.ones(1, {channels}, 1, 1))
net.register_forward_pre_hook(lambda net, inputs: (inputs[0] - net.mu) / net.sigma)
net.load_state_dict(torch.load("{file}", weights_only=True)["state_dict"])
logits = net.eval()(images)
""",
}

NEXT = {
    "robustbench": """
## Before it is in RobustBench

The file has the form that RobustBench's `load_model` reads; RobustBench does not know the network yet.

1. Put the file at `MODEL_DIR/DATASET/THREAT/NAME.pt`, the JSON file beside it at `model_info/DATASET/THREAT/NAME.json`.
2. In its JSON fill in `link`, `name`, `authors` and `venue`; check `dataset` and `additional_data`.
3. Add the network, with the buffers `mu` and `sigma` as above, to RobustBench's `model_zoo`, under the same name.
4. Run RobustBench's `benchmark` on all its test images for `autoattack_acc`. `reported` is our number, under the
   attack in `footnote`.
"""
}


def python(name: str, file: str, model: ModelSettings, classes: int) -> str:
    """Python that computes ``logits`` of ``images`` (n, channels, h, w), with the file in the working directory."""
    arguments = [f'"{model.name}"', f"num_classes={classes}", f"in_chans={len(model.mean)}"]
    arguments += [f"{key}={value!r}" for key, value in model.options.items()]
    code = _RECIPES[name].format(
        file=file,
        create=f"timm.create_model({', '.join(arguments)})",
        channels=len(model.mean),
        mean=list(model.mean),
        std=list(model.std),
    )
    imports = [] if name == "onnx" else ["import torch\n"]
    if "timm." in code:
        imports.insert(0, "import timm\n")
        if timm.model_entrypoint(model.name).__module__.startswith("hpcfast"):
            imports.insert(0, f"import hpcfast.models  # adds {model.name} to timm\n")
    if name == "safetensors":
        imports.remove("import torch\n")
    return "".join(imports) + code
