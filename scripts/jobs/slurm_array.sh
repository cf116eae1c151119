#!/usr/bin/env bash
# A folder in 100 parts, two cores each:  sbatch scripts/jobs/slurm_array.sh scans/ clean/
# Run it again after a failure: what is finished stays. One part alone: tnrd-denoise ... --shard 7/100 by hand.
#SBATCH --array=1-100
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=04:00:00
set -euo pipefail
in=$1 out=$2
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK NUMBA_NUM_THREADS=$SLURM_CPUS_PER_TASK
status=0
tnrd-denoise --recursive "$in" "$out" --shard auto --skip-existing || status=$?
# 6: some files failed, the manifest names them. That is no reason for Slurm to call the job broken.
[[ $status -eq 0 || $status -eq 6 ]] || exit "$status"

# When all parts are done:  tnrd-denoise --recursive scans/ clean/ --merge-manifests
