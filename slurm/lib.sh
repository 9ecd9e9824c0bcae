# shellcheck shell=bash
# What the batch scripts of this folder share. They end with 0 when the work is done; stopped early they see to it
# that it goes on; whatever else ends them is a failure, with the code of the rank that failed first.

# Read the site's file and record in the log what the job runs with.
prepare() {
    local site=${HPCFAST_SITE:-${HPCFAST_HOME:-$SLURM_SUBMIT_DIR}/slurm/site.sh}
    HPCFAST_CONTAINER=() HPCFAST_SRUN=()
    [ -f "$site" ] || give_up "no file $site; HPCFAST_SITE must name your cluster's"
    set +u # module systems and virtual environments read variables that nobody set
    # shellcheck source=slurm/site.sh
    . "$site"
    set -u
    command -v "${HPCFAST_CONTAINER[0]:-hpcfast}" >/dev/null || [ "${#HPCFAST_SRUN[@]}" != 0 ] ||
        give_up "no command ${HPCFAST_CONTAINER[0]:-hpcfast} on $(hostname); $site must activate the environment (run 'make setup' first?)"
    # Ranks share a node's cores by themselves; output comes at once; srun no longer reads --cpus-per-task of sbatch.
    export PYTHONUNBUFFERED=1 SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
    restarts=${HPCFAST_RESTARTS:-${SLURM_RESTART_COUNT:-0}}
    # Written last by hpcfast, whatever it does: the work is done when it is there. srun's code would not tell.
    result=$SLURM_JOB_NAME-$SLURM_JOB_ID.json
    [ "$restarts" != 0 ] || rm -f "$result"
    record
}

record() {
    echo "== job $SLURM_JOB_ID ($SLURM_JOB_NAME), start $((restarts + 1)), $(date --utc +%FT%TZ)"
    echo "== nodes $SLURM_JOB_NODELIST, tasks $SLURM_TASKS_PER_NODE, GPUs ${SLURM_GPUS_PER_NODE:-0} a node, site $site"
    echo "== code $(git -C "${HPCFAST_HOME:-$SLURM_SUBMIT_DIR}" describe --always --dirty 2>/dev/null || echo 'not in git')"
    [ -z "${LOADEDMODULES:-}" ] || echo "== modules $LOADEDMODULES"
    env | grep -E '^(HPCFAST|HOROVOD|NCCL|OMPI_MCA|FI|UCX|OMP)_' | sort | sed 's/^/== /' || true
}

# ranks COMMAND…: run it on all ranks, every line of the log labelled with its rank. All GPUs of a node stay visible to
# its ranks: each takes its own, and NCCL needs to see its neighbours'.
ranks() {
    srun --mpi="$HPCFAST_MPI" --label --kill-on-bad-exit=1 --cpu-bind=cores --gpu-bind=none "${HPCFAST_SRUN[@]}" \
        "${HPCFAST_CONTAINER[@]}" "$@"
}

# rank COMMAND…: what srun starts on every rank. A signal before Python can handle it would kill the rank. Two codes are
# no bad exit, on which srun would kill the other ranks before they are ready: 75, "stopped, with a checkpoint", and 2,
# of which rank 0 has the message; when it ends with that, srun ends the others (143), whose code must not hide it.
rank() {
    local code=0 cause="by somebody, or because the whole node was out of memory"
    trap "" USR2 TERM
    "$@" || code=$?
    if [ "$code" = 137 ]; then
        [ "$(memory_kills)" = 0 ] || cause="out of memory: ask for more --mem, or set a smaller data.batch_size"
        echo "rank $SLURM_PROCID on host $(hostname) was killed, $cause" >&2
    fi
    case $code-$SLURM_PROCID in
        0-* | 75-* | 2-[1-9]* | 143-[1-9]*) exit 0 ;;
    esac
    (set -o noclobber && echo "$code" >"$failed") 2>/dev/null || true
    exit "$code"
}

