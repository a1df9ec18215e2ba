#!/usr/bin/env bash
# Train with Slurm:  tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
# GPUS (8 in all), GPUS_PER_NODE (8) and CPUS_PER_TASK (4) set the size; SRUN_ARGS is passed on to srun.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}

# SRUN_ARGS is a list of words
# shellcheck disable=SC2086
exec srun -p "$partition" \
    --job-name="$job" \
    --gres="gpu:$per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$((gpus < per_node ? gpus : per_node))" \
    --cpus-per-task="${CPUS_PER_TASK:-4}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/train.py" "$config" --launcher slurm "$@"
