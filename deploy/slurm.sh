#!/bin/bash
# An array of tasks that join a search. Begin the search first, then:
#
#   export GECKO_NAS_STORAGE=postgresql+psycopg2://nas:...@database/studies
#   sbatch deploy/slurm.sh 'postgresql+psycopg2://nas:***@database/studies' camera /scratch/data
#
# A task whose time runs out, or that is preempted, gives its candidate back.
#SBATCH --job-name=nas-worker
#SBATCH --array=1-20
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@90
#SBATCH --requeue
#SBATCH --output=nas-worker-%A-%a.log
set -euo pipefail

storage=${1:?the storage of the search}
run=${2:?the name of the run}
data=${3:?the folder or file with the data on this cluster}

# A folder for each task: tasks of one node would otherwise write the same files.
runs="${SLURM_TMPDIR:-/tmp}/nas-${SLURM_ARRAY_JOB_ID:-0}-${SLURM_ARRAY_TASK_ID:-0}"
exec srun nas worker "$storage" "$run" --data-path "$data" --runs "$runs" --workers "${SLURM_CPUS_PER_TASK:-1}"
