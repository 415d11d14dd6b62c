#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Check and measure everything on a CUDA machine in one command, what matters most first:
#   bash benchmarks/gpu/run.sh
# Results go to $OUT (default build/gpu) as they come: results.jsonl (a JSON line for each measurement), ncu.csv, checks.log,
# sanitizer.log, run.log, and at the end report.txt, whose short form is printed. Python's environment must have torch with
# CUDA, numpy, safetensors, pyarrow and pytest; dtnn_fast/_ops.so is built in place unless it is there with CUDA kernels.
#
#   --dry-run   the same stages on the CPU, quick and without ncu, sanitizer and build: tests this script
# Environment: PYTHON (default python3); LIMIT, seconds in all (default 280); STAGES (default "smoke checks ncu ops model sides");
# CHECKS_SECONDS (70), NCU_SECONDS (50), OPS_SECONDS (70), MODEL_SECONDS (45): the longest of each stage; COMPILED=1: the model
# under torch.compile too; DTNN_OTHER_OPS: the _ops.so of another build, which "ops" measures beside this one; DTNN_COMMIT: named
# in the results; ONLY: regular expression of the operations that "ops" measures.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

python=${PYTHON:-python3}
out=${OUT:-build/gpu}
device=cuda
patience=1
small=()
case ${1:-} in
  "") ;;
  --dry-run) device=cpu small=(--small) patience=4 ;; # a CPU takes longer
  *) sed -n '3,15s/^# \?//p' "$0" >&2; exit 2 ;;
esac
limit=$((${LIMIT:-280} * patience))
stages=${STAGES:-smoke checks ncu ops model sides}
mkdir -p "$out"
results=$out/results.jsonl
rm -f "$results" "$out"/{ncu.csv,checks.log,sanitizer.log,run.log,report.txt}
cores=$(nproc --all)
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores < 8 ? 1 : 4))}
failed=()
children=()

left() { echo $((limit - SECONDS)); }
say() { echo "$*" | tee -a "$out/run.log"; }

# A signal comes while a stage's output goes to a file.
exec 3>&1
interrupted() {
  failed+=("ended by a signal")
  finish >&3 2>&3
}

