#!/usr/bin/env bash
# Checks and measures the GPU backend on a machine with a GPU: one call, a table last.
#
#   tests/gpu/check.sh [--prebuilt DIR] [--set NAME | --only STEP,STEP] [--limit SECONDS] [--tiny] [--dry-run]
#
#   --prebuilt DIR  programs and libraries made by tests/gpu/carry; without it, build here with CMake
#   --set           all     what fits into 8 minutes, without PyTorch (the default)
#                   smoke   does it work, how fast are we alone, where does the time go (285 s)
#                   bench   the comparison with PyTorch, six works (580 s)
#                   checks  verification of the rest, faults, sanitizer, memory, losses, pictures (560 s)
#                   extra   a job through the service, bf16 against PyTorch, fusion levels (200 s)
#                   int8    int8 inference: agreement with fp32, rate beside fp16; JPEG files decoded by the
#                           CPU and by nvJPEG, where carry was given some (260 s)
#   --only          these steps: preflight facts roofline device verify-small verify-rest verify faults
#                   memcheck ours run bench bench-bf16 memory pictures profile cache fusion int8 jpeg losses service
#   --limit         seconds for everything; what does not fit is "not run"
#   --tiny          small batches and pictures: tries this script, measures nothing of interest
#   --dry-run       says what would run
#
# Environment: OUT, folder for the results (default: a new one under /tmp); RACKMARK_PYTHON, command with
# torch (python3), RACKMARK_PEER, where that finds pytorch_gpu.py; RACKMARK_PLAN_CACHE, chosen engines
# (/tmp/rackmark-plans); RACKMARK_CHECK_BACKEND (cuda).
#
# Results are written as they come: facts.jsonl a line a measurement, table.txt after every step; besides
# them log, compare.log (what the programs of the comparison say), profile.txt, gpu.csv (clocks, power
# and temperature twice a second), plans.tgz (engines, for tests/gpu/carry --plans), service.tgz.
#
# A step that fails is counted and the next one runs, but for preflight, which ends everything. Exit
# status: 0 no check failed, 1 some did, or verify was asked for and nothing ran, 2 bad usage or nothing
# to run, 143 ended by SIGTERM. Missing a speed is no failed check; the table says "miss".
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
usage() { printf 'check.sh: %s\n' "$*" >&2; exit 2; }

set_of() { # NAME: steps in $steps, seconds in $seconds
  case $1 in
    all) steps="preflight facts device verify ours faults run memory profile losses cache pictures memcheck" seconds=480 ;;
    smoke) steps="preflight facts roofline device verify-small ours profile" seconds=285 ;;
    bench) steps="preflight facts bench" seconds=580 ;;
    checks) steps="preflight facts verify-rest faults memcheck run memory losses cache pictures" seconds=560 ;;
    extra) steps="preflight facts service bench-bf16 fusion" seconds=200 ;;
    int8) steps="preflight facts int8 jpeg" seconds=260 ;;
    *) usage "--set is '$1'; allowed: all smoke bench checks extra int8" ;;
  esac
}
set_of all
prebuilt='' limit='' tiny='' dry=''
while [ $# -gt 0 ]; do
  case $1 in
    --prebuilt | --set | --only | --limit) [ $# -gt 1 ] || usage "$1 wants a value" ;;&
    --prebuilt) prebuilt=$2; shift ;;
    --set) set_of "$2"; shift ;;
    --only) steps=${2//,/ } seconds=560; shift ;;
    --limit) limit=$2; shift ;;
    --tiny) tiny=1 ;;
    --dry-run) dry=1 ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) usage "unknown option '$1'" ;;
  esac
  shift
done
[[ ${limit:=$seconds} =~ ^[1-9][0-9]*$ ]] || usage "--limit is '$limit'; allowed: a whole number from 1"

backend=${RACKMARK_CHECK_BACKEND:-cuda}
python=${RACKMARK_PYTHON:-python3}
torch_device=cuda
[ "$backend" = cuda ] || torch_device=cpu
deadline=$((SECONDS + limit))
cores=$(nproc)
model=resnet50 batch=256 size=0 curve_batch=64 curve_size=0 curve_steps=200
[ -z "$tiny" ] || { batch=2 size=32 curve_batch=2 curve_size=32 curve_steps=3; }

