"""The watch for catastrophic overfitting: one-step training that stops protecting, often within an epoch.

The network learns to defeat its own training attack and nothing else. The sign of it is a gap: accuracy under the
training attack stays high, accuracy under a strong one falls (Wong, Rice, Kolter 2020, section 5.3; gradient
alignment: Andriushchenko and Flammarion 2020). A weak strong attack would miss the quiet form of it, hence APGD.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcfast.attacks import Attack, input_gradient, rng
from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.data.split import Split
from hpcfast.distributed import comm
from hpcfast.errors import UserError
from hpcfast.evaluation import Pieces, batch_size, classify, evaluating, shared_out


@dataclass(frozen=True)
class Health:
    """What an examination found, on images held out of training, as fractions."""

    seen: float
    """Accuracy under the attack that training uses."""
    strong: float
    """Accuracy under the guard's attack."""
    alignment: float
    """Mean cosine between input gradients at an image and at a random start near it, where they aren't zero."""


class Guard:
    """Which attack training uses now, what became of the earlier ones, and whether it still protects."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._attacks = config.guard.attacks(config.attack)
        self.history: list[dict[str, Any]] = []

    @property
    def attack(self) -> Attack:
        """The attack to train with."""
        rung = sum(entry["answer"] is not None for entry in self.history)
        return self._attacks[rung]

    @property
    def on(self) -> bool:
        """Whether the present attack is watched at all."""
        return bool(self.config.guard.every) and self.attack.guarded

    def due(self, epoch: int, finished: bool) -> bool:
        """Whether to look after ``epoch`` epochs; at the end always."""
        return self.on and (finished or epoch % self.config.guard.every == 0)

    def collapsed(self, health: Health) -> bool:
        return health.seen - health.strong > self.config.guard.limit

    def answer(self, health: Health, epoch: int) -> bool:
        """Note a collapse and change the attack; False where the ladder has no rung left."""
        rung = self._attacks.index(self.attack) + 1
        answer = self._attacks[rung].model_dump() if rung < len(self._attacks) else None
        self.history.append({"epoch": epoch, **asdict(health), "attack": self.attack.model_dump(), "answer": answer})
        return answer is not None

    def examine(
        self, model: nn.Module, split: Split, world: comm.World, pause: Callable[[], None] = lambda: None
    ) -> Health:
        """Measure ``model`` on a few images of ``split``, without augmentation; a collective of all ranks.

        ``pause`` is called after each batch, equally often on all ranks.

        Raises:
            UserError: on all ranks: none of these images can be read.
        """
        ids = split.evenly(max(self.config.guard.images, world.size))
        sums = torch.zeros(5, dtype=torch.float64)
        with evaluating(model):
            pieces = Pieces(batch_size([model], self.config, world))
            for batch in shared_out(split, ids, pieces.most, self.config, world):
                for found in pieces.each(lambda piece: self._sums(model, piece), batch):
                    sums += found
                pause()
        n, seen, strong, aligned, directed = comm.total(sums).tolist()
        if not n:
            raise UserError(
                f"{split.root}: none of the {len(ids)} images that the guard looks at can be read; 'hpcfast data "
                f"verify' lists the bad ones"
            )
        return Health(seen / n, strong / n, aligned / max(directed, 1))

    def _sums(self, model: nn.Module, batch: Batch) -> Tensor:
        """Images; right answers under both attacks; cosines; how many have one. Sums, float64, shape (5,)."""
        (x, y, image_ids), ball = batch, self.config.threat.ball

        def source() -> rng.Source:
            return rng.per_image(self.config.seed, image_ids)

        attacked = [each.perturb(model, x, y, ball, source()) for each in (self.attack, self.config.guard.attack)]
        right = [(classify(model, images) == y).sum() for images in attacked]
        here, there = (input_gradient(model, at, y).flatten(1) for at in (x, x + ball.start(x, source())))
        cosines, directed = F.cosine_similarity(here, there).sum(), (here.any(1) & there.any(1)).sum()
        return torch.stack([torch.full_like(directed, len(y)), *right, cosines, directed]).double().cpu()
