#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Train every baseline on every split, one run after the other. Finished runs are skipped, unfinished ones resume from
# their last checkpoint, and a run that fails does not stop the others: call it again at any time. Several queues may
# share a folder: each skips the runs that another queue is training.
# Usage: bash benchmarks/accuracy/run_all.sh [FOLDER (runs/accuracy)]     PYTHON=.venv/bin/python chooses the interpreter
#        MODELS="painn m3gnet" SPLITS="0 1" leave the others out; TARGETS="total electronic ionic" trains one for each
#        OPTIONS="--schedule authors" goes to every run
set -uo pipefail
folder=$(realpath -m "${1:-runs/accuracy}")
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1

failed=0
for split in ${SPLITS:-0 1 2 3 4}; do
  for target in ${TARGETS:-joint}; do
    for model in ${MODELS:-painn matten m3gnet}; do
      run="$folder/$model/$target/split-$split"
      mkdir -p "$run"
      # The run itself holds the lock too, so that it stays taken if only this script is stopped.
      exec 9> "$run/queue.lock"
      flock -n 9 || continue
      [ -e "$run/results.json" ] && continue
      echo "$(date -u +%FT%TZ) $model $target split $split"
      # shellcheck disable=SC2086  OPTIONS are several words
      if ! nice -n 15 "${PYTHON:-python}" -m benchmarks.accuracy.train "$model" --target "$target" --split "$split" \
        --output "$run" ${OPTIONS:-} >> "$run/train.log" 2>&1; then
        echo "  failed: $(tail -n 1 "$run/train.log")" >&2
        failed=$((failed + 1))
      fi
    done
  done
done
echo "$(date -u +%FT%TZ) done, $failed failed"
[ "$failed" -eq 0 ]