left() { printf '%d' $((deadline - SECONDS)); }

# --- what to run: carried, or built here ----------------------------------------------------------

# Folders of the libraries that come with the machine, colon after each.
library_folders() {
  local name folder
  for name in libcudnn.so.9 libcublasLt.so.1[23] libnccl.so.2 libnvrtc.so.1[23] libnvjpeg.so.1[23]; do
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
    libraries=$(cd "$prebuilt/lib" && pwd):$(library_folders)${LD_LIBRARY_PATH:-}
    printf 'check.sh: carried %s\n' "$(cat "$prebuilt/CARRIED")"
    # Engines that an earlier call chose; those of this machine's own earlier calls go first.
    [ ! -d "$prebuilt/plans" ] || cp -n "$prebuilt/plans"/* "$RACKMARK_PLAN_CACHE/" 2>/dev/null
  else
    build_here >>"$log" 2>&1 || { tail -5 "$log" >&2; usage "the build failed, see $log; or carry one (--prebuilt)"; }
    bin=$work/build/bin
    libraries=$(library_folders)${LD_LIBRARY_PATH:-}
  fi
  # Ours alone: PyTorch finds its own, and another libstdc++ or cuDNN could break or slow it.
  ours=(env LD_LIBRARY_PATH="$libraries")
}

# --- one attempt: a command with a limit, its output in the log, one line of facts ------------------

failures=0 attempts=0 unrun=0
# attempt STEP NAME LIMIT_S WANTED_STATUS COMMAND...: output also in $last. Status: the command's, 124
# past the limit, 125 for no time left (then nothing was run).
attempt() {
  local step=$1 name=$2 limit=$3 wanted=$4 began=$SECONDS status why
  shift 4
  [ "$(left)" -ge "$limit" ] || limit=$(left)
  [ "$limit" -ge 3 ] || { not_run "$step" "$name" "no time left"; return 125; }
  begun "$step" "$name"
  # In the background, so that a SIGTERM is seen at once.
  timeout -k 5 "$limit" "$@" >"$last" 2>&1 &
  running=$!
  wait "$running"
  status=$?
  running=''
  log_last "$step $name: $* (status $status)"
  if why=$(excuse "$status"); then
    not_run "$step" "$name" "$why"
  else
    note "$step" "$name" "$status" "$wanted" $((SECONDS - began))
  fi
  return "$status"
}
log_last() { # TITLE: at most 300 kB of $last into the log
  local bytes
  bytes=$(stat -c %s "$last")
  {
    printf '\n##### %s\n' "$1"
    if [ "$bytes" -le 300000 ]; then cat "$last"; else
      head -c 100000 "$last"
      printf '\n##### %d bytes left out\n' $((bytes - 300000))
      tail -c 200000 "$last"
    fi
  } >>"$log"
}
fact() { printf '%s\n' "$1" >>"$facts"; }
# Counts as not run until its own line follows: the machine may go before that.
begun() { fact "$(printf '{"step": "%s", "name": "%s", "error": "not done"}' "$1" "$2")"; }
note() { # STEP NAME STATUS WANTED SECONDS
  local verdict=ok
  attempts=$((attempts + 1))
  [ "$3" = "$4" ] || { verdict=FAILED; failures=$((failures + 1)); }
  # shellcheck disable=SC2059
  fact "$(printf '{"step": "%s", "name": "%s", "status": %d, "wanted": %d, "seconds": %d}' "$@")"
  printf '%-9s %-40s %s (status %d, %d s)\n' "$1" "$2" "$verdict" "$3" "$5"
}
not_run() { # STEP NAME WHY, without quotes
  unrun=$((unrun + 1))
  fact "$(printf '{"step": "%s", "name": "%s", "error": "not run: %s"}' "$@")"
  printf '%-9s %-40s not run: %s\n' "$@"
}
# Why an attempt checked nothing, and failed at nothing: what it needs is not here.
excuse() { # STATUS
  [ "$1" != 0 ] && grep -q 'no nvJPEG here' "$last" && printf 'no nvJPEG here' && return
  [ -n "${sanitizing:-}" ] && [ "$1" != 0 ] || return 1
  case $1 in 124 | 137) printf 'not done in time' && return ;; esac
  grep -qE 'Device not supported|not supported on this' "$last" && printf 'compute-sanitizer does not work here'
}
# keep STEP NAME: the line of JSON in $last, into the facts
keep() {
  local line
  line=$(grep '^{' "$last" | tail -1)
  [ -z "$line" ] || fact "$(printf '{"step": "%s", "name": "%s", %s' "$1" "$2" "${line#\{}")"
}
bench_train() { # PRECISION BATCH STEPS [options]: a command line in $command
  command=("${ours[@]}" "$bin/rackmark-bench-train" --backend "$backend" --model "$model" --precision "$1" --batch "$2"
    --steps "$3" --image-size "$size" "${@:4}")
}

# --- the steps --------------------------------------------------------------------------------------

# Without a plug-in that loads and computes all else is a waste of time on the machine.
step_preflight() {
  local two_steps=("${ours[@]}" "$bin/rackmark-bench-train" --backend "$backend" --model cifar10 --batch 8 --steps 2 --warmup 1)
  attempt preflight two-steps 60 0 "${two_steps[@]}" && return
  tail -20 "$last"
  {
    RACKMARK_CUDA_STEP_BY_STEP=1 timeout 30 "${two_steps[@]}" # names the operation
    "${ours[@]}" ldd "$bin/librackmark-backend-$backend.so"
    nvidia-smi -L
    printf 'libraries from %s\n' "$libraries"
  } 2>&1 | tee -a "$log"
  give_up=1
}

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
  printf 'libraries from %s\n' "$libraries"
}

step_roofline() {
  attempt roofline ceilings 60 0 "${ours[@]}" "$bin/rackmark-worker" roofline --backend "$backend" && cat "$last"
}

# The tests of the device interface and of the own kernels that need a GPU, where they were carried.
step_device() {
  local program
  for program in rackmark-device-kernels-test cuda_device_test; do
    [ -x "$bin/$program" ] || { not_run device $program "not carried"; continue; }
    attempt device $program 150 0 "${ours[@]}" "$bin/$program"
    grep -E '^\[ +(FAILED|SKIPPED|PASSED) +\]' "$last" | head -8
    ! grep -q '^\[  SKIPPED' "$last" || note device $program-was-skipped 1 0 0  # no GPU was seen
  done
}

# Reference files in every precision, some at a time, since most of the time is the host's; nothing
# else runs beside them.
small_files='cifar10-b8-s24-seed1.json catsdogs_original-b8-s64-seed1.json resnet50-b4-s64-seed1.json'
step_verify() { verify_files "$golden"/*-seed*.json; }
step_verify-small() {
  local files
  read -ra files <<<"$small_files"
  verify_files "${files[@]/#/$golden/}"
}
step_verify-rest() {
  local file files=()
  for file in "$golden"/*-seed*.json; do
    [[ " $small_files " == *" $(basename "$file") "* ]] || files+=("$file")
  done
  verify_files "${files[@]}"
}
verify_files() {
  local file precision files precisions='fp32 tf32 fp16 bf16 fp16+bn-in-conv' pool=$(((cores + 1) / 2)) count=0 folder
  folder=$(mktemp -d "$work/verify.XXXXXX")
  mapfile -t files < <(ls -Sr "$@")
  [ -z "$tiny" ] || files=("${files[@]:0:2}")
  for file in "${files[@]}"; do
    for precision in $precisions; do
      ! is_pointless "$precision" "$file" || continue
      begun verify "$(basename "$file" .json)/$precision"
    done
  done
  for precision in $precisions; do
    for file in "${files[@]}"; do
      ! is_pointless "$precision" "$file" || continue
      while [ "$(jobs -rp | wc -l)" -ge "$pool" ]; do sleep 0.1; done
      count=$((count + 1))
      one_verify "$folder/$(printf %03d $count)" "$precision" "$file" &
    done
  done
  wait
  for file in "$folder"/*.note; do
    cp "${file%.note}.out" "$last" && log_last "verify $(cat "$file")"
    read_verify <"$file"
  done
  printf '%-9s %d of %d ok, each in the log\n' verify "$(grep -lE ' 0$' "$folder"/*.note | wc -l)" "$count"
}
is_pointless() { # PRECISION FILE: batch norms in convolutions, of a net that has none
  [[ $1 == *+bn-in-conv && $2 != */resnet50-* && $2 != */inception_v3-* ]]
}
one_verify() { # PREFIX PRECISION[+bn-in-conv] FILE: its line of facts at once
  local limit status=125 name fusion=()
  [[ $2 != *+* ]] || fusion=(--fusion bn-relu-add+pool+conv-statistics+bn-in-conv)
  name=$(basename "$3" .json)/$2
  limit=$(left)
  [ "$limit" -le 150 ] || limit=150
  : >"$1.out"
  if [ "$limit" -ge 3 ]; then
    timeout -k 5 "$limit" "${ours[@]}" "$bin/rackmark-worker" verify --reference "$3" --backend "$backend" \
      --precision "${2%%+*}" "${fusion[@]}" --threads 2 >"$1.out" 2>&1
    status=$?
  fi
  case $status in
    124 | 125 | 137 | 143) fact "$(printf '{"step": "verify", "name": "%s", "error": "not done in time"}' "$name")" ;;
    *) fact "$(printf '{"step": "verify", "name": "%s", "status": %d, "wanted": 0}' "$name" $status)" ;;
  esac
  printf '%s %d\n' "$name" $status >"$1.note"
}
read_verify() { # NAME STATUS on standard input; counts it
  local name status
  read -r name status
  case $status in
    0) attempts=$((attempts + 1)) verified=$((verified + 1)) ;;
    124 | 125 | 137 | 143) unrun=$((unrun + 1)); printf '%-9s %-40s not run: no time left\n' verify "$name" ;;
    *) attempts=$((attempts + 1)) failures=$((failures + 1)) verified=$((verified + 1))
      printf '%-9s %-40s FAILED (status %d)\n' verify "$name" "$status" ;;
  esac
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

