#!/usr/bin/env bash
# A folder on several machines, through GNU parallel:  scripts/jobs/gnu_parallel.sh scans/ clean/ 8 [host,host,...]
# The folders are to be seen under the same names on every host.
set -euo pipefail
in=$(realpath "$1") out=$(realpath -m "$2") shards=$3 hosts=${4:-:}
threads=$(( $(nproc) > 2 ? 2 : $(nproc) ))
seq "$shards" | parallel --sshlogin "$hosts" --jobs "$(( $(nproc) / threads ))" --retries 3 --line-buffer \
  "OMP_NUM_THREADS=$threads NUMBA_NUM_THREADS=$threads \
   tnrd-denoise --recursive '$in' '$out' --shard {}/$shards --skip-existing; [ \$? -eq 0 -o \$? -eq 6 ]"
tnrd-denoise --recursive "$in" "$out" --merge-manifests
