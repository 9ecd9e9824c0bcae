#!/usr/bin/env bash
# Copy a packed data set to every node's own disk, then train from there.
#   sbatch [--nodes=N] [--gpus-per-node=G] [--time=…] slurm/stage_and_train.sh PACK CONFIG [KEY=VALUE …]
#SBATCH --job-name=stage-and-train
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --mem=64G
#SBATCH --time=4:00:00
#SBATCH --signal=USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
# sbatch runs a copy of this file, so what belongs to it is looked for where it was submitted: in the checkout.
lib=${HPCFAST_HOME:-${SLURM_SUBMIT_DIR:-.}}/slurm/lib.sh
[ -r "$lib" ] || { echo "error: run sbatch in hpcfast's folder" >&2; exit 2; }
# shellcheck source=slurm/lib.sh
. "$lib"
[ "$#" -ge 2 ] || give_up "name the packed data set and a configuration: sbatch slurm/stage_and_train.sh PACK CONFIG [KEY=VALUE …]"
job train "${@:2}" data.path="$1" data.stage="${HPCFAST_SCRATCH:-/tmp}"