# Own kernels in their tests, then every kernel of a small net and of one with batch norm and residuals,
# under compute-sanitizer. Races are looked for in own kernels alone.
step_memcheck() {
  local tool net
  sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)
  if [ -z "$sanitizer" ] || [ "$backend" != cuda ]; then
    not_run memcheck all "no compute-sanitizer here"
    return
  fi
  for tool in memcheck racecheck synccheck; do
    [ -x "$bin/rackmark-device-kernels-test" ] || { not_run memcheck own-kernels "not carried"; break; }
    sanitized $tool/own-kernels 60 --tool $tool "$bin/rackmark-device-kernels-test"
  done
  for net in cifar10/24 resnet50/32; do
    small=("$bin/rackmark-bench-train" --backend "$backend" --model "${net%/*}" --image-size "${net#*/}" --batch 2
      --steps 1 --warmup 1 --precision fp16)
    # Once without a tool: engines are chosen then, and under the tool only the chosen ones run.
    attempt memcheck untooled/"$net" 60 0 "${ours[@]}" "${small[@]}" || continue
    sanitized memcheck/"$net" 60 --tool memcheck --report-api-errors no "${small[@]}"
    sanitized racecheck/"$net" 40 --tool racecheck --kernel-name kns=rackmark "${small[@]}"
  done
}
sanitized() { # NAME LIMIT OPTIONS AND COMMAND...
  local name=$1 limit=$2 sanitizing=1
  shift 2
  attempt memcheck "$name" "$limit" 0 "${ours[@]}" "$sanitizer" --error-exitcode 9 --print-limit 50 "$@"
}

