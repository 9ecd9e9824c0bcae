# shellcheck shell=bash disable=SC2034,SC2016
# GPU nodes on Infiniband: copy this over slurm/site.sh. Not run by us on such a cluster.
# module load cuda
# shellcheck source=/dev/null
. "${HPCFAST_HOME:-.}/.venv/bin/activate"
HPCFAST_MPI=none # Gloo only finds the ranks; gradients travel by NCCL over Infiniband
# export SBATCH_PARTITION=gpu SBATCH_ACCOUNT=my-project
export NCCL_SOCKET_IFNAME=ib0 HOROVOD_GLOO_IFACE=ib0 # `ip -brief address` on a node shows the names
# export NCCL_DEBUG=INFO                             # shows whether NCCL uses it: "NET/IB"
HPCFAST_SCRATCH='$TMPDIR' # each rank looks it up on its node
HPCFAST_AGAIN=${HPCFAST_AGAIN:-requeue} HPCFAST_MAX_REQUEUES=${HPCFAST_MAX_REQUEUES:-20}
