#!/usr/bin/env bash
# One job of a scaling study, by its number in the array: a line of the file HPCFAST_JOBS, which has the job's log and
# what hpcfast is to be called with. Submitted by `hpcfast scaling run`, with its size.
#SBATCH --signal=USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
# sbatch runs a copy of this file, so what belongs to it is looked for where it was submitted: in the checkout.
# shellcheck source=slurm/lib.sh
. "${HPCFAST_HOME:-$SLURM_SUBMIT_DIR}/slurm/lib.sh" || { echo "error: run sbatch in hpcfast's folder" >&2; exit 2; }
export HPCFAST_TASK=${HPCFAST_TASK:-$SLURM_ARRAY_TASK_ID} # a job that follows this one is in no array
eval "set -- $(sed -n "${HPCFAST_TASK}p" "$HPCFAST_JOBS")"
log=$1
shift
exec >>"$log" 2>&1
echo "== start $(date --utc +%FT%TZ) $*"
trap 'printf "\n== end %d %d\n" $? "$SECONDS"' EXIT
prepare
result=${log%.log}.json
# Begun anew when it is submitted anew: a gap between two studies is no time that the job has lost. One between its
# own starts (time limit, preemption, a lost node) is, and counts.
if [ "$restarts" = 0 ]; then
    rm -f "$result"
    set -- "$@" --overwrite
fi
work "$@"
