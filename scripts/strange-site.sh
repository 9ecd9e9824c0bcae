# shellcheck shell=bash disable=SC2034,SC2154
# What start-test-cluster --strange does otherwise: functions that replace its own. Most sites have some of this.
# - Jobs need an account. They get little memory (--mem=), the CPUs there are, and two GPUs a node at most.
# - Partition main ends jobs after 4 hours, low is preempted by the others, fixed requeues nothing.
# - Each task has a TMPDIR, which ends with the job.
# - As root: DIR/etc/as-user COMMAND… runs a command as an ordinary user, without other variables than PATH; what the
#   user writes is closed to others, and the home folder's name has blanks.
# - As root, with iproute2: nodes have full domain names, each the address 127.0.1.1 on the node itself, and docker's
#   172.17.0.1. Where the kernel has control groups of version 1, they hold jobs to what they asked for, and signals
#   reach only slurmstepd's own children: DIR/etc/tracking says cgroup then, and linuxproc elsewhere.
domain=.strange.example
user=games

hosts() {
    local node address
    echo "127.0.0.1 localhost"
    for node in $(seq "$nodes"); do
        address=$subnet.$node
        ((node != $1)) || address=127.0.1.1
        echo "$address n$node$domain n$node"
    done
}

add_networks() {
    ip -n "$1" link add docker0 type bridge
    ip -n "$1" address add 172.17.0.1/16 dev docker0
    ip -n "$1" link set docker0 up
}

make_site() {
    describe_hardware
    make_gpus
    make_user
    enter='' unshare='' prepare=". \"$dir/etc/open\""
    limit_jobs
    echo "$tracking" >"$dir/etc/tracking"
    require_account >"$dir/etc/job_submit.lua"
    script task-prolog <<SCRIPT
folder="$dir/tmp/\$SLURMD_NODENAME/job.\$SLURM_JOB_ID"
mkdir -p "\$folder"
echo "export TMPDIR=\$folder"
SCRIPT
    script epilog <<SCRIPT
rm -rf "$dir/tmp/\$SLURMD_NODENAME/job.\$SLURM_JOB_ID"
SCRIPT
}

site_settings() {
    cat <<CONF
ProctrackType=proctrack/$tracking
TaskPlugin=$task_plugins
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=200
KillWait=30
EnforcePartLimits=ALL
JobSubmitPlugins=lua
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
TaskProlog=$dir/etc/task-prolog
Epilog=$dir/etc/epilog
PartitionName=DEFAULT Nodes=n[1-$nodes] PriorityTier=2 PreemptMode=OFF
PartitionName=main Default=YES MaxTime=4:00:00 MaxCPUsPerNode=2
PartitionName=fixed
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=high PriorityTier=3
CONF
}

# script NAME: make DIR/etc/NAME.
script() {
    { echo "#!/bin/sh -e" && cat; } >"$dir/etc/$1"
    chmod 755 "$dir/etc/$1"
}

# The CPUs of this machine, and a share of its memory.
describe_hardware() {
    local cpus memory
    cpus=$(slurmd -C | grep -o 'CPUs=.*ThreadsPerCore=[0-9]*')
    memory=$(slurmd -C | grep -oP 'RealMemory=\K[0-9]+')
    hardware="$cpus RealMemory=$((memory / nodes)) Gres=gpu:a100:2"
}

# Devices of a number for local use, without driver: to open one says ENXIO to those who may, and EPERM to others.
make_gpus() {
    local gpu
    for gpu in 0 1; do
        mknod --mode=666 "$dir/etc/gpu$gpu" c 120 "$gpu" 2>/dev/null || touch "$dir/etc/gpu$gpu"
    done
    echo "Name=gpu Type=a100 File=$dir/etc/gpu[0-1]" >"$dir/etc/gres.conf"
}

