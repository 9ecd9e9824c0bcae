"""Ranks find one another however they were started, and train the same."""

import pytest

from tests.slurm.conftest import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
LAUNCHERS = {
    "none": "srun --mpi=none",
    "pmix": "srun --mpi=pmix",
    "mpirun": "mpirun --bind-to none",
    "horovodrun": "horovodrun --gloo -np 2",
}


def test_every_launcher_trains_the_same_weights(cluster: Cluster) -> None:
    script = cluster.path / "launchers.sh"
    lines = [f"{launcher} hpcfast train tiny.yaml epochs=1 name={name}" for name, launcher in LAUNCHERS.items()]
    # Neither the batch shell nor a step of one task is a rank, whatever Slurm's variables say there.
    ask = 'python -c "from hpcfast import launcher; print(launcher.rank())"'
    lines += [ask, f"srun -N1 -n1 {ask}"]
    script.write_text("\n".join(["#!/bin/bash -e", *lines, ""]))
    job = cluster.submit(script, 2, "--output=%x-%j.log", OMPI_MCA_btl="self,tcp")
    assert cluster.end(job) == "COMPLETED 0:0", cluster.log(job)
    assert cluster.log(job).splitlines()[-2:] == ["None", "None"]
    losses = {name: cluster.values(name, "train_loss") for name in LAUNCHERS}
    assert losses["none"]
    assert all(each == losses["none"] for each in losses.values()), losses
    assert len({cluster.weights(name) for name in LAUNCHERS}) == 1
