"""``hpcfast ARGUMENTS…`` with every rank on a node of its own: one whose name and working folder are ``node-RANK``."""

import os
import socket
import sys

from hpcfast import cli
from hpcfast.distributed import launcher

node = f"node-{launcher.rank()}"
os.chdir(node)
socket.gethostname = lambda: node
sys.argv[0] = "hpcfast"
cli.main()
