#!/usr/bin/env bash
# Checks and measures the GPU backend on a machine with a GPU: one call, under 8 minutes, a table last.
#
#   tests/gpu/check.sh [--prebuilt DIR] [--only STEP,STEP] [--minutes N] [--tiny] [--dry-run]
#
#   --prebuilt DIR  programs and libraries made by tests/gpu/carry; without it, build here with CMake
#   --only          of: facts device verify faults memcheck run bench memory pictures profile cache fusion losses
#   --minutes       for everything, 8 by default; what does not fit is "not measured"
#   --tiny          small batches and pictures: tries this script, measures nothing of interest
#   --dry-run       says what would run
#
# Environment: OUT, folder for log, facts.jsonl, profile.txt and table.txt (default: a new one under
# /tmp); RACKMARK_PYTHON, command with torch (python3); RACKMARK_CHECK_BACKEND (cuda).
# A step that fails is counted and the next one runs. Exit status: 0 no check failed, 1 some did, 2 bad
# usage, or nothing to run. Missing a speed is no failed check; the table says "miss".
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
all_steps="facts device verify faults memcheck run bench memory pictures profile cache fusion losses"
steps=$all_steps prebuilt='' minutes=8 tiny='' dry=''
usage() { printf 'check.sh: %s\n' "$*" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --prebuilt) [ $# -gt 1 ] || usage "--prebuilt wants a folder"; prebuilt=$2; shift ;;
    --only) [ $# -gt 1 ] || usage "--only wants steps"; steps=${2//,/ }; shift ;;
    --minutes) [ $# -gt 1 ] || usage "--minutes wants a number"; minutes=$2; shift ;;
    --tiny) tiny=1 ;;
    --dry-run) dry=1 ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) usage "unknown option '$1'" ;;
  esac
  shift
done
[[ $minutes =~ ^[1-9][0-9]*$ ]] || usage "--minutes is '$minutes'; allowed: a whole number from 1"
for step in $steps; do
  [[ " $all_steps " == *" $step "* ]] || usage "--only: '$step'; allowed: $all_steps"
done

backend=${RACKMARK_CHECK_BACKEND:-cuda}
python=${RACKMARK_PYTHON:-python3}
torch_device=cuda
[ "$backend" = cuda ] || torch_device=cpu
deadline=$((SECONDS + 60 * minutes))
cores=$(nproc)
model=resnet50 batch=256 size=0 curve_batch=64 curve_size=0 curve_steps=200
[ -z "$tiny" ] || { batch=2 size=32 curve_batch=2 curve_size=32 curve_steps=3; }

wants() { [[ " $steps " == *" $1 "* ]]; }
left() { printf '%d' $((deadline - SECONDS)); }

# --- what to run: carried, or built here ----------------------------------------------------------

# Folders of the libraries that come with the machine, colon after each.
library_folders() {
  local name folder
  for name in libcudnn.so.9 libcublasLt.so.1[23] libnccl.so.2 libnvrtc.so.1[23]; do
    folder=$({
      # shellcheck disable=SC2086
      ls -d /usr/local/cuda/lib64/$name /usr/local/cuda/lib/$name /usr/local/cuda/targets/*/lib/$name
      # shellcheck disable=SC2086
      $python -c 'import nvidia, glob
for path in nvidia.__path__: print(*sorted(glob.glob(path + "/*/lib/")), sep="\n")' |
        while read -r lib; do ls -d "$lib"$name; done
      ldconfig -p | awk -v n="${name%%.so*}.so" 'index($1, n) == 1 {print $NF}'
    } 2>/dev/null | head -1)
    [ -z "$folder" ] || printf '%s:\n' "$(dirname "$folder")"
  done | awk '!seen[$0]++' | tr -d '\n'
}

build_here() {
  printf 'check.sh: building in %s\n' "$work/build"
  cmake -S "$root" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DRACKMARK_PARTS='common;worker' \
    -DRACKMARK_TESTS=ON -DRACKMARK_MPI=OFF -DRACKMARK_ONEDNN=OFF -DRACKMARK_CUDA=ON &&
    cmake --build "$work/build" -j "$cores" --target rackmark-worker rackmark-bench-train \
      rackmark-bench-infer rackmark-backend-cuda
}

