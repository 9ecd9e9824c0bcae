"""The requirements, read from setup.cfg, which alone lists them.

Run as `python scripts/setuplib/requirements.py [run] [EXTRA ...]` it prints them, those of run by default.
"""

import configparser
import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def read(*groups: str) -> list[str]:
    """The requirements of these groups: "run" (install_requires) or the name of an extra."""
    config = _setup_cfg()
    extras = config["options.extras_require"]
    unknown = sorted(set(groups) - {"run", *extras})
    if unknown:
        raise ValueError(f"no extra {', '.join(unknown)} in setup.cfg; it has {', '.join(extras)}")
    lists = [config["options"]["install_requires"] if group == "run" else extras[group] for group in groups]
    return [line.strip() for text in lists for line in text.splitlines() if line.strip()]


def digest() -> str:
    """A hash of what setup.cfg says about the package, without the settings of tools."""
    config = _setup_cfg()
    text = [
        f"[{name}]{sorted(config[name].items())}"
        for name in config.sections()
        if name == "metadata" or name.startswith("options")
    ]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


if __name__ == "__main__":
    print("\n".join(read(*sys.argv[1:] or ["run"])))
