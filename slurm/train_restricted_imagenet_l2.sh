#!/usr/bin/env bash
# Fast L2 adversarial training on Restricted ImageNet, over nodes.
#   sbatch [--nodes=N] [--gpus-per-node=G] [--time=…] slurm/train_restricted_imagenet_l2.sh [KEY=VALUE …]
#SBATCH --job-name=restricted-imagenet-l2
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
job train configs/restricted_imagenet_l2.yaml "$@"
