"""Small networks and batches for tests of attacks."""

import functools

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hpcfast.attacks.norms import L1, L2, Ball, Linf

BALLS = [Linf(8 / 255), L2(0.5)]


def ball_name(ball: Ball) -> str:
    return f"{type(ball).__name__}({ball.eps:.3g})"


def assert_adversarial(ball: Ball, x: Tensor, x_adv: Tensor) -> None:
    """Assert what every attack promises of its images, for all rows."""
    order = {Linf: float("inf"), L2: 2.0, L1: 1.0}[type(ball)]
    lengths = (x_adv.double() - x.double()).flatten(1).norm(order, dim=1)
    assert (lengths <= ball.eps + 1e-6).all(), f"distances {lengths.tolist()} for eps {ball.eps}"
    assert x_adv.shape == x.shape
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert not x_adv.requires_grad


def linear(classes: int = 3, seed: int = 0) -> nn.Module:
    """A linear model of 2x3x3 images."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(18, classes))


def convolutional() -> nn.Module:
    """Convolution, BatchNorm, Dropout: what makes train and eval mode differ. For 2x3x3 images."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(36, 3)
    )


def pictures(n: int = 12, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Images (n, 2, 3, 3), some of whose pixels are at the ends of [0,1], and classes below 3."""
    generator = torch.Generator().manual_seed(seed)
    x = (1.4 * torch.rand(n, 2, 3, 3, generator=generator) - 0.2).clamp(0, 1)
    return x, torch.randint(3, (n,), generator=generator)


@functools.cache
def trained_digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A small trained network in eval mode, and 100 digits (8x8) that it classifies rightly."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:1000]), y[:1000]).backward()
        optimizer.step()
    model.eval()
    right = (model(x[1000:]).argmax(1) == y[1000:]).nonzero().squeeze(1)[:100]
    return model, x[1000:][right], y[1000:][right]
