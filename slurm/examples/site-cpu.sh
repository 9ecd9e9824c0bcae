# shellcheck shell=bash disable=SC2034,SC2016
# A cluster without GPUs: copy this over slurm/site.sh. Submit with `sbatch --gpus-per-node=0 …`.
# shellcheck source=/dev/null
. "${HPCFAST_HOME:-.}/.venv/bin/activate"
HPCFAST_MPI=none # Gloo, over TCP
# export SBATCH_PARTITION=cpu SBATCH_ACCOUNT=my-project
HPCFAST_SCRATCH='$TMPDIR' # each rank looks it up on its node
HPCFAST_AGAIN=${HPCFAST_AGAIN:-requeue} HPCFAST_MAX_REQUEUES=${HPCFAST_MAX_REQUEUES:-20}