find_programs() {
  golden=$root/tests/golden
  if [ -n "$prebuilt" ]; then
    [ -x "$prebuilt/bin/rackmark-worker" ] || usage "--prebuilt: no bin/rackmark-worker in '$prebuilt'"
    bin=$(cd "$prebuilt/bin" && pwd)
    [ ! -d "$prebuilt/golden" ] || golden=$(cd "$prebuilt/golden" && pwd)
    libraries=$bin/../lib:$(library_folders)${LD_LIBRARY_PATH:-}
  else
    build_here >>"$log" 2>&1 || { tail -5 "$log" >&2; usage "the build failed, see $log; or carry one (--prebuilt)"; }
    bin=$work/build/bin
    libraries=$(library_folders)${LD_LIBRARY_PATH:-}
  fi
  # Ours alone: PyTorch finds its own, and another libstdc++ or cuDNN could break or slow it.
  ours=(env LD_LIBRARY_PATH="$libraries")
}

# --- one attempt: a command with a limit, its output in the log, one line of facts ------------------

failures=0 attempts=0
# attempt STEP NAME LIMIT_S WANTED_STATUS COMMAND...: output also in $last. Status: the command's, 124
# past the limit, 125 for no time left (then nothing was run and nothing is counted).
attempt() {
  local step=$1 name=$2 limit=$3 wanted=$4 began=$SECONDS status
  shift 4
  [ "$(left)" -ge "$limit" ] || limit=$(left)
  if [ "$limit" -lt 3 ]; then
    printf '{"step": "%s", "name": "%s", "error": "not run: no time left"}\n' "$step" "$name" >>"$facts"
    printf '%-9s %-40s not run: no time left\n' "$step" "$name"
    return 125
  fi
  timeout -k 5 "$limit" "$@" >"$last" 2>&1
  status=$?
  { printf '\n##### %s %s: %s\n' "$step" "$name" "$*"; cat "$last"; printf '##### status %d\n' "$status"; } >>"$log"
  note "$step" "$name" "$status" "$wanted" $((SECONDS - began))
  return "$status"
}
note() { # STEP NAME STATUS WANTED SECONDS
  local verdict=ok
  attempts=$((attempts + 1))
  [ "$3" = "$4" ] || { verdict=FAILED; failures=$((failures + 1)); }
  printf '{"step": "%s", "name": "%s", "status": %d, "wanted": %d, "seconds": %d}\n' "$@" >>"$facts"
  printf '%-9s %-40s %s (status %d, %d s)\n' "$1" "$2" "$verdict" "$3" "$5"
}
# keep STEP NAME: the line of JSON in $last, into the facts
keep() {
  local line
  line=$(grep '^{' "$last" | tail -1)
  [ -z "$line" ] || printf '{"step": "%s", "name": "%s", %s\n' "$1" "$2" "${line#\{}" >>"$facts"
}
bench_train() { # PRECISION BATCH STEPS [options]: a command line in $command
  command=("${ours[@]}" "$bin/rackmark-bench-train" --backend "$backend" --model "$model" --precision "$1" --batch "$2"
    --steps "$3" --image-size "$size" "${@:4}")
}

# --- the steps --------------------------------------------------------------------------------------

step_facts() {
  if [ "$backend" = cuda ]; then
    attempt facts gpu 20 0 nvidia-smi
    attempt facts gpu-details 20 0 nvidia-smi --format=csv \
      --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit,ecc.mode.current
    sed -n 2p "$last"
  fi
  attempt facts version 20 0 "${ours[@]}" "$bin/rackmark-worker" --version
  cat "$last"
  attempt facts models 20 0 "${ours[@]}" "$bin/rackmark-worker" models
  # shellcheck disable=SC2086
  attempt facts torch 60 0 $python -c 'import torch; print("torch", torch.__version__, "cuDNN", torch.backends.cudnn.version())'
  tail -1 "$last"
  printf 'libraries from %s\n' "$libraries"
}

