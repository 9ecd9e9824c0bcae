"""A package of a user's own, for tests: an attack, a network, a schedule and a data source."""

from pathlib import Path

FILES = {
    "attacks.py": '''
from hpcfast.attacks import Attack


class NoiseOnly(Attack):
    """Noise from a part of the ball, and no gradient."""

    share: float = 1.0

    def perturb(self, model, x, y, ball, source):
        return (x + self.share * ball.start(x, source)).clamp(0, 1)


class Unfinished(Attack):
    pass
''',
    "nets.py": """
from torch import nn


def build(num_classes, in_chans, width=4):
    convolution = nn.Conv2d(in_chans, width, 3, stride=2, padding=1)
    layers = nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, num_classes)
    return nn.Sequential(convolution, *layers)


def nothing(num_classes, in_chans):
    return None


NUMBER = 3
""",
    "schedules.py": """
from hpcfast.optim.schedules import Schedule


class Half(Schedule):
    def after_warmup(self, epoch, epochs):
        return 1.0 if epoch < epochs / 2 else 0.5
""",
    "sources.py": '''
from PIL import Image

from hpcfast.datasets.sources import Item, Source


class Greys(Source):
    """Dark and bright images."""

    def items(self):
        for split, count in (("train", 20), ("val", 4)):
            for label, level in (("dark", 40), ("bright", 200)):
                for i in range(count):
                    yield Item(split, label, Image.new("L", (8, 8), level + i))
''',
    "broken.py": "raise RuntimeError('it was broken')\n",
}


def write(folder: Path, name: str = "my_pkg") -> Path:
    """The package ``name`` in ``folder``, whose import is noted in the file RAN there."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(folder / 'RAN')!r}, 'w').close()\n")
    for file, text in FILES.items():
        (package / file).write_text(text)
    return package
