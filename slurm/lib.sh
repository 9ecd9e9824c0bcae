# shellcheck shell=bash
# What the batch scripts of this folder share: it reads the site's file and hands over to hpcfast/cluster/job.py, which
# runs hpcfast on all ranks, and sees to it that the work goes on where it must stop. That needs a python3 (3.8 or newer)
# on the nodes and nothing else; hpcfast may lie in a container.

HPCFAST_HOME=${HPCFAST_HOME:-${SLURM_SUBMIT_DIR:-.}}
own=${XDG_CONFIG_HOME:-${HOME:-}/.config}/hpcfast/site.sh # where hpcfast was installed without a checkout
[ -n "${HPCFAST_SITE:-}" ] || [ ! -f "$own" ] || HPCFAST_SITE=$own
HPCFAST_SITE=${HPCFAST_SITE:-$HPCFAST_HOME/slurm/site.sh}
given=("$0" "$@") # this script and its arguments: a job that follows is submitted with them

give_up() {
    echo "error: $*" >&2
    exit 2
}

[ -n "${SLURM_JOB_ID:-}" ] || give_up "this is a batch script: sbatch $0 …; without Slurm: hpcfast train CONFIG key=value …"

# Settings were variables once. Whoever still gives one must not get a job without it.
[ -z "${OVERRIDES:-}" ] || give_up "OVERRIDES is not read: settings are arguments, sbatch slurm/train.sh CONFIG key=value …; unset it"
[[ ${CONFIG:-} != *.yaml ]] ||
    give_up "CONFIG=$CONFIG is not read: it is an argument, sbatch slurm/train.sh $CONFIG key=value …; unset CONFIG"

HPCFAST_CONTAINER=() HPCFAST_SRUN=()
[ -f "$HPCFAST_SITE" ] || give_up "no file $HPCFAST_SITE; HPCFAST_SITE must name your cluster's"
HPCFAST_SITE=$(realpath -- "$HPCFAST_SITE")
set +u # module systems and virtual environments read variables that nobody set
# shellcheck source=slurm/site.sh
. "$HPCFAST_SITE"
set -u
command -v "${HPCFAST_CONTAINER[0]:-hpcfast}" >/dev/null || [ "${#HPCFAST_SRUN[@]}" != 0 ] ||
    give_up "no command ${HPCFAST_CONTAINER[0]:-hpcfast} on $(hostname); $HPCFAST_SITE must activate the environment (run 'make setup' first?)"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' ||
    give_up "no python3 of 3.8 or newer on $(hostname); $HPCFAST_SITE must load one"

# job COMMAND…: run `hpcfast COMMAND…` on all ranks; ends the script. Lists are handed over with their lengths first; an
# empty one is no variable to older Bash.
job() {
    export HPCFAST_MPI=${HPCFAST_MPI:-none} HPCFAST_AGAIN=${HPCFAST_AGAIN:-requeue}
    export HPCFAST_MAX_REQUEUES=${HPCFAST_MAX_REQUEUES:-20} HPCFAST_MAX_RESTARTS=${HPCFAST_MAX_RESTARTS:-3}
    export HPCFAST_EXCLUDE_AFTER=${HPCFAST_EXCLUDE_AFTER:-0} HPCFAST_SITE
    export PYTHONUNBUFFERED=1 # output comes at once
    exec python3 -c 'import sys; sys.path.insert(0, sys.argv[1]); from hpcfast.cluster import job; job.main(sys.argv[2:])' \
        "${HPCFAST_LIBRARY:-$HPCFAST_HOME}" "${#given[@]}" "${given[@]}" \
        "${#HPCFAST_SRUN[@]}" ${HPCFAST_SRUN[@]+"${HPCFAST_SRUN[@]}"} \
        "${#HPCFAST_CONTAINER[@]}" ${HPCFAST_CONTAINER[@]+"${HPCFAST_CONTAINER[@]}"} "$@"
}