# A file in $work; a stand-in for the GPU runs as the host does.
spec() { # MODEL PRECISION BATCH MEASURED [MORE]
  local device=gpu
  [ "$backend" = cuda ] || device=cpu
  printf '{"model": "%s", "precision": "%s", "batch_size": %s, "resources": {"device": "%s"}, "steps": {"warmup": 2, %s}%s}' \
    "$1" "$2" "$3" $device "$4" "${5:+, $5}" >"$work/spec.json"
}
step_run() {
  local precision precisions='fp32 tf32 bf16 fp16' net=$model usual=64 run
  run=("${ours[@]}" "$bin/rackmark-worker" run --backend "$backend" --spec "$work/spec.json")
  [ "$backend" = cuda ] || precisions='fp32 bf16'
  [ -z "$tiny" ] || { net=cifar10 usual=4; }
  for precision in $precisions; do
    spec $net "$precision" $usual '"measured_seconds": 3'  # some readings of the telemetry
    attempt run "training/$precision" 90 0 "${run[@]}" || continue
    python3 "$here/events.py" "$last" | tee "$work/line"
    [ "$backend" != cuda ] || ! grep -qE '(W|MHz) none' "$work/line" || note run "telemetry/$precision" 1 0 0
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
  attempt memory batch-size-max 150 0 "${run[@]}" && python3 "$here/events.py" "$last"
}