# An ordinary user, who must be able to read this checkout and run Python; else whoever runs this.
make_user() {
    local checkout python
    checkout=$(cd "${BASH_SOURCE%/*}/.." && pwd)
    if [ "$(id -u)" = 0 ]; then
        make_home
        python=$(command -v python3)
        open_folders "$checkout" "$python" "$(realpath "$python")" >"$dir/etc/open"
        as_user "setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups" | script as-user
        ! "$dir/etc/as-user" python3 -c 'import os, sys; os.listdir(sys.argv[1])' "$checkout" 2>/dev/null || return 0
    fi
    echo "jobs are those of $(id -un): this is not root, or an ordinary user cannot read $checkout" >&2
    user=$(id -un)
    make_home
    : >"$dir/etc/open"
    as_user | script as-user
}

make_home() {
    home="$dir/home of $user"
    mkdir -p "$home"
    chmod 700 "$home"
    chown "$user:" "$home"
}

# What a mount namespace needs: a home for the user, and a way through the folders above the PATHs that are closed to
# others, such as /root. (A layer above the folder has other permissions.)
open_folders() {
    local folder
    sed "s|^\($user:.*\):[^:]*:[^:]*$|\1:$home:/bin/bash|" /etc/passwd >"$dir/etc/passwd"
    mkdir -p "$dir/open"
    echo "mount --bind '$dir/etc/passwd' /etc/passwd"
    for folder in $(closed_folders "$@"); do
        cat <<SCRIPT
mount -t tmpfs tmpfs '$dir/open'
mkdir '$dir/open/upper' '$dir/open/work'
mount -t overlay -o 'lowerdir=$folder,upperdir=$dir/open/upper,workdir=$dir/open/work' overlay '$folder'
chmod 711 '$folder'
SCRIPT
    done
}

closed_folders() {
    local folder
    for folder; do
        while [ "$folder" != / ]; do
            folder=$(dirname "$folder")
            (($(stat --format=%a "$folder") % 2)) || echo "$folder"
        done
    done | sort --unique
}

# as_user [BECOME]: the script as-user.
as_user() {
    cat <<SCRIPT
${1:+exec unshare --mount }sh -ec '
    . "$dir/etc/open"
    umask 077
    exec ${1-} env --ignore-environment PATH="\$PATH" HOME="$home" USER=$user LOGNAME=$user \\
        SLURM_CONF="$dir/etc/slurm.conf" "\$@"' as-user "\$@"
SCRIPT
}

# Groups of this cluster's own, in which its nodes see no others.
limit_jobs() {
    tracking=linuxproc task_plugins=task/affinity
    if ! make_control_groups 2>/dev/null; then
        [ -z "$network" ] || rmdir /sys/fs/cgroup/*/"$network" 2>/dev/null || true
        echo "no control groups (version 1): signals reach all processes of a job, and nothing holds it to its limits" >&2
        return
    fi
    tracking=cgroup task_plugins=task/affinity,task/cgroup
    enter="for kind in freezer cpuset memory devices; do echo \$\$ >/sys/fs/cgroup/\$kind/$network/cgroup.procs; done"
    unshare=--cgroup
    prepare+="
    for kind in freezer cpuset memory devices; do
        mount --bind /sys/fs/cgroup/\$kind/$network /sys/fs/cgroup/\$kind
    done"
    cat >"$dir/etc/cgroup.conf" <<CONF
CgroupPlugin=cgroup/v1
ConstrainCores=yes
ConstrainRAMSpace=yes
ConstrainDevices=$([ -c "$dir/etc/gpu0" ] && echo yes || echo no)
CONF
}

make_control_groups() {
    [ -n "$network" ] && mkdir "/sys/fs/cgroup/"{freezer,cpuset,memory,devices}"/$network" &&
        copy_parent cpus && copy_parent mems
}

copy_parent() { cat "/sys/fs/cgroup/cpuset/cpuset.$1" >"/sys/fs/cgroup/cpuset/$network/cpuset.$1"; }

# 2045 is ESLURM_INVALID_ACCOUNT.
require_account() {
    cat <<'LUA'
function slurm_job_submit(job, partitions, user)
    if job.account == nil then
        return 2045
    end
    if job.partition == "fixed" then
        job.requeue = 0
    end
    return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, user)
    return slurm.SUCCESS
end
LUA
}
