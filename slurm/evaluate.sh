#!/usr/bin/env bash
# AutoAttack on a finished run, over nodes; OPTIONS replaces it by other options of hpcfast eval.
#   RUN=runs/imagenet_l2 [OPTIONS="--attack pgd"] sbatch [--nodes=N] [--ntasks-per-node=G --gpus-per-node=G] slurm/evaluate.sh
#SBATCH --job-name=evaluate
#SBATCH --nodes=2
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
[ -n "${RUN:-}" ] || give_up "name the run directory: RUN=runs/NAME sbatch slurm/evaluate.sh"
# shellcheck disable=SC2086
work eval "$RUN" ${OPTIONS:---attack autoattack}
