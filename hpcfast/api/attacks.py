"""Attacks as objects: ``PGD(model, eps=8/255, steps=10)(x, y)`` returns adversarial images.

They run the code that training and evaluation run (:mod:`hpcfast.attacks`).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from hpcfast import attacks, foreign
from hpcfast.api import checks
from hpcfast.attacks import norms, rng
from hpcfast.component import find, validate

Norm = Literal["Linf", "L2", "L1"]
EPS = 8 / 255


class Attack:
    """An attack on ``model``, a module that maps images with pixels in [0,1] to logits (n, classes).

    Args:
        name: of the attack, a file of :mod:`hpcfast.attacks`, or the import path of a class of your own.
        norm: of the perturbation; "Linf", "L2" or "L1".
        eps: its largest size, pixels in [0,1].
        seed: None: random numbers come from torch's global generator, so that ``torch.manual_seed`` fixes them.
            A number: they depend on it and on each image's number alone, as in ``hpcfast eval``.
        train_mode: attack a model that is in train mode, as adversarial training does. Else that is an error.
        settings: the attack's own.

    Raises:
        UserError: a setting is wrong.
    """

    def __init__(
        self, model: nn.Module, name: str, *, norm: Norm = "Linf", eps: float = EPS, seed: int | None = None,
        train_mode: bool = False, **settings: Any,
    ) -> None:  # fmt: skip
        self.model, self.seed, self.train_mode = model, seed, train_mode
        self.threat = validate(norms.Threat, {"norm": norm, "eps": eps})
        with foreign.trusting():  # it is the caller who names it
            kind: Any = find("hpcfast.attacks", name)
            self.attack: attacks.Attack = validate(kind, {"name": name, **settings})
        self.stops_early = not self.attack.trains

    def __call__(self, x: Tensor, y: Tensor, ids: Tensor | None = None) -> Tensor:
        """Return adversarial images.

        Args:
            x: images, shape (n, channels, height, width), float, pixels in [0,1], on the model's device.
            y: their true classes, shape (n,), int64.
            ids: with a ``seed``, each image's number, shape (n,), int64; by default 0 to n - 1.

        Returns:
            Images of the shape of ``x``, detached, pixels in [0,1], no farther than eps from ``x``. The model's weights
            get no gradients.

        Raises:
            UserError: the images, classes or logits are none, or the model is in train mode.
        """
        if not self.train_mode:
            checks.mode(self.model)
        checks.images(x)
        checks.device(self.model, x)
        with torch.no_grad():
            logits = checks.logits(self.model(x), x) if len(x) else x.flatten(1)
        checks.classes(y, x, logits.shape[1] if len(x) else None)
        if not len(x):
            return x.clone()
        ball, source = self.threat.ball, self._sources(x, ids)
        if not self.stops_early:
            return self.attack.perturb(self.model, x, y, ball, source(0, torch.arange(len(x)))).detach()
        tries = self.attack.tries(ball, logits.shape[1]).values()
        return attacks.in_turn(tries, self.model, x, y, ball, source).detach()

    def _sources(self, x: Tensor, ids: Tensor | None) -> attacks.Sources:
        numbers = torch.arange(len(x)) if ids is None else ids.cpu()
        if self.seed is None:
            own = torch.Generator(x.device).manual_seed(int(torch.randint(2**62, ())))
            return lambda number, rows: own
        seed = self.seed
        return lambda number, rows: rng.per_image(seed, numbers[rows.cpu()], number)

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in self.attack.model_dump(exclude={"name"}).items())
        return f"{type(self).__name__}(norm={self.threat.norm}, eps={self.threat.eps:.4g}, {settings})"


class PGD(Attack):
    """Projected gradient descent from a random start (Madry et al., ICLR 2018).

    ``steps`` steps of ``alpha`` (by default 2.5 eps / steps); the worst of ``restarts``. ``stop_early``: an image that
    is misclassified stays as it is from then on, as in ``hpcfast eval --attack pgd``; it fools the model more often.
    """

    def __init__(
        self, model: nn.Module, eps: float = EPS, steps: int = 10, *, alpha: float | None = None, restarts: int = 1,
        norm: Norm = "Linf", stop_early: bool = False, seed: int | None = None, train_mode: bool = False,
    ) -> None:  # fmt: skip
        settings = {"steps": steps, "alpha": alpha, "restarts": restarts}
        super().__init__(model, "pgd", norm=norm, eps=eps, seed=seed, train_mode=train_mode, **settings)
        self.stops_early = stop_early


class FGSM(Attack):
    """One step of ``alpha`` (by default 1.25 eps) from a ``start``: "random" (Wong, Rice, Kolter, ICLR 2020) or "zero".

    From zero it is the original (Goodfellow, Shlens, Szegedy, ICLR 2015), its step cut to eps.
    """

    def __init__(
        self, model: nn.Module, eps: float = EPS, *, alpha: float | None = None,
        start: Literal["random", "zero"] = "random", norm: Norm = "Linf", seed: int | None = None,
        train_mode: bool = False,
    ) -> None:  # fmt: skip
        settings = {"alpha": alpha, "start": start}
        super().__init__(model, "fgsm_rs", norm=norm, eps=eps, seed=seed, train_mode=train_mode, **settings)


class NFGSM(Attack):
    """One step of ``alpha`` (by default eps) from ``noise`` times eps of noise (de Jorge et al., NeurIPS 2022).

    For training: the result lies outside the ball.
    """

    def __init__(
        self, model: nn.Module, eps: float = EPS, *, noise: float = 2.0, alpha: float | None = None,
        norm: Norm = "Linf", seed: int | None = None, train_mode: bool = False,
    ) -> None:  # fmt: skip
        settings = {"noise": noise, "alpha": alpha}
        super().__init__(model, "nfgsm", norm=norm, eps=eps, seed=seed, train_mode=train_mode, **settings)


class APGD(Attack):
    """Auto-PGD on the cross-entropy, then towards each of the ``targets`` likeliest wrong classes (Croce and Hein).

    As in AutoAttack's standard version (ICML 2020). An image that is misclassified stays as it is.
    """

    def __init__(
        self, model: nn.Module, eps: float = EPS, steps: int = 100, *, targets: int = 9, norm: Norm = "Linf",
        seed: int | None = None, train_mode: bool = False,
    ) -> None:  # fmt: skip
        settings = {"steps": steps, "targets": targets}
        super().__init__(model, "apgd", norm=norm, eps=eps, seed=seed, train_mode=train_mode, **settings)


class AutoAttack(Attack):
    """AutoAttack (Croce and Hein, ICML 2020): ``version`` "standard", or "rand" for models that draw random numbers."""

    def __init__(
        self, model: nn.Module, eps: float = EPS, *, version: Literal["standard", "rand"] = "standard",
        norm: Norm = "Linf", seed: int | None = None, train_mode: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(model, "autoattack", norm=norm, eps=eps, seed=seed, train_mode=train_mode, version=version)


class Square(Attack):
    """Square Attack (Andriushchenko et al., ECCV 2020): a search with ``queries`` looks at logits, and no gradients."""

    def __init__(
        self, model: nn.Module, eps: float = EPS, queries: int = 5000, *, norm: Norm = "Linf",
        seed: int | None = None, train_mode: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(model, "square", norm=norm, eps=eps, seed=seed, train_mode=train_mode, queries=queries)
