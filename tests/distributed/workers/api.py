"""``api.py RUN DATA OUT [own]``: ``hpcfast.evaluate`` and ``hpcfast.loader`` on this rank; rank 0 writes both."""

import json
import sys
from pathlib import Path

import torch

import hpcfast
from hpcfast.distributed import launcher

run, data, out, *own = sys.argv[1:]
if own:  # a script that has made a process group already
    ranks = {"rank": launcher.rank(), "world_size": launcher.size()}
    torch.distributed.init_process_group("gloo", init_method=f"file://{Path('group').resolve()}", **ranks)
model = hpcfast.load(run)
images = hpcfast.loader(data, size=8, channels=1, batch_size=5)
given = {"norm": "L2", "eps": 1.0, "attack": "apgd", "steps": 5, "targets": 1, "progress": False}
found = hpcfast.evaluate(model, images, **given)
train = hpcfast.loader(data, size=8, channels=1, batch_size=4, split="train", shuffle=True, augment="pad_crop_flip")
read = torch.cat([y for _, y in train]).tolist()
if not launcher.rank():
    Path(out).write_text(json.dumps([found.outcomes, {k: v for k, v in found.details.items() if k != "seconds"}]))
print(f"ok {launcher.rank() or 0} {len(read)}", flush=True)