# How many processes the kernel has killed because this rank's control group (version 1 or 2) was out of memory.
memory_kills() {
    local kind path
    while IFS=: read -r _ kind path; do
        case $kind in
            memory) cat "/sys/fs/cgroup/memory$path/memory.oom_control" ;;
            "") cat "/sys/fs/cgroup$path/memory.events" ;;
        esac
    done </proc/self/cgroup 2>/dev/null | awk '$1 == "oom_kill" { kills += $2 } END { print kills + 0 }'
}

# give_up_on SRUN FILE: where a node is cut off, srun waits for its ranks until Slurm gives the node up, for minutes. Once
# a rank has failed (FILE is there) and srun has had time to end the others, it is ended: Slurm does the rest.
give_up_on() {
    until [ -e "$2" ]; do sleep 1; done
    sleep 15
    kill -KILL "$1"
}

# work COMMAND…: run `hpcfast COMMAND…` on all ranks, and again in another job if it must stop before it is done.
work() {
    local code=0 failed=${result%.json}.failed srun watch
    rm -f "$failed" # of a start that Slurm ended
    ranks bash -c "$(declare -f rank memory_kills); failed=${failed@Q}; rank \"\$@\"" rank hpcfast "$@" --json "$result" &
    srun=$!
    give_up_on "$srun" "$failed" &
    watch=$!
    { wait "$srun"; } 2>/dev/null || code=$?
    kill "$watch" 2>/dev/null || true
    [ ! -s "$failed" ] || code=$(cat "$failed")
    rm -f "$failed"
    if [ -s "$result" ]; then
        echo "== done; numbers in $result"
    elif [ "$code" = 0 ]; then
        again
    else
        fail "$code"
    fi
}

fail() {
    echo "== FAILED with code $1 on $SLURM_JOB_NODELIST, start $((restarts + 1)): the first error above has rank, host and cause" >&2
    case $1 in
        2) echo "== the message above says what to change; nothing was lost" >&2 ;;
        137 | 9) echo "== a rank was killed: its own line above says whether it was out of memory" >&2 ;;
    esac
    [ "$1" = 2 ] || echo "== the same sbatch command goes on from the last checkpoint" >&2
    exit "$1"
}

# End this job so that the work goes on in another.
again() {
    local state
    state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
    [ "$state" = RUNNING ] || { echo "== stopped (job is $state), with a checkpoint; the same sbatch command goes on"; exit 75; }
    if [ "$HPCFAST_AGAIN" = never ] || ((restarts >= HPCFAST_MAX_REQUEUES)); then
        echo "== stopped before it was done, and not started again: HPCFAST_AGAIN=$HPCFAST_AGAIN, $restarts of at most" \
            "$HPCFAST_MAX_REQUEUES restarts; the same sbatch command goes on" >&2
        exit 75
    fi
    echo "== stopped before it was done (time limit or preemption), with a checkpoint: ${HPCFAST_AGAIN}," \
        "restart $((restarts + 1)) of at most $HPCFAST_MAX_REQUEUES"
    if [ "$HPCFAST_AGAIN" = chain ]; then
        chain
        exit 0
    fi
    if scontrol requeue "$SLURM_JOB_ID"; then
        sleep 60 # Slurm ends this script meanwhile
    fi
    give_up "Slurm did not requeue the job; where that is forbidden: HPCFAST_AGAIN=chain in site.sh"
}

# Submit this very script again, with what this job was given.
chain() {
    export HPCFAST_RESTARTS=$((restarts + 1))
    sbatch --dependency="afterany:$SLURM_JOB_ID" --job-name="$SLURM_JOB_NAME" --partition="$SLURM_JOB_PARTITION" \
        --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node="${SLURM_NTASKS_PER_NODE:-1}" \
        --gpus-per-node="${SLURM_GPUS_PER_NODE:-0}" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
        --time="$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%l)" --chdir="$SLURM_SUBMIT_DIR" --export=ALL "$0"
}

give_up() {
    echo "error: $*" >&2
    exit 2
}
