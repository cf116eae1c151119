#!/usr/bin/env bash
# A Dask cluster on this machine, for one job:  scripts/jobs/dask_cluster.sh slide.zarr clean.zarr [workers] [options...]
# On several machines start `dask scheduler` on one, `dask worker tcp://host:8786 --nthreads 1 --nworkers N` on each, and
# call `tnrd-denoise slide.zarr clean.zarr --scheduler tcp://host:8786`; all must see the files under the same paths.
set -euo pipefail
in=$1 out=$2 workers=${3:-$(nproc)}
shift $(( $# < 3 ? $# : 3 ))
export OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
dask scheduler --host 127.0.0.1 --port 8786 --no-dashboard &
dask worker tcp://127.0.0.1:8786 --nworkers "$workers" --nthreads 1 --no-dashboard &
tnrd-denoise "$in" "$out" --scheduler tcp://127.0.0.1:8786 "$@"