# The tests of the device interface and of the own kernels that need a GPU, where they were carried.
step_device() {
  local program
  for program in rackmark-device-kernels-test cuda_device_test; do
    if [ ! -x "$bin/$program" ]; then
      printf '{"step": "device", "name": "%s", "error": "not here"}\n' $program >>"$facts"
      printf '%-9s no %s here\n' device $program
      continue
    fi
    attempt device $program 60 0 "${ours[@]}" "$bin/$program"
    grep -E '^\[ +(FAILED|SKIPPED|PASSED) +\]' "$last" | head -8
    ! grep -q '^\[  SKIPPED' "$last" || note device $program-was-skipped 1 0 0  # no GPU was seen
  done
}

# Reference files, the small ones first; some at a time, since most of the time is the host's.
step_verify() {
  local file precision files until=$((SECONDS + 110)) pool=$(((cores + 3) / 4)) count=0
  mapfile -t files < <(ls -Sr "$golden"/*-seed*.json)
  [ -z "$tiny" ] || files=("${files[@]:0:2}")
  for precision in fp32 fp16 bf16 tf32; do
    for file in "${files[@]}"; do
      while [ "$(jobs -rp | grep -cvx "${compare_pid:-0}")" -ge "$pool" ]; do sleep 0.1; done
      count=$((count + 1))
      one_verify "$work/verify.$(printf %03d $count)" "$precision" "$file" "$until" &
    done
  done
  wait_for_others
  for file in "$work"/verify.*.note; do
    # shellcheck disable=SC2046
    note verify $(cat "$file") >"$work/line"
    grep -v ' ok (' "$work/line"
    cat "$work/line" "${file%.note}.out" >>"$log"
  done
  printf '%-9s %d of %d ok, each in the log\n' verify "$(grep -lE ' 0 0 [0-9]+$' "$work"/verify.*.note | wc -l)" "$count"
}
one_verify() { # PREFIX PRECISION FILE UNTIL
  local limit=$(($4 - SECONDS)) began=$SECONDS name
  name=$(basename "$3" .json)
  [ $limit -le 100 ] || limit=100
  [ $limit -le "$(left)" ] || limit=$(left)
  if [ "$limit" -lt 3 ] || [ "$(left)" -lt 5 ]; then
    printf '{"step": "verify", "name": "%s", "error": "not run: no time left"}\n' "$name/$2" >>"$facts"
    return
  fi
  timeout -k 5 "$limit" "${ours[@]}" "$bin/rackmark-worker" verify --reference "$3" --backend "$backend" --precision "$2" \
    --threads 4 >"$1.out" 2>&1
  printf '%s %d 0 %d\n' "$name/$2" $? $((SECONDS - began)) >"$1.note"
}
wait_for_others() { # every job in the background but the comparison
  local pid
  for pid in $(jobs -p); do [ "$pid" = "${compare_pid:-}" ] || wait "$pid"; done
}

# Deliberate faults: verification must see them.
step_faults() {
  local verify=("${ours[@]}" "$bin/rackmark-worker" verify --backend "$backend" --reference)
  local small=$golden/cifar10-b8-s24-seed1-decay.json
  attempt faults negated-gradient/fp32 60 1 "${verify[@]}" "$small" --inject negate-gradient=conv2.weight
  attempt faults negated-gradient/fp16 60 1 "${verify[@]}" "$small" --precision fp16 --inject negate-gradient=conv2.weight
  [ -n "$tiny" ] || attempt faults negated-residual/fp32 90 1 "${verify[@]}" "$golden/resnet50-b4-s64-seed1.json" \
    --inject negate-residual-gradient
}

# Every kernel of a small net, and of one with batch norm and residuals, under compute-sanitizer.
step_memcheck() {
  local tool net until=$((SECONDS + 75))
  if ! command -v compute-sanitizer >/dev/null || [ "$backend" != cuda ]; then
    printf '{"step": "memcheck", "name": "all", "error": "no compute-sanitizer here"}\n' >>"$facts"
    printf '%-9s no compute-sanitizer here\n' memcheck
    return
  fi
  for tool in memcheck racecheck synccheck; do
    for net in cifar10/24 resnet50/32; do
      [ $tool/$net != synccheck/resnet50/32 ] || continue
      sanitized $tool "${net%/*}" "${net#*/}" $((until - SECONDS))
    done
  done
}
sanitized() { # TOOL NET SIZE LIMIT
  local problem small=("$bin/rackmark-bench-train" --backend "$backend" --model "$2" --image-size "$3" --batch 2
    --steps 1 --warmup 1 --precision fp16)
  # Once without the tool: engines are chosen then, and under it only the chosen ones run.
  timeout 30 "${ours[@]}" "${small[@]}" >/dev/null 2>&1
  attempt memcheck "$1/$2" "$4" 0 "${ours[@]}" compute-sanitizer --tool "$1" --error-exitcode 9 "${small[@]}"
  case $? in
    0 | 125) return ;;
    124) problem="not done within $4 s" ;;
    *) grep -qE 'Device not supported|not supported on this' "$last" || return
      problem="compute-sanitizer does not work here" ;;
  esac
  # Nothing was checked, and nothing has failed.
  failures=$((failures - 1))
  printf '%-9s nothing was checked, nothing failed: %s\n' memcheck "$problem"
  printf '{"step": "memcheck", "name": "%s", "error": "%s"}\n' "$1/$2" "$problem" >>"$facts"
}