# Pictures from packed shards, cut at random places, against none at all (synthetic ones are sent once).
step_pictures() {
  local round kind kinds='synthetic packed' precision=fp16 count=4096 side=256 net=$model run input
  run=("${ours[@]}" "$bin/rackmark-worker" run --backend "$backend" --spec "$work/spec.json")
  [ "$backend" = cuda ] || precision=fp32
  [ -z "$tiny" ] || { net=cifar10 count=32 side=32; }
  attempt pictures shards 60 0 python3 "$here/packed.py" "$work/packed" $count $side 10 || return
  for round in 1 2 3; do
    for kind in $kinds; do
      input='"input": {"kind": "synthetic"}'
      [ "$kind" = synthetic ] ||
        input='"input": {"kind": "packed", "path": "'$work'/packed", "augment": {"crop": true, "flip": true}}'
      spec $net $precision "$batch" '"measured_seconds": 4' "$input"
      attempt pictures "$kind/$round" 60 0 "${run[@]}" || continue
      python3 "$here/events.py" "$last"
      python3 "$here/events.py" "$last" --json >"$work/line" && cp "$work/line" "$last" && keep real_pictures "$kind"
    done
    kinds='packed synthetic'
  done
  for round in 1 2; do
    for kind in inference answered-in-turn; do  # the next batch travels meanwhile, or not
      input='"input": {"kind": "packed", "path": "'$work'/packed"'
      [ "$backend" != cuda ] || input+=', "overlap": '$([ $kind = inference ] && echo true || echo false)
      spec $net $precision "$batch" '"measured_seconds": 3' '"mode": "inference", '"$input}"
      attempt pictures "$kind/$round" 60 0 "${run[@]}" || continue
      python3 "$here/events.py" "$last" --json >"$work/line" && cp "$work/line" "$last" && keep real_pictures "$kind"
    done
  done
  rm -rf "$work/packed"
}

compare() { # STEP SECONDS [options]: compare.py, whose lines go into facts as they come
  local step=$1 for_all=$2 options=(--bin "$bin" --libraries "$libraries" --backend "$backend" --python "$python"
    --device "$torch_device" --facts "$facts" --log "$out/compare.log" --run "$run_name")
  shift 2
  [ "$(left)" -ge $((for_all + 15)) ] || for_all=$(($(left) - 15))
  [ "$for_all" -ge 10 ] || { not_run comparison "$step" "no time left"; return; }
  [ -z "${RACKMARK_PEER:-}" ] || options+=(--peer "$RACKMARK_PEER")
  [ -z "$tiny" ] || options+=(--tiny --window 0.2 --warm-seconds 0.1)
  attempt comparison "$step" $((for_all + 12)) 0 python3 "$here/compare.py" "${options[@]}" --seconds "$for_all" "$@"
  cat "$last"
  printf '\n' >>"$facts"  # a line that was cut ends here
}
works_of_bench='train-resnet50-fp16,infer-resnet50-fp16,train-resnet50-tf32,train-resnet50-fp16-bn-in-conv,train-inception_v3-fp16,latency-resnet50-fp16'
step_ours() { compare ours 145 --ours-only --rounds 1 --works "$works_of_bench,train-resnet50-bf16"; }
step_bench() { compare bench 600 --works "$works_of_bench" --sustained ${tiny:+0.}20; }
step_bench-bf16() { compare bench-bf16 150 --works train-resnet50-bf16; }

