"""``python -m hpcfast`` is ``hpcfast``."""

from hpcfast.cli import main

main()
