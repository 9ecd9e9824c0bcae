# shellcheck shell=bash
# A cluster without GPUs: copy this over slurm/site.sh. Submit with `sbatch --gpus-per-node=0 …`.
# shellcheck source=/dev/null
. "${HPCFAST_HOME:-.}/.venv/bin/activate"
export HPCFAST_MPI=none # Gloo, over TCP
# export SBATCH_PARTITION=cpu SBATCH_ACCOUNT=my-project
export HPCFAST_SCRATCH=${TMPDIR:-/tmp}
export HPCFAST_AGAIN=${HPCFAST_AGAIN:-requeue} HPCFAST_MAX_REQUEUES=${HPCFAST_MAX_REQUEUES:-20}