step_profile() {
  bench_train fp16 "$batch" 5 --warmup 3 --profile
  attempt profile training-fp16 60 0 "${command[@]}" || return
  cp "$last" "$out/profile.txt"
  printf 'the longest, ms (all in profile.txt):\n'
  grep ' ms ' "$last" | grep -v '^total' | awk '{for (i = 2; i <= NF; i++) if ($i == "ms") print $(i-1), $1, $2, $3}' |
    sort -rn | head -12
  grep '^total' "$last"
  bench_train fp16 "$batch" 10 --warmup 3 --bound # in turns with the convolutions alone
  attempt profile bound 60 0 "${command[@]}" && grep '^convolution-only' "$last" | tee -a "$out/profile.txt"
  if [ "$backend" = cuda ] && [ -x "$bin/rackmark-kernels-speed" ]; then
    attempt profile own-kernels 30 0 "${ours[@]}" "$bin/rackmark-kernels-speed" && cat "$last" >>"$out/profile.txt"
  fi
}

step_fusion() {
  local fusion lengths=(--seconds 4 --warm-seconds 1) pool=bn-relu-add+pool
  local sums=$pool+conv-statistics
  local in_convolutions=$sums+bn-in-conv  # of fp16
  [ -z "$tiny" ] || lengths=()
  for fusion in none bn-relu-add $pool $sums $in_convolutions $in_convolutions $sums $pool bn-relu-add; do
    bench_train fp16 "$batch" 1 --warmup 1 --json --fusion "$fusion" "${lengths[@]}"
    attempt fusion "$fusion" 45 0 "${command[@]}" && keep fusion_rate "$fusion"
  done
}

# int8 with fp32 on pictures, then int8 and fp16 in turns, of the same shapes: the first start compiles
# all engines that are tried, which takes it a minute.
step_int8() {
  local precision precisions='fp16 int8' net=$model lengths=(--seconds 4 --warm-seconds 1)
  [ -z "$tiny" ] || { net=cifar10 precisions='fp32 int8' lengths=(); }
  spec "$net" int8 "$batch" '"measured": 10' '"mode": "inference"'
  attempt int8 "agreement/$net" 150 0 "${ours[@]}" "$bin/rackmark-worker" run --backend "$backend" \
    --spec "$work/spec.json" && python3 "$here/events.py" "$last"
  for _ in 1 2; do
    for precision in $precisions; do
      attempt int8 "rate/$precision" 90 0 "${ours[@]}" "$bin/rackmark-bench-infer" "$model" "$precision" "$batch" \
        --backend "$backend" --steps 1 --warmup 1 --image-size "$size" --json "${lengths[@]}" && keep int8_rate "$precision"
    done
  done
}

# Files decoded by the CPU's threads and by nvJPEG, in turns.
step_jpeg() {
  local net=$model precision=fp16 device devices='cpu gpu' decoder
  [ "$backend" = cuda ] || devices=cpu
  [ -d "$prebuilt/photos" ] || { not_run jpeg files "none were carried"; return; }
  [ -z "$tiny" ] || { net=cifar10 precision=fp32; }
  for _ in 1 2; do
    for device in $devices; do
      decoder=', "decode_device": "'$device'"'
      [ "$backend" = cuda ] || decoder=
      spec "$net" $precision "$batch" '"measured_seconds": 5' \
        '"input": {"kind": "images", "path": "'"$(realpath "$prebuilt/photos")"'", "augment": {"crop": true, "flip": true}'"$decoder"'}'
      attempt jpeg $device 60 0 "${ours[@]}" "$bin/rackmark-worker" run --backend "$backend" --spec "$work/spec.json" || continue
      python3 "$here/events.py" "$last"
      python3 "$here/events.py" "$last" --json >"$work/line" && cp "$work/line" "$last" && keep jpeg_rate $device
    done
  done
}

step_cache() {
  local name folder=0
  for name in empty filled filled empty filled; do
    [ $name = filled ] || folder=$((folder + 1))
    mkdir -p "$work/plans.$folder"
    bench_train fp16 "$batch" 1 --warmup 0 --json
    attempt cache $name 120 0 env RACKMARK_PLAN_CACHE="$work/plans.$folder" "${command[@]}" && keep cache_time $name
  done
}

