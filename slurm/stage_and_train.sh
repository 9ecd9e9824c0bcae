#!/usr/bin/env bash
# Copy a packed data set to every node's own disk, then train from there.
#   PACK=data/imagenet-packed [CONFIG=…] [OVERRIDES="…"] sbatch [--nodes=N] … slurm/stage_and_train.sh
#SBATCH --job-name=stage-and-train
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
# sbatch runs a copy of this file, so what belongs to it is looked for where it was submitted: in the checkout.
# shellcheck source=slurm/lib.sh
. "${HPCFAST_HOME:-$SLURM_SUBMIT_DIR}/slurm/lib.sh" || { echo "error: run sbatch in hpcfast's folder" >&2; exit 2; }
prepare
[ -n "${PACK:-}" ] || give_up "name the packed data set: PACK=FOLDER sbatch slurm/stage_and_train.sh"
# The folder's name is the same on every node and at every restart: it is part of the run's configuration.
staged=$HPCFAST_SCRATCH/hpcfast-$SLURM_JOB_USER/$(basename "$PACK")
echo "== staging $PACK to $staged on every node"
srun --ntasks-per-node=1 --ntasks="$SLURM_JOB_NUM_NODES" --mpi="$HPCFAST_MPI" --label --kill-on-bad-exit=1 \
    "${HPCFAST_SRUN[@]}" "${HPCFAST_CONTAINER[@]}" hpcfast data stage "$PACK" "$staged"
# shellcheck disable=SC2086
work train "${CONFIG:-configs/imagenet_l2.yaml}" "data.path=$staged" ${OVERRIDES:-}
