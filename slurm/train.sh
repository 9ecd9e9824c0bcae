#!/usr/bin/env bash
# Training of any configuration, over nodes; one rank a GPU, however GPUs are asked for, or one a task without any.
#   sbatch [--nodes=N] [--gpus-per-node=G | --gres=gpu:G | …] [--time=…] slurm/train.sh CONFIG [KEY=VALUE …]
#SBATCH --job-name=train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
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
[ "$#" != 0 ] || give_up "name a configuration: sbatch slurm/train.sh CONFIG [KEY=VALUE …]"
job train "$@"
