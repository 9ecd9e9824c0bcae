"""All readers of files that somebody may have damaged."""

from pathlib import Path

from fuzzing.given import of_lists, of_settings, of_weights
from fuzzing.left import of_pack, of_run
from fuzzing.target import Target


def every(folder: Path, run: Path, pack: Path) -> dict[str, Target]:
    """All targets; what they write is in ``folder``."""
    return {
        **dict(of_run(run, folder / "run")),
        **dict(of_pack(pack, folder / "pack")),
        **dict(of_lists(folder / "lists")),
        **dict(of_settings(folder / "settings")),
        **dict(of_weights(run, folder / "weights")),
    }
