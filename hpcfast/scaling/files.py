"""Files that are there whole or not at all."""

from pathlib import Path


def save_text(path: Path, text: str) -> None:
    """Write ``text``, making folders on the way; a kill leaves the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)
