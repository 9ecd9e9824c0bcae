#!/usr/bin/env bash
# A whole scaling study: submits what is not done of it, and a last job that collects and reports (STEP=collect).
#   STUDY=configs/studies/cifar10_l2.yaml sbatch slurm/scaling_study.sh
#SBATCH --job-name=scaling-study
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --time=1:00:00
#SBATCH --output=%x-%j.log
set -euo pipefail
# sbatch runs a copy of this file, so what belongs to it is looked for where it was submitted: in the checkout.
# shellcheck source=slurm/lib.sh
. "${HPCFAST_HOME:-$SLURM_SUBMIT_DIR}/slurm/lib.sh" || { echo "error: run sbatch in hpcfast's folder" >&2; exit 2; }
prepare
[ -n "${STUDY:-}" ] || give_up "name the study: STUDY=configs/studies/NAME.yaml sbatch slurm/scaling_study.sh"
if [ "${STEP:-run}" = collect ]; then
    hpcfast scaling collect "$STUDY"
    hpcfast scaling report "$STUDY"
else
    hpcfast scaling run "$STUDY"
fi
