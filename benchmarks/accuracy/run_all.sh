#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Train every baseline on every split and target, one run after the other. Finished runs are skipped, unfinished ones go
# on from their last checkpoint, and a run that fails does not stop the others: call it again at any time. Two queues may
# not share a folder.
# Usage: bash benchmarks/accuracy/run_all.sh [FOLDER (runs/accuracy)]     PYTHON=.venv/bin/python chooses the interpreter
#        MODELS="painn m3gnet" TARGETS=total SPLITS="0 1" leave the others out
set -uo pipefail
folder=$(realpath -m "${1:-runs/accuracy}")
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1

mkdir -p "$folder"
exec 9> "$folder/queue.lock"
if ! flock -n 9; then
  echo "another queue works in $folder" >&2
  exit 1
fi

failed=0
for split in ${SPLITS:-0 1 2 3 4}; do
  for target in ${TARGETS:-total electronic ionic}; do
    for model in ${MODELS:-painn matten m3gnet}; do
      run="$folder/$model/$target/split-$split"
      [ -e "$run/results.json" ] && continue
      mkdir -p "$run"
      echo "$(date -u +%FT%TZ) $model $target split $split"
      if ! nice -n 15 "${PYTHON:-python}" -m benchmarks.accuracy.train "$model" --target "$target" --split "$split" \
        --output "$run" >> "$run/train.log" 2>&1; then
        echo "  failed: $(tail -n 1 "$run/train.log")" >&2
        failed=$((failed + 1))
      fi
    done
  done
done
echo "$(date -u +%FT%TZ) done, $failed failed"
[ "$failed" -eq 0 ]
