#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Build, check and measure everything on a CUDA machine, in one command of less than eight minutes:
#   bash benchmarks/gpu/run.sh
# Python's environment must have torch (with CUDA), numpy, safetensors, scikit-build-core, pybind11, cmake, ninja, pytest and
# pytest-benchmark; peers are measured where they are installed. Logs, JSON and report go to $OUT (default build/gpu).
# A stage that fails is named at the end, and the next one still runs.
#
#   --dry-run   the same stages on the CPU without building: quick benchmarks, no sanitizer; to test this script
# Environment: PYTHON (default python3), LIMIT (seconds, default 465), DTNN_COMMIT (for the report, where there is no git).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

python=${PYTHON:-python3}
out=${OUT:-build/gpu}
device=cuda
build=yes
patience=1
case ${1:-} in
  "") ;;
  --dry-run) device=cpu build=no patience=5 ;; # a CPU takes longer
  *) sed -n '3,11s/^# \?//p' "$0" >&2; exit 2 ;;
esac
limit=$((${LIMIT:-465} * patience))
mkdir -p "$out"
failed=()

left() { echo $((limit - SECONDS)); }

# stage NAME SECONDS COMMAND...: run with the output in $out/NAME.log, for at most SECONDS and the time that is left.
stage() {
  local name=$1 seconds=$(($2 * patience)) start=$SECONDS status
  shift 2
  ((seconds > $(left))) && seconds=$(left)
  if ((seconds < 5)); then
    echo "--- $name: no time left"
    failed+=("$name (no time left)")
    return
  fi
  timeout --kill-after=5 "$seconds" "$@" >"$out/$name.log" 2>&1
  status=$?
  echo "--- $name: status $status after $((SECONDS - start)) s"
  if ((status != 0)); then
    failed+=("$name (status $status)")
    tail -n 15 "$out/$name.log"
  fi
}

# -P: the sources beside this script must not hide the installed package.
run_pytest() { "$python" -P -m pytest -q -p no:cacheprovider --show-capture=no "$@"; }

describe() {
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm --format=csv
  nvcc --version
  "$python" -c 'import torch; print("torch", torch.__version__, "sees", torch.cuda.device_count(), "CUDA devices")'
}

install() {
  describe
  DTNN_CUDA=ON "$python" -m pip install --no-build-isolation --no-deps --force-reinstall -v .
}

check() {
  local parallel=()
  "$python" -c 'import xdist' 2>/dev/null && [[ $device == cuda ]] && parallel=(-n 6)
  export DTNN_TEST_DEVICE=$device
  run_pytest python_tests/gpu --ignore=python_tests/gpu/test_gpu_streams.py --durations=5 "${parallel[@]}"
  local status=$?
  # Alone: where processes share the GPU, a stream may have slept enough before the test looks.
  run_pytest python_tests/gpu/test_gpu_streams.py && return "$status"
}

measure() {
  local options=(--device "$device" --budget "$(($(left) - 60))")
  [[ $device == cpu ]] && options+=(--quick -k "1_crystal or prediction")
  run_pytest benchmarks "${options[@]}" --benchmark-json="$out/benchmarks.json"
}

report() {
  "$python" -m benchmarks.report "$out/benchmarks.json" >"$out/report.md"
}

# memcheck and racecheck on every kernel. Without torch's cache each tensor is its own allocation, so that an access past
# its end is seen.
sanitize() {
  local tool program status=0
  program=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  [[ -z $program ]] && { echo "no compute-sanitizer on this machine"; return 0; }
  for tool in memcheck racecheck; do
    echo "$tool"
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$program" --tool "$tool" --error-exitcode 1 --print-limit 20 \
      "$python" -P python_tests/gpu/every_kernel.py cuda || status=1
  done
  return $status
}

export -f install describe check measure report sanitize run_pytest left
export python out device limit


[[ $build == yes ]] && stage build 200 bash -uc install
stage checks 150 bash -uc check
stage benchmarks "$(($(left) - 35))" bash -uc "SECONDS=$SECONDS; measure"
stage report 20 bash -uc report
[[ $device == cuda ]] && stage sanitizer 120 bash -uc sanitize

for name in checks benchmarks; do
  echo "$name: $(tail -n 1 "$out/$name.log" 2>/dev/null)"
done
if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}"
fi
[[ -s $out/benchmarks.json ]] && "$python" -m benchmarks.report --short "$out/benchmarks.json"
echo "$SECONDS s in all; everything is in $out"
((${#failed[@]} == 0))
