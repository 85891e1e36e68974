#!/usr/bin/env bash
# A training job on this machine's GPU as a fleet runs it: controller, agent, worker, over REST.
#
#   tests/gpu/service.sh --bin DIR [--libraries PATH] [--out FILE.tgz] [--device gpu|cpu]
#                        [--model resnet50] [--precision fp16] [--batch 256] [--seconds 20]
#
#   --bin        rackmark, rackmark-controller, rackmark-agent, rackmark-worker and its plug-ins
#   --libraries  LD_LIBRARY_PATH of all of them
#   --out        database, job as JSON and logs; serve the database to see the job in the web view:
#                tar xzf FILE.tgz && rackmark-controller --state service/controller
#
# Needs no mpirun: where there is none, an agent starts a single rank itself. Prints one line of JSON
# last. Exit status 0: the job succeeded, and on a GPU its power and memory were read meanwhile.
set -euo pipefail
fail() { printf 'service.sh: %s\n' "$*" >&2; exit 1; }

bin='' libraries=${LD_LIBRARY_PATH:-} out='' device=gpu model=resnet50 precision=fp16 batch=256 seconds=20
while [ $# -gt 0 ]; do
  [ $# -gt 1 ] || fail "$1 wants a value"
  case $1 in
    --bin) bin=$2 ;;
    --libraries) libraries=$2 ;;
    --out) out=$2 ;;
    --device) device=$2 ;;
    --model) model=$2 ;;
    --precision) precision=$2 ;;
    --batch) batch=$2 ;;
    --seconds) seconds=$2 ;;
    *) fail "unknown option '$1'" ;;
  esac
  shift 2
done
for program in rackmark rackmark-controller rackmark-agent rackmark-worker; do
  [ -x "$bin/$program" ] || fail "--bin: no $program in '$bin'"
done

work=$(mktemp -d)
state=$work/service controller='' agent='' submit=''
mkdir -p "$state/web" "$state/home/.cache"
export LD_LIBRARY_PATH=$libraries HOME=$state/home
# The agent hands HOME on: chosen engines are found where the rest of the checks keeps them.
[ -z "${RACKMARK_PLAN_CACHE:-}" ] || ln -s "$RACKMARK_PLAN_CACHE" "$state/home/.cache/rackmark"

end() { # PID: at most 15 s for an orderly end
  [ -n "$1" ] && kill -TERM "$1" 2>/dev/null || return 0
  for _ in $(seq 150); do kill -0 "$1" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$1" 2>/dev/null || true
}
stop() {
  trap '' EXIT TERM INT
  end "$submit"
  end "$agent"  # first of the two: it ends its worker and says so
  end "$controller"
  [ -z "$out" ] || tar -czf "$out" -C "$work" --exclude=service/home --exclude=service/agent service || true
  rm -rf "$work"
}
trap stop EXIT
trap 'stop; exit 143' TERM INT

wait_for() { # WHAT LOG COMMAND...: at most 30 s
  local what=$1 log=$2
  shift 2
  for _ in $(seq 300); do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  tail -20 "$log" >&2
  fail "$what did not come up within 30 s"
}

"$bin/rackmark-controller" --listen 127.0.0.1:0 --port-file "$state/port" --state "$state/controller" --web "$state/web" \
  >"$state/controller.log" 2>&1 &
controller=$!
wait_for "the controller" "$state/controller.log" test -s "$state/port"
export RACKMARK_CONTROLLER=http://127.0.0.1:$(cat "$state/port")
(umask 077; "$bin/rackmark" agents token >"$work/token")
"$bin/rackmark-agent" --controller "$RACKMARK_CONTROLLER" --state "$state/agent" --enrol-token-file "$work/token" \
  >"$state/agent.log" 2>&1 &
agent=$!
idle() { "$bin/rackmark" agents --json | grep -q '"state": *"idle"'; }
wait_for "the agent" "$state/agent.log" idle
"$bin/rackmark" agents
printf 'mpirun: %s\n' "$(command -v mpirun || echo none)"
if [ "$device" = gpu ] && ! "$bin/rackmark" agents --json | grep -q '"device_class": *"gpu'; then
  fail "the agent sees no GPU"
fi

status=0
"$bin/rackmark" submit --name gpu-check --model "$model" --precision "$precision" --batch_size "$batch" \
  --resources.device "$device" --steps.warmup 5 --steps.measured_seconds "$seconds" --watch &
submit=$!
wait $submit || status=$?
submit=''
"$bin/rackmark" show 1 --json >"$state/job.json"
[ $status = 0 ] || "$bin/rackmark" logs 1 | tail -30
# The agent hands its last readings in.
sleep 1
env -u LD_LIBRARY_PATH python3 - "$state/job.json" "$device" <<'JUDGE' || status=1
import json, sys

job = json.load(open(sys.argv[1]))
result = job["runs"][-1].get("result") or {}
gpu = (result.get("rank_times") or [{}])[0].get("gpu") or {}
line = {"job_state": job["state"]}
for name in ("images_per_second", "window_s", "setup_s", "backend", "power_w", "joules_per_image",
             "peak_gpu_memory_bytes", "mfu", "validity"):
    line[name] = result.get(name)
line["gpu"] = gpu
print(json.dumps(line))
if sys.argv[2] == "gpu":
    absent = [name for name in ("power_w", "peak_gpu_memory_bytes") if result.get(name) is None]
    if absent or not gpu:
        sys.exit(f"service.sh: no reading of {absent or 'the GPU'}")
JUDGE
exit $status
