#!/usr/bin/env bash
# A whole scaling study: submits what is not done of it, and a last job that collects and reports (collect). hpcfast may
# not lie in a container here: it calls sbatch.
#   sbatch slurm/scaling_study.sh STUDY
#SBATCH --job-name=scaling-study
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --mem=4G
#SBATCH --time=1:00:00
#SBATCH --output=%x-%j.log
set -euo pipefail
# sbatch runs a copy of this file, so what belongs to it is looked for where it was submitted: in the checkout.
lib=${HPCFAST_HOME:-${SLURM_SUBMIT_DIR:-.}}/slurm/lib.sh
[ -r "$lib" ] || { echo "error: run sbatch in hpcfast's folder" >&2; exit 2; }
# shellcheck source=slurm/lib.sh
. "$lib"
[ "$#" != 0 ] || give_up "name the study: sbatch slurm/scaling_study.sh configs/studies/NAME.yaml"
if [ "${2:-run}" = collect ]; then
    hpcfast scaling collect "$1"
    hpcfast scaling report "$1"
else
    hpcfast scaling run "$1"
fi
