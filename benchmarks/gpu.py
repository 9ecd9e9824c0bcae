"""ResNet-50 on GPUs, on paper: ``python -m benchmarks.gpu`` prints the tables of docs/gpu-performance.md.

With ``--check``, on a machine with a GPU, steps are measured and compared with those predicted for it.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import timm
from torch import nn

from benchmarks import roofline, table
from benchmarks.roofline import GPUS, Gpu, Step
from hpcfast.attacks.fgsm_rs import FgsmRs
from hpcfast.attacks.norms import L2
from hpcfast.attacks.standard import Standard

SIZES = (128, 224, 288)
BATCH = 256
LATENCY = 10e-6
"""Seconds of a message between nodes: an assumption."""
CORE = {128: 545, 224: 410}
"""Images a core-second of hpcfast's loader, full-size JPEGs, on a busy 2-core machine: `hpcfast bench loader`."""


class Prediction:
    """The steps at each size, and what published training rates say of the bound."""

    def __init__(self, model: nn.Module) -> None:
        self.standard = {size: self._trace(model, size, Standard(name="standard")) for size in SIZES}
        # From zero, since a random start would draw numbers; its kernels are a few of hundreds.
        self.fast = {size: self._trace(model, size, FgsmRs(name="fgsm_rs", start="zero")) for size in SIZES}
        self.volume = 4 * sum(weight.numel() for weight in model.parameters())
        """Bytes of gradients, float32."""
        self.shares = {gpu.name: roofline.reached(self.standard[224], gpu) for gpu in GPUS}

    @staticmethod
    def _trace(model: nn.Module, size: int, attack: Standard | FgsmRs) -> Step:
        return roofline.trace(model, size, BATCH, attack, L2(3.0))

    def share(self, gpu: Gpu) -> float:
        """What is reached of the bound; where nothing was published, what the worst of the others reaches."""
        return self.shares.get(gpu.name) or min(share for share in self.shares.values() if share)

    def images_per_second(self, step: Step, gpu: Gpu) -> float:
        """What to expect of one GPU."""
        return self.share(gpu) * step.images_per_second(gpu)


def work(made: Prediction) -> Iterator[str]:
    """FLOPs and bytes of an image."""
    yield "| px | standard: GFLOP | MB | fast: GFLOP | MB | FLOPs, fast / standard | bytes |"
    yield "|---|---|---|---|---|---|---|"
    for size in SIZES:
        one, two = made.standard[size], made.fast[size]
        cells = [f"{step.flops / 1e9:.1f} | {step.bytes / 1e6:.0f}" for step in (one, two)]
        yield f"| {size} | {' | '.join(cells)} | {two.flops / one.flops:.2f} | {two.bytes / one.bytes:.2f} |"


def rates(made: Prediction) -> Iterator[str]:
    """Images a second of a GPU."""
    yield "| GPU | px | standard: at most | expected | fast: at most | expected | standard / fast | of the bound |"
    yield "|---|---|---|---|---|---|---|---|"
    for gpu in GPUS:
        source = f"{made.share(gpu):.2f}" + ("" if gpu.published else ", assumed")
        for size in SIZES:
            steps = made.standard[size], made.fast[size]
            cells = [f"{s.images_per_second(gpu):,.0f} | {made.images_per_second(s, gpu):,.0f}" for s in steps]
            ratio = steps[0].images_per_second(gpu) / steps[1].images_per_second(gpu)
            yield f"| {gpu.name} | {size} | {' | '.join(cells)} | {ratio:.2f} | {source} |"


def network(made: Prediction) -> Iterator[str]:
    """The allreduce against the backward pass that can hide it; the loader."""
    yield (
        "| GPU | px | backward pass | allreduce, 8 nodes: ring | tree | 512 nodes: ring | tree | ring stops hiding at "
        "| tree | CPU cores a GPU |"
    )
    yield f"|{'---|' * 10}"
    for gpu in GPUS:
        for size, per_core in CORE.items():
            step = made.fast[size]
            backward = step.hidden(gpu) / made.share(gpu)
            times = [
                f"{1e3 * roofline.allreduce_seconds(gpu, nodes, made.volume, LATENCY, tree):.1f} ms"
                for nodes in (8, 512)
                for tree in (False, True)
            ]
            ends = [roofline.stops_hiding(gpu, backward, made.volume, LATENCY, tree) for tree in (False, True)]
            words = [f"{nodes:,} nodes" if nodes else "none to 65,536" for nodes in ends]
            cores = made.images_per_second(step, gpu) / per_core
            cells = [gpu.name, str(size), f"{1e3 * backward:.0f} ms", *times, *words, f"{cores:.1f}"]
            yield f"| {' | '.join(cells)} |"


def markdown(made: Prediction) -> str:
    """The tables."""
    titles = {"Work of an image": work, "Images a second of one GPU": rates, "Network and loader": network}
    return "\n\n".join(f"### {title}\n\n" + "\n".join(lines(made)) for title, lines in titles.items())


def check(made: Prediction) -> Iterator[str]:
    """Measured against predicted, on the GPU of this machine."""
    import torch

    from hpcfast.bench.step import steps
    from hpcfast.distributed import comm

    if not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; without --check the prediction is printed")
    name = torch.cuda.get_device_name()
    gpu = next((gpu for gpu in GPUS if gpu.name.split()[0] in name), None)
    if gpu is None:
        raise SystemExit(f"nothing is predicted for {name}, only for {', '.join(gpu.name for gpu in GPUS)}")
    for size in SIZES:
        rows = steps("resnet50", {}, size, BATCH, 5, comm.init())
        for method, step in (("standard", made.standard[size]), ("fgsm_rs", made.fast[size])):
            row = next(row for row in rows if (row["method"], row["precision"]) == (method, "bf16"))
            measured, expected = BATCH / row["seconds"], made.images_per_second(step, gpu)
            compared = f"{measured:,.0f} images/s, predicted {expected:,.0f}: {measured / expected:.2f}"
            yield f"{name} {size} px {method}: {compared}"


def main() -> None:
    """Print, check, or write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--check", action="store_true", help="measure on this machine's GPU")
    parser.add_argument("--page", type=Path, help="put the tables there, between its markers")
    options = parser.parse_args()
    made = Prediction(timm.create_model("resnet50"))
    if options.page:
        table.insert(options.page, markdown(made))
    elif options.check:
        for line in check(made):
            print(line, flush=True)
    else:
        print(markdown(made))


if __name__ == "__main__":
    main()
