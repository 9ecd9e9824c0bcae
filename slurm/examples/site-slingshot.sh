# shellcheck shell=bash disable=SC2034,SC2016
# GPU nodes on Slingshot: copy this over slurm/site.sh. Not run by us on such a cluster.
# module load aws-ofi-nccl    # NCCL's plugin for libfabric; without it NCCL uses slow TCP
# shellcheck source=/dev/null
. "${HPCFAST_HOME:-.}/.venv/bin/activate"
HPCFAST_MPI=none # Gloo only finds the ranks, so that Cray MPICH, which Horovod was not built for, is not needed
# export SBATCH_ACCOUNT=my-project
export NCCL_SOCKET_IFNAME=hsn HOROVOD_GLOO_IFACE=hsn0
# NCCL over libfabric: take the FI_CXI_… and NCCL_… settings from your centre's own pages
HPCFAST_SCRATCH=/dev/shm # nodes have no disk: this is memory, asked for with --mem
HPCFAST_AGAIN=${HPCFAST_AGAIN:-requeue} HPCFAST_MAX_REQUEUES=${HPCFAST_MAX_REQUEUES:-20}
