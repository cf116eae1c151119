#!/usr/bin/env bash
# Denoise what arrives in a folder, until Ctrl-C:  scripts/jobs/watch_folder.sh inbox/ clean/ [seconds]
# A file is taken when it has not changed for a while; one that failed is tried again every time.
set -euo pipefail
in=$1 out=$2 pause=${3:-10}
trap 'echo "ended."; exit 0' INT TERM
while true; do
  status=0
  find "$in" -type f -not -newermt "$pause seconds ago" -print0 \
    | tnrd-denoise --files-from - --null --root "$in" "$out" --skip-existing --quiet || status=$?
  # 3: nothing there yet; 6: some failed, the manifest names them.
  [[ $status -eq 0 || $status -eq 3 || $status -eq 6 ]] || exit "$status"
  sleep "$pause"
done