# A file in $work; a stand-in for the GPU runs as the host does.
spec() { # MODEL PRECISION BATCH MEASURED [MORE]
  local device=gpu
  [ "$backend" = cuda ] || device=cpu
  printf '{"model": "%s", "precision": "%s", "batch_size": %s, "resources": {"device": "%s"}, "steps": {"warmup": 2, %s}%s}\n' \
    "$1" "$2" "$3" $device "$4" "${5:+, $5}" >"$work/spec.json"
}
step_run() {
  local precision precisions='fp32 tf32 bf16 fp16' net=$model usual=64 run
  run=("${ours[@]}" "$bin/rackmark-worker" run --backend "$backend" --spec "$work/spec.json")
  [ "$backend" = cuda ] || precisions='fp32 bf16'
  [ -z "$tiny" ] || { net=cifar10 usual=4; }
  for precision in $precisions; do
    spec $net "$precision" $usual '"measured_seconds": 3'  # some readings of the telemetry
    attempt run "training/$precision" 60 0 "${run[@]}" && python3 "$here/events.py" "$last"
  done
}

# More than there is, and all that there is; nothing else may hold the device's memory meanwhile.
step_memory() {
  local run=("${ours[@]}" "$bin/rackmark-worker" run --backend "$backend" --spec "$work/spec.json")
  spec "$model" fp32 8192 '"measured": 2'
  attempt memory out-of-memory 60 3 "${run[@]}"
  grep -m 1 'out of memory:' "$last"
  grep -q '"bytes_wanted":[1-9]' "$last" || note memory out-of-memory-names-bytes 1 0 0
  [ -z "$tiny" ] || return
  spec "$model" fp16 '"max"' '"measured": 5'
  attempt memory batch-size-max 60 0 "${run[@]}" && python3 "$here/events.py" "$last"
}

# Pictures from packed shards, cut at random places, against none at all (synthetic ones are sent once).
step_pictures() {
  local kind precision=fp16 count=4096 side=256 net=$model run
  run=("${ours[@]}" "$bin/rackmark-worker" run --backend "$backend" --spec "$work/spec.json")
  [ "$backend" = cuda ] || precision=fp32
  [ -z "$tiny" ] || { net=cifar10 count=32 side=32; }
  attempt pictures shards 60 0 python3 "$here/packed.py" "$work/packed" $count $side 10 || return
  for kind in synthetic packed; do
    local input='"input": {"kind": "synthetic"}'
    [ $kind = synthetic ] ||
      input='"input": {"kind": "packed", "path": "'$work'/packed", "augment": {"crop": true, "flip": true}}'
    spec $net $precision "$batch" '"measured_seconds": 8' "$input"
    attempt pictures $kind 60 0 "${run[@]}" || continue
    python3 "$here/events.py" "$last"
    python3 "$here/events.py" "$last" --json >"$work/line" && cp "$work/line" "$last" && keep real_pictures $kind
  done
  rm -rf "$work/packed"
}

