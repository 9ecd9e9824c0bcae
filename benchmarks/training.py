"""Fast training end to end, from JPEGs on: images through loader, attack and update, ResNet-18 at 64 pixels.

Ours reads with DALI and computes in bf16 where the machine can; the reference way reads with Pillow in a worker of
torchvision's, and attacks with ``backward`` in fp32 on contiguous tensors. One thread each, and one that reads.
"""

from collections.abc import Callable

from benchmarks import Bench, loader, ours, rivals
from benchmarks.peers import Peer
from benchmarks.table import Row, compare
from hpcfast.bench import take_turns
from hpcfast.config import RunConfig
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.training.step import Learner

TITLE = "Training, end to end"


def rows(bench: Bench) -> list[Row]:
    """Measure."""
    images, batch, rounds = (8, 4, 1) if bench.short else (128, 32, 5)
    config = (
        ours.config("cifar_resnet8", {"width": 2}, 16, batch) if bench.short else ours.config("resnet18", {}, 64, batch)
    )
    split = read_splits(loader.photographs(bench))[0].some(images)
    cases = {
        "hpcfast fast, bf16": _own(bench, split, config.model_copy(update={"precision": "bf16"})),
        "hpcfast fast, fp32": _own(bench, split, config),
        "reference way": _reference(bench, split, config),
    }
    taken = take_turns(cases, rounds)
    bf16, fp32, reference = cases
    return [
        compare(taken, bf16, reference, "bf16 units; then as the next row", asked=1 / 1.25),
        compare(taken, fp32, reference, "channels-last; decoding is a small part at this size", 5 / 6, 1 / 1.25),
    ]


def _own(bench: Bench, split: Split, config: RunConfig) -> Callable[[], None]:
    learner = Learner(config, len(split.classes), bench.world)
    learner.model.train()
    batches = loader.own(bench, split, config.data.size, config.data.batch_size)

    def run() -> None:
        for batch in batches():
            learner.step([batch], config.attack, config.optim.lr, 0).item()

    return run


def _reference(bench: Bench, split: Split, config: RunConfig) -> Callable[[], None]:
    device = bench.world.device
    peer = Peer(config, len(split.classes), device)
    batches = loader.torchvision(bench, split, config.data.size, config.data.batch_size, rivals.pil)

    def run() -> None:
        for x, y in batches():
            peer.step(x.to(device), y.to(device), peer.reference)

    return run
