#!/usr/bin/env bash
# One job of a scaling study, by its number in the array: a line of the file that is given, which has the job's log and
# what hpcfast is to be called with. Submitted by `hpcfast scaling run`, with its size.
#SBATCH --signal=USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
# sbatch runs a copy of this file, so what belongs to it is looked for where it was submitted: in the checkout.
lib=${HPCFAST_HOME:-${SLURM_SUBMIT_DIR:-.}}/slurm/lib.sh
[ -r "$lib" ] || { echo "error: run sbatch in hpcfast's folder" >&2; exit 2; }
# shellcheck source=slurm/lib.sh
. "$lib"
job task "$1"