# Started first, so that PyTorch's compiler works while the checks run; measures once the gate is open.
start_compare() {
  local seconds more=()
  seconds=$(($(left) - 20))
  ! wants memory || seconds=$((seconds - 30))
  ! wants pictures || seconds=$((seconds - 40))
  ! wants profile || seconds=$((seconds - 15))
  ! wants cache || seconds=$((seconds - 15))
  [ -z "$tiny" ] || more=(--tiny --rounds 2 --variants eager --works 'train-resnet50-fp16,latency-resnet50-fp16' --parallel 1)
  python3 "$here/compare.py" --bin "$bin" --libraries "$libraries" --backend "$backend" --python "$python" --device $torch_device \
    --facts "$facts" --log "$work/compare.log" --seconds $seconds --gate "$work/gate" "${more[@]}" \
    >"$work/compare.out" 2>&1 &
  compare_pid=$!
}
step_bench() {
  local began=$SECONDS status
  touch "$work/gate"
  wait "$compare_pid"
  status=$?
  note comparison bench $status 0 $((SECONDS - began))
  cat "$work/compare.out"
  { printf '\n##### bench\n'; cat "$work/compare.out" "$work/compare.log"; } >>"$log"
}

step_profile() {
  bench_train fp16 "$batch" 5 --warmup 3 --profile
  attempt profile training-fp16 60 0 "${command[@]}" || return
  cp "$last" "$out/profile.txt"
  printf 'the longest, ms (all in profile.txt):\n'
  grep ' ms ' "$last" | grep -v '^total' | awk '{for (i = 2; i <= NF; i++) if ($i == "ms") print $(i-1), $1, $2, $3}' |
    sort -rn | head -12
  grep '^total' "$last"
  if [ -x "$bin/rackmark-kernels-speed" ]; then
    attempt profile own-kernels 30 0 "${ours[@]}" "$bin/rackmark-kernels-speed" && cat "$last" >>"$out/profile.txt"
  fi
}

step_fusion() {
  local fusion
  for _ in 1 2; do
    for fusion in none bn-relu-add bn-relu-add+conv-statistics; do  # levels of fp16
      bench_train fp16 "$batch" 20 --warmup 5 --json --fusion $fusion
      attempt fusion "$fusion" 45 0 "${command[@]}" && keep fusion_rate $fusion
    done
  done
}

step_cache() {
  local plans=$work/plans.fresh name
  mkdir -p "$plans"
  for name in empty filled; do
    bench_train fp16 "$batch" 1 --warmup 0 --json
    attempt cache $name 60 0 env RACKMARK_PLAN_CACHE="$plans" "${command[@]}" && keep cache_time $name
  done
}

step_losses() {
  local precision
  size=$curve_size
  for precision in fp32 tf32 bf16 fp16; do
    bench_train $precision $curve_batch $curve_steps --warmup 0 --json --losses
    attempt losses $precision 45 0 "${command[@]}" && keep loss_curve $precision
  done
}

# --- all of it --------------------------------------------------------------------------------------

if [ -n "$dry" ]; then
  printf 'backend %s, steps: %s\n' "$backend" "$steps"
  for step in $steps; do declare -F "step_$step" >/dev/null || usage "no step_$step"; done
  python3 -c 'import ast, sys
for path in sys.argv[1:]: ast.parse(open(path).read(), path)' "$here"/*.py || exit 1
  python3 "$here/table.py" --dry-run
  exit
fi

out=${OUT:-$(mktemp -d /tmp/rackmark-gpu-check.XXXXXX)}
mkdir -p "$out"
work=$(mktemp -d)
log=$out/log facts=$out/facts.jsonl last=$work/last
: >"$log"
: >"$facts"
tidy() {
  [ -z "${compare_pid:-}" ] || kill "$compare_pid" 2>/dev/null
  rm -rf "$work"
}
trap tidy EXIT
find_programs
export RACKMARK_PLAN_CACHE=$work/plans
mkdir -p "$RACKMARK_PLAN_CACHE"
printf 'check.sh: log, facts and table in %s\n' "$out"
wants bench && start_compare
for step in $steps; do
  printf '== %s (%d s left)\n' "$step" "$(left)"
  "step_$step"
done 2>&1
[ "$backend" = cuda ] && [ -z "$tiny" ] || printf 'A trial of this script: no figure below says anything of a GPU.\n'
python3 "$here/table.py" "$facts" | tee "$out/table.txt"
printf '%d checks, %d failed, %d s; logs in %s\n' "$attempts" "$failures" "$SECONDS" "$out"
[ "$failures" = 0 ]