step_losses() {
  local precision precisions='fp32 tf32 bf16 fp16' size=$curve_size
  [ -z "$tiny" ] || precisions='fp32 tf32 bf16'  # the loss scale needs more steps to fit
  for precision in $precisions; do
    bench_train $precision $curve_batch $curve_steps --warmup 0 --json --losses
    attempt losses $precision 45 0 "${command[@]}" && keep loss_curve $precision
  done
}

# A job through controller, agent and worker, as a fleet runs it; the database comes back.
step_service() {
  local options=(--bin "$bin" --libraries "$libraries" --out "$out/service.tgz")
  [ "$backend" = cuda ] || options+=(--device cpu --precision fp32)
  [ -z "$tiny" ] || options+=(--model cifar10 --batch 4 --seconds 2)
  attempt service job 120 0 "$here/service.sh" "${options[@]}"
  tail -30 "$last"
  keep service job
}

# --- all of it --------------------------------------------------------------------------------------

for step in $steps; do
  declare -F "step_$step" >/dev/null ||
    usage "--only: '$step'; allowed: $(declare -F | sed -n 's/^declare -f step_//p' | tr '\n' ' ')"
done
if [ -n "$dry" ]; then
  printf 'backend %s, %d s, steps: %s\n' "$backend" "$limit" "$steps"
  python3 -c 'import ast, sys
for path in sys.argv[1:]: ast.parse(open(path).read(), path)' "$here"/*.py || exit 1
  bash -n "$here/service.sh" || exit 1
  python3 "$here/table.py" --dry-run
  exit
fi

out=${OUT:-$(mktemp -d /tmp/rackmark-gpu-check.XXXXXX)}
mkdir -p "$out"
work=$(mktemp -d)
log=$out/log facts=$out/facts.jsonl last=$out/last run_name=$(date -u +%H%M%S) # of this call
running='' give_up='' failed_by_table='' verified=0
: >"$log"
: >"$facts"
: >"$last"
export RACKMARK_PLAN_CACHE=${RACKMARK_PLAN_CACHE:-/tmp/rackmark-plans}
mkdir -p "$RACKMARK_PLAN_CACHE"
sampler=''
if [ "$backend" = cuda ]; then
  readings=timestamp,clocks.sm,power.draw,temperature.gpu,utilization.gpu,memory.used,clocks_event_reasons.active
  nvidia-smi --format=csv -lms 500 --query-gpu=$readings >"$out/gpu.csv" 2>&1 &
  sampler=$!
  disown
fi
tidy() {
  [ -z "$sampler" ] || kill "$sampler" 2>/dev/null
  rm -rf "$work" "$last"
}
interrupted() {
  local pid
  trap '' TERM INT HUP
  for pid in $running $(jobs -p); do
    pkill -TERM -P "$pid"
    kill "$pid"
  done 2>/dev/null
  wait
  log_last "interrupted"
  printf 'check.sh: interrupted after %d s\n' "$SECONDS"
  finish
  exit 143
}
finish() {
  tar -czf "$out/plans.tgz" -C "$RACKMARK_PLAN_CACHE" . 2>/dev/null
  [ "$backend" = cuda ] && [ -z "$tiny" ] || printf 'A trial of this script: no figure below says anything of a GPU.\n'
  python3 "$here/table.py" "$facts" >"$out/table.txt" || failed_by_table=1
  cat "$out/table.txt"
  printf '%d checks, %d failed, %d not run, %d s; results in %s\n' "$attempts" "$failures" "$unrun" "$SECONDS" "$out"
}
trap tidy EXIT
trap interrupted TERM INT HUP
find_programs
printf 'check.sh: results in %s\n' "$out"
for step in $steps; do
  printf '== %s (%d s left)\n' "$step" "$(left)"
  "step_$step"
  [ -z "$give_up" ] || break
  python3 "$here/table.py" "$facts" >"$out/table.txt"
done 2>&1
finish
[[ " $steps" != *" verify"* ]] || [ "$verified" -gt 0 ] || { printf 'check.sh: nothing was verified\n'; exit 1; }
[ "$failures" = 0 ] && [ -z "$failed_by_table" ]
