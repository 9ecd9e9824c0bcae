# shellcheck shell=bash disable=SC2034,SC2016
# Your cluster, in one file: every batch script reads it, and so can your shell, before sbatch (see 3).
# What stands here runs on CPUs and one shared file system; slurm/examples/ has files for other clusters.
# ~/.config/hpcfast/site.sh is read instead where it exists, and HPCFAST_SITE=/path/to/site.sh, in your environment, before
# both. Where hpcfast was installed without a checkout, copy this file there: an update would replace it here.

# 1. The environment: modules first, as far as your cluster has them, then Python's.
# module load gcc openmpi
# shellcheck source=/dev/null
[ ! -f "${HPCFAST_HOME:-.}/.venv/bin/activate" ] || . "${HPCFAST_HOME:-.}/.venv/bin/activate"

# 2. How ranks find one another: none (Gloo and NCCL; asks nothing of the cluster's MPI) or pmix (the cluster's MPI).
HPCFAST_MPI=${HPCFAST_MPI:-none}

# 3. What sbatch is told unless its command line says otherwise. `. slurm/site.sh` once a login for these to hold; nothing
#    else that stands here is exported, so that nothing of the login node travels into jobs.
# export SBATCH_PARTITION=gpu
# export SBATCH_ACCOUNT=my-project

# 4. The network between nodes. NCCL and Gloo find it by themselves; name it where they choose the wrong one.
# export NCCL_SOCKET_IFNAME=ib0 HOROVOD_GLOO_IFACE=ib0

# 5. Fast local disk of a node, for slurm/stage_and_train.sh. In single quotes: ranks look variables up, each on its node.
# HPCFAST_SCRATCH='$TMPDIR'

# 6. What a job does that must stop (time limit, preemption) before its work is done: requeue (Slurm runs the same
#    job again; where that is forbidden, chain), chain (submits a job that follows) or never (the next command is yours).
HPCFAST_AGAIN=${HPCFAST_AGAIN:-requeue}
HPCFAST_MAX_REQUEUES=${HPCFAST_MAX_REQUEUES:-20}
#    After a fault (a rank killed, crashed, silent) ranks start again in the same job, so often without progress, and a
#    node is left out of the job's next start after so many faults; 0: never.
HPCFAST_MAX_RESTARTS=${HPCFAST_MAX_RESTARTS:-3}
HPCFAST_EXCLUDE_AFTER=${HPCFAST_EXCLUDE_AFTER:-0}

# 7. A container, if you use one: what stands between srun and hpcfast, here for the image of slurm/container.
# HPCFAST_CONTAINER=(apptainer exec --nv "$HOME/hpcfast.sif")
#    With Pyxis srun itself starts it:
# HPCFAST_SRUN=(--container-image="$HOME/hpcfast.sqsh" --container-mounts="$PWD:$PWD" --container-workdir="$PWD")