# finish: tables of what is there.
finish() {
  trap - TERM INT
  local child
  for child in "${children[@]}"; do kill -TERM "$child" 2>/dev/null; done
  "$python" benchmarks/gpu/table.py "$results" --ncu "$out/ncu.csv" >"$out/report.txt" 2>>"$out/run.log"
  "$python" benchmarks/gpu/table.py "$results" --ncu "$out/ncu.csv" --short 2>>"$out/run.log"
  grep -E "passed|failed|error|no tests ran" "$out/checks.log" 2>/dev/null | tail -n 2
  grep -E "SUMMARY|calls with|time is over|no compute-sanitizer|Error|Unrecognized" "$out/sanitizer.log" 2>/dev/null | tail -n 8
  ((${#failed[@]})) && printf 'failed: %s\n' "${failed[@]}"
  say "$SECONDS s in all"
  ((${#failed[@]} == 0))
  exit
}
trap interrupted TERM INT

# within SECONDS COMMAND...: at most so long and the time that is left; SIGINT first, so that pytest sums up.
within() {
  local seconds=$1
  shift
  ((seconds > $(left) - 6)) && seconds=$(($(left) - 6))
  ((seconds < 3)) && return 124
  timeout --signal=INT --kill-after=4 "$seconds" "$@" &
  children=("$!")
  wait "$!"
}

# stage NAME SECONDS FUNCTION: run it if it is wanted, and name it if it fails.
stage() {
  local name=$1 seconds=$(($2 * patience)) start=$SECONDS status
  [[ " $stages " == *" $name "* ]] || return 0
  ((seconds > $(left) - 6)) && seconds=$(($(left) - 6))
  if ((seconds < 5)); then
    say "--- $name: no time left"
    failed+=("$name (no time left)")
    return
  fi
  "run_$name" "$seconds"
  status=$?
  say "--- $name: status $status after $((SECONDS - start)) s"
  ((status == 0)) || failed+=("$name (status $status)")
  return "$status"
}

has_kernels() {
  "$python" -c 'import torch, dtnn_fast; raise SystemExit(not torch._C._dispatch_has_kernel_for_dispatch_key("dtnn_fast::neighbor_list", "CUDA"))'
}

describe() {
  {
    [[ $device == cuda ]] && nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem --format=csv,noheader
    "$python" -c 'import torch; print("torch", torch.__version__, "sees", torch.cuda.device_count(), "CUDA devices")'
    sha256sum dtnn_fast/_ops.so "${DTNN_OTHER_OPS:-/dev/null}"
    echo "commit ${DTNN_COMMIT:-$(git rev-parse --short HEAD 2>/dev/null)}; $cores cores"
  } 2>&1 | tee -a "$out/run.log"
}

run_build() {
  within "$1" bash -c '
    cmake -S . -B build/gpu-build -G Ninja -DDTNN_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=90-real -DPython_EXECUTABLE="$(command -v "$0")" &&
    cmake --build build/gpu-build && cmake --install build/gpu-build --prefix .' "$python" >>"$out/run.log" 2>&1
}

run_smoke() {
  CUDA_LAUNCH_BLOCKING=1 within "$1" "$python" python_tests/gpu/every_kernel.py $device "$1" >"$out/smoke.tmp" 2>&1
  local status=$?
  tail -n 12 "$out/smoke.tmp" | tee -a "$out/run.log"
  rm -f "$out/smoke.tmp"
  return $status
}

pytest=("$python" -m pytest -q -p no:cacheprovider --show-capture=no)

# sanitize TOOL SECONDS: only our kernels. Without torch's cache each tensor is its own allocation, so that memcheck sees an
# access past its end.
sanitize() {
  local program
  program=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) || {
    echo "$1: no compute-sanitizer on this machine"
    return 0
  }
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout --kill-after=4 $(($2 + 25)) "$program" --tool "$1" --kernel-regex kns=dtnn \
    --error-exitcode 1 --print-limit 20 "$python" python_tests/gpu/every_kernel.py cuda "$2" 2>&1 | sed "s/^/$1: /"
  return "${PIPESTATUS[0]}"
}

# The checks on several processes; beside them, as only correctness is at stake, the sanitizer, and code for stage "sides" into
# torch's cache. Then the streams alone: where processes share the GPU, a stream may have slept enough before the test looks.
run_checks() {
  local parallel=() status=0 seconds=$1 end=$((SECONDS + $1)) pids=() pid
  if [[ $device == cuda ]]; then
    "$python" -c 'import xdist' 2>/dev/null && parallel=(-n 6)
    sanitize racecheck $((seconds - 40)) >>"$out/sanitizer.log" & pids+=($!)
    sanitize memcheck $((seconds - 40)) >>"$out/sanitizer.log" & pids+=($!)
    if [[ " $stages " == *" sides "* ]]; then
      timeout --kill-after=4 $((seconds - 15)) "$python" benchmarks/gpu/time_ops.py --output "$results" --sides compiled \
        --compile-only --seconds $((seconds - 25)) >>"$out/run.log" 2>&1 & # its status does not matter
    fi
  fi
  export DTNN_TEST_DEVICE=$device
  within $((seconds - 12)) "${pytest[@]}" python_tests/gpu --ignore=python_tests/gpu/test_gpu_streams.py --maxfail=20 --durations=5 \
    "${parallel[@]}" >"$out/checks.log" 2>&1 || status=$?
  for pid in "${pids[@]}"; do
    wait "$pid" || { say "beside the checks: status $?"; status=1; }
  done
  within $((end - SECONDS > 12 ? end - SECONDS : 12)) "${pytest[@]}" python_tests/gpu/test_gpu_streams.py >>"$out/checks.log" 2>&1 || status=$?
  grep -E "^(FAILED|ERROR)|passed|failed" "$out/checks.log" | cut -c1-160 | tail -n 12 | tee -a "$out/run.log"
  return $status
}

# Names as in Nsight Compute 2025; if one of them is unknown, the sections have most of the same.
metrics=gpu__time_duration.sum,dram__bytes_read.sum,dram__bytes_write.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed
metrics+=,smsp__issue_active.avg.pct_of_peak_sustained_active,smsp__inst_executed.sum,sm__warps_active.avg.pct_of_peak_sustained_active
metrics+=,l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum,l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum
metrics+=,lts__t_sector_hit_rate.pct,launch__registers_per_thread,launch__grid_size,launch__block_size,launch__waves_per_multiprocessor
metrics+=,launch__occupancy_limit_registers,launch__occupancy_limit_shared_mem,launch__shared_mem_per_block
for stall in long_scoreboard short_scoreboard no_instruction barrier mio_throttle lg_throttle math_pipe_throttle wait not_selected; do
  metrics+=,smsp__average_warps_issue_stalled_${stall}_per_issue_active.ratio
done
sections=(SpeedOfLight WarpStateStats SchedulerStats Occupancy LaunchStats)

run_ncu() {
  local program which options end=$((SECONDS + $1))
  if [[ $device == cpu ]]; then
    within "$1" "$python" benchmarks/gpu/profile_ops.py --device cpu --small --output "$results"
    return
  fi
  program=$(command -v ncu || ls /usr/local/cuda/bin/ncu /opt/nvidia/nsight-compute/*/ncu 2>/dev/null | head -n 1)
  [[ -z $program ]] && { say "no ncu on this machine"; return 0; }
  for which in metrics sections; do
    options=(--metrics "$metrics")
    [[ $which == sections ]] && options=("${sections[@]/#/--section=}")
    ((end - SECONDS < 15)) && return 1
    within $((end - SECONDS)) "$program" --clock-control none --profile-from-start off --csv --page raw --print-units base \
      --kernel-name regex:'dtnn|spin_kernel' --kernel-name-base demangled "${options[@]}" --log-file "$out/ncu.csv" \
      "$python" benchmarks/gpu/profile_ops.py --output "$results" --seconds $((end - SECONDS - 10)) >>"$out/run.log" 2>&1
    if grep -q dtnn "$out/ncu.csv" 2>/dev/null; then return 0; fi
    grep -hE "ERROR|WARNING" "$out/ncu.csv" | head -n 5 | tee -a "$out/run.log"
  done
  return 1
}

# time_ops SECONDS ARGUMENTS...
time_ops() {
  local seconds=$1
  shift
  within $((seconds + 4)) "$python" benchmarks/gpu/time_ops.py --device $device "${small[@]}" --output "$results" --seconds "$seconds" "$@" \
    >>"$out/run.log" 2>&1
}

run_ops() {
  local seconds=$(($1 - 4)) status
  [[ -n ${DTNN_OTHER_OPS:-} ]] && seconds=$((seconds / 2 - 2))
  time_ops "$seconds" --only "${ONLY:-}"
  status=$?
  if [[ -n ${DTNN_OTHER_OPS:-} ]]; then
    DTNN_OPS_LIBRARY=$DTNN_OTHER_OPS time_ops "$seconds" --build other --only "${ONLY:-}" || status=$?
  fi
  return $status
}

run_model() {
  local compiled=()
  [[ $device == cpu || -n ${COMPILED:-} ]] && compiled=(--compiled)
  within "$1" "$python" benchmarks/gpu/time_model.py --device $device "${small[@]}" "${compiled[@]}" --output "$results" --seconds $(($1 - 4)) \
    >>"$out/run.log" 2>&1
}

run_sides() { time_ops "$(($1 - 4))" --sides eager,compiled; }

describe
if [[ $device == cuda ]] && ! has_kernels; then
  say "dtnn_fast/_ops.so is missing, does not load, or has no CUDA kernels: building"
  stages+=" build"
  stage build 150 || finish
fi
# A kernel that crashes is found by the checks, and no time is spent on the rest.
stage smoke 40 || stages=checks
stage checks "${CHECKS_SECONDS:-70}"
stage ncu "${NCU_SECONDS:-50}"
stage ops "${OPS_SECONDS:-70}"
stage model "${MODEL_SECONDS:-45}"
stage sides "$(left)"
finish
