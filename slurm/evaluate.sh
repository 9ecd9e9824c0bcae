#!/usr/bin/env bash
# The attacks of AutoAttack, or others, on a finished run, over nodes.
#   sbatch [--nodes=N] [--gpus-per-node=G] [--time=…] slurm/evaluate.sh RUN [OPTION OF hpcfast eval …]
#SBATCH --job-name=evaluate
#SBATCH --nodes=1
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
[ "$#" != 0 ] || give_up "name the run directory: sbatch slurm/evaluate.sh runs/NAME [OPTION OF hpcfast eval …]"
[ "$#" != 1 ] || set -- "$1" --attack autoattack
job eval "$@"
