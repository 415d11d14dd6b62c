#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Measure everything on the CPU, one thread unless a case says otherwise, and write the committed pages. About ten minutes on
# two idle cores:
#   bash benchmarks/run.sh amd-epyc-zen5-2cores
# writes benchmarks/results/NAME.md and the table of docs/kernels.md. Environment: PYTHON (default python3), OUT (default build).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
name=${1:?usage: bash benchmarks/run.sh NAME-OF-THE-MACHINE}
python=${PYTHON:-python3}
out=${OUT:-build}
mkdir -p "$out"

# Peers with their own threads get one too.
export OMP_NUM_THREADS=1
"$python" -P -m pytest benchmarks -q --device cpu --show-capture=no --benchmark-json="$out/benchmarks-cpu.json"
status=$?
"$python" -m benchmarks.report "$out/benchmarks-cpu.json" >"benchmarks/results/$name.md" &&
  "$python" -m benchmarks.report "$out/benchmarks-cpu.json" --kernels docs/kernels.md || exit 1
exit $status
