"""Training against several threat models at once: each image meets one of them, drawn at random.

A sampled threat model as in Madaan, Shin and Hwang (ICML 2021), who draw one for a whole batch. Drawn image by
image, it still costs the network one attack on whole batches.
"""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, SerializeAsAny, field_validator
from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Criterion, Source, rng
from hpcfast.attacks.norms import RowWise, Threat
from hpcfast.component import chosen_from


class Mixed(Attack):
    """Another attack, on images that each have one of ``threats`` instead of the run's threat model.

    For training only: the threat model that an evaluation names is not the one attacked, ``ball`` plays no part.
    """

    plainly = "Another attack, under one of several limits for each image."
    in_ball = False

    threats: Annotated[tuple[Threat, ...], Field(min_length=2)]
    """Two threat models or more; each image gets one."""
    attack: Annotated[SerializeAsAny[Attack], chosen_from("hpcfast.attacks")]
    """The attack that runs under them."""

    @field_validator("attack")
    @classmethod
    def _works_row_by_row(cls, attack: Attack) -> Attack:
        if attack.name == "mixed" or not attack.trains:
            raise ValueError(f"'{attack.name}' cannot be mixed; name a training method, e.g. fgsm_rs, nfgsm or pgd")
        if (restarts := getattr(attack, "restarts", 1)) > 1:
            raise ValueError(f"restarts {restarts} cannot be mixed; leave it at 1")
        return attack

    @property
    def updates(self) -> int:
        return self.attack.updates

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        return self.attack.perturb(model, x, y, self._balls(x, source), source)

    def losses(
        self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source, criterion: Criterion
    ) -> Iterator[Tensor]:
        return self.attack.losses(model, x, y, self._balls(x, source), source, criterion)

    def _balls(self, x: Tensor, source: Source) -> RowWise:
        draw = rng.uniform(x[:, :1, :1, :1], source).flatten()
        return RowWise([threat.ball for threat in self.threats], (len(self.threats) * draw).long())
