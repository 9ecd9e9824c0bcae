"""Ranks find one another however they were started, and train the same."""

import json

import pytest

from tests.slurm.conftest import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
LAUNCHERS = {
    "none": "srun --mpi=none",
    "torch": "srun --mpi=none env PYTHONPATH=$PWD/without:${{PYTHONPATH:-}}",
    "torchrun": (
        "srun --mpi=none torchrun --nnodes {ranks} --nproc-per-node 1 --rdzv-backend c10d --rdzv-id $SLURM_JOB_ID "
        "--rdzv-endpoint $SLURMD_NODENAME:29500 --no-python"
    ),
    "pmix": "srun --mpi=pmix",
    "mpirun": "mpirun --bind-to none",
    "horovodrun": "horovodrun --gloo -np {ranks}",
}
# Neither the batch shell nor a step of one task is a rank, whatever Slurm's variables say there.
ASK = 'python -c "from hpcfast.distributed import launcher; print(launcher.rank())"'


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=[pytest.mark.slow, pytest.mark.long])])
def test_every_launcher_trains_the_same(cluster: Cluster, ranks: int) -> None:
    script = cluster.path / f"launchers-{ranks}.sh"
    (cluster.path / "without" / "horovod").mkdir(parents=True, exist_ok=True)  # found first, and empty
    (cluster.path / "without" / "horovod" / "__init__.py").touch()
    runs = {name: f"{name}-{ranks}" for name in LAUNCHERS}
    lines = [
        f"{launcher.format(ranks=ranks)} hpcfast train tiny.yaml epochs=1 name={runs[name]}"
        for name, launcher in LAUNCHERS.items()
    ]
    script.write_text("\n".join(["#!/bin/bash -e", *lines, ASK, f"srun -N1 -n1 {ASK}", ""]))
    job = cluster.submit(script, ranks, "--output=%x-%j.log", OMPI_MCA_btl="self,tcp")
    assert cluster.end(job) == "COMPLETED 0:0", cluster.log(job)
    assert cluster.log(job).splitlines()[-2:] == ["None", "None"]
    engine = json.loads((cluster.path / "runs" / runs["torch"] / "summary.json").read_text())["engine"]
    assert engine["name"] == "torch"
    assert "srun has started the ranks, and the Horovod in" in engine["reason"]
    losses = {name: cluster.values(run, "train_loss") for name, run in runs.items()}
    assert losses["none"]
    for name, each in losses.items():
        # Of two numbers there is one sum; of four MPI and Gloo may add in another order.
        assert each == (losses["none"] if ranks == 2 else pytest.approx(losses["none"], abs=1e-5)), name
    assert ranks > 2 or len({cluster.weights(run) for run in runs.values()}) == 1
