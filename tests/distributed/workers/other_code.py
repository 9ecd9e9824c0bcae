"""``hpcfast train CONFIG …`` where each rank has a package of its own, as on nodes without a common disk."""

import os
import sys
from pathlib import Path

from hpcfast.cli import main
from hpcfast.distributed import launcher
from tests.unit import owned

rank = launcher.rank()
folder = Path.cwd() / f"rank-{rank}"
folder.mkdir()
(owned.write(folder) / "attacks.py").open("a").write(f"# of rank {rank}\n")
os.chdir(folder)
sys.argv = ["hpcfast", "train", *sys.argv[1:], "name=different"]
main()
