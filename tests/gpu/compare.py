#!/usr/bin/env python3
"""Rackmark and PyTorch on the same GPU, in turns: the comparison of tests/gpu/check.sh.

One work after the other. PyTorch's variants of a work compile side by side while nothing is measured;
those that are ready in time stay, and then rounds follow: in each a window of ours and one of every
variant, one at a time, in an order that moves on by one place a round. Windows are as long on both
sides, and so are the steps before them that do not count. After the first round a variant more than
a tenth slower than PyTorch's best is dropped. table.py takes the ratio to the variant with the
highest median.

Appends one line of JSON a measurement to --facts, as it is made: {"step": "bench", "run", "work",
"side", "round", ...}; what failed has "error" instead of numbers. Ends with status 1 where ours failed,
and again at once.
"""
import argparse
import json
import os
import pathlib
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace

HERE = pathlib.Path(__file__).resolve().parent
COMPILED = ("compile-graphs", "compile")
# A group of its own ends as a whole; a session of its own would outlive a machine's tidying up.
GROUP = {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
MAX_SLOWER = 0.9  # of PyTorch's best, in the first round
ROUND_S = 14      # ours with its start; a window of another variant is half of it


@dataclass
class Work:
    name: str
    mode: str
    model: str
    precision: str
    batch: int
    seconds: int  # of the time for everything; more where works before it took less
    variants: tuple = ()  # of PyTorch; none where no bar compares
    image_size: int = 0   # 0: the model's
    fusion: str = ""      # of ours; "": its best

    def speed(self, facts):
        return 1 / facts["p50_ms"] if self.batch == 1 else facts["images_per_s"]


WORKS = [
    Work("train-resnet50-fp16", "train", "resnet50", "fp16", 256, 150, (*COMPILED, "eager")),
    Work("infer-resnet50-fp16", "infer", "resnet50", "fp16", 256, 115, (*COMPILED, "eager-graphs")),
    Work("train-resnet50-tf32", "train", "resnet50", "tf32", 256, 125, (*COMPILED, "eager")),
    Work("train-resnet50-fp16-bn-in-conv", "train", "resnet50", "fp16", 256, 45,
         fusion="bn-relu-add+pool+conv-statistics+bn-in-conv"),
    Work("train-inception_v3-fp16", "train", "inception_v3", "fp16", 256, 40),
    Work("latency-resnet50-fp16", "infer", "resnet50", "fp16", 1, 50, ("eager-graphs", "compile-graphs")),
    Work("train-resnet50-bf16", "train", "resnet50", "bf16", 256, 150, (*COMPILED, "eager")),
]


def tiny(work):
    """Tries this script on a machine without a GPU; the figures mean nothing."""
    return replace(work, batch=1 if work.batch == 1 else 2, image_size=32)


class Program:
    """A program that answers in lines of JSON; ends with all its children."""

    def __init__(self, command, log, environment=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                        text=True, env=environment, **GROUP)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            try:
                facts = json.loads(line)
            except ValueError:
                continue  # whatever a library prints
            if isinstance(facts, dict):
                self.lines.put(facts)
        self.lines.put(None)

    def answer(self, limit):
        try:
            line = self.lines.get(timeout=max(0.1, limit))
        except queue.Empty:
            return {"error": f"no answer within {limit:.0f} s"}
        return line or {"error": f"ended without an answer, status {self.status(5)}"}

    def window(self, limit):
        try:
            self.process.stdin.write("next\n")
            self.process.stdin.flush()
        except OSError:
            return {"error": "has ended"}
        return self.answer(limit)

    def status(self, limit):
        """Of its own end; None where it does not come."""
        try:
            return self.process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            return None

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class DeviceMemory:
    """What the driver says each process holds of the GPU's memory: the most of it, in bytes."""

    def __init__(self):
        self.most, self.program = {}, None
        try:
            self.program = subprocess.Popen(
                ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits",
                 "-lms", "1000"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **GROUP)
        except OSError:
            return
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.program.stdout:
            pid, _, mebibytes = line.partition(",")
            if pid.strip().isdigit() and mebibytes.strip().isdigit():
                held = int(mebibytes) << 20
                self.most[int(pid)] = max(held, self.most.get(int(pid), 0))

    def of(self, pid):
        return self.most.get(pid)

    def end(self):
        if self.program:
            self.program.kill()
            self.program.wait()


class Bench:
    def __init__(self, options):
        self.options = options
        self.started = time.monotonic()
        self.log = open(options.log, "a")
        self.memory = DeviceMemory()
        self.running = set()
        self.own_failures = 0

    def left(self):
        return self.options.seconds - (time.monotonic() - self.started)

    def write(self, work, side, facts, **more):
        line = {**facts, "step": "bench", "run": self.options.run, "work": work.name, "side": side,
                "mode": work.mode, "model": work.model, "precision": work.precision, "batch": work.batch, **more}
        with open(self.options.facts, "a") as file:
            file.write(json.dumps(line) + "\n")
        if "error" in facts:
            text = facts["error"]
        else:
            text = f"{facts['images_per_s']:.1f} img/s"
            if facts.get("p50_ms"):
                text += f", p50 {facts['p50_ms']:.3f} ms"
        about = " ".join(str(value) for value in more.values() if value is not None)
        print(f"{work.name:24s} {side:9s} {about:30s} {text}", flush=True)

    def start(self, command, environment=None):
        program = Program(command, self.log, environment)
        self.running.add(program)
        return program

    def end(self, program):
        program.end()
        self.running.discard(program)

    def close(self):
        for program in list(self.running):
            self.end(program)
        self.memory.end()

    def lengths(self, seconds):
        warm = min(self.options.warm_seconds, seconds)
        return ["--seconds", str(seconds), "--warm-seconds", str(warm)]

    # --- ours ---------------------------------------------------------------------------------------

    def own_command(self, work, seconds):
        program = "rackmark-bench-train" if work.mode == "train" else "rackmark-bench-infer"
        command = [str(pathlib.Path(self.options.bin, program))]
        if work.mode == "train":
            command += ["--model", work.model, "--batch", str(work.batch), "--precision", work.precision]
        else:
            command += [work.model, work.precision, str(work.batch)]
        return command + ["--backend", self.options.backend, "--steps", "1", "--warmup", "1", "--json",
                          "--image-size", str(work.image_size), *(["--fusion", work.fusion] if work.fusion else []),
                          *self.lengths(seconds)]

    def own(self, work, seconds, limit, **environment):
        """A process of its own each time; engines are chosen, or read from the cache, before the window."""
        said = os.path.getsize(self.options.log)
        program = self.start(self.own_command(work, seconds),
                             {**os.environ, "LD_LIBRARY_PATH": self.options.libraries, **environment})
        facts = program.answer(min(limit, self.left()))
        if "error" not in facts and program.status(10) != 0:
            facts = {"error": f"answered, and ended with status {program.status(0)}"}
        self.end(program)
        if "error" in facts:
            facts["error"] += self.last_words(said)
        if "error" not in facts:
            facts["process_bytes"] = self.memory.of(program.process.pid)
            if work.mode == "infer":
                facts["p50_ms"] = facts["step_ms"]["p50"]
        return facts

    def last_words(self, position):
        with open(self.options.log, errors="replace") as log:
            log.seek(position)
            lines = log.read().strip().splitlines()
        return ": " + lines[-1][:300] if lines else ""

    def own_rounds_may_go_on(self, work, number):
        """Measures a round of ours; once more where it failed."""
        for _ in range(2):
            facts = self.own(work, self.options.window, 120 if number == 0 else 60)
            self.write(work, "rackmark", facts, round=number)
            if "error" not in facts:
                return True
            if self.left() < 2 * ROUND_S:
                break
        if self.left() > 1:  # else it was cut off
            self.own_failures += 1
            facts = self.own(work, 0, 60, RACKMARK_CUDA_STEP_BY_STEP="1")
            print(f"{work.name}: operation by operation: {facts.get('error', 'no failure')}", flush=True)
        return False

    # --- PyTorch ------------------------------------------------------------------------------------

    def peer_command(self, work, variant):
        return shlex.split(self.options.python) + [
            self.options.peer, work.mode, "--variant", variant, "--model", work.model,
            "--precision", work.precision, "--batch", str(work.batch), "--serve", "--rounds", "1000",
            "--image-size", str(work.image_size), "--device", self.options.device,
            *self.lengths(self.options.window)]

    def ready_peers(self, work, until):
        """Variants that have done their first steps in time, each in a process that waits."""
        limit = until - time.monotonic()
        peers = {v: self.start(self.peer_command(work, v)) for v in self.variants(work)}
        for variant, peer in list(peers.items()):
            ready = peer.answer(until - time.monotonic())
            if "error" in ready:
                why = f"within {limit:.0f} s" if time.monotonic() >= until else f"({ready['error']})"
                self.drop(work, peers, variant, {"error": f"not compiled {why}"})
            else:
                self.say(work, variant, f"first step after {ready['first_step_s']:.0f} s")
        return peers

    def say(self, work, variant, text):
        print(f"{work.name:24s} pytorch   {variant:30s} {text}", flush=True)

    def variants(self, work):
        if self.options.ours_only or not work.variants:
            return ()
        return self.options.variants.split(",") if self.options.variants else work.variants

    def drop(self, work, peers, variant, facts=None, **more):
        if facts:
            self.write(work, "pytorch", facts, **more, variant=variant)
        self.end(peers.pop(variant))

    def peer_round(self, work, peers, variant, number):
        facts = peers[variant].window(min(60, self.left()))
        if "error" in facts:
            return self.drop(work, peers, variant, facts, round=number)
        facts["process_bytes"] = self.memory.of(peers[variant].process.pid)
        self.write(work, "pytorch", facts, round=number, variant=variant)
        return work.speed(facts)

    def drop_slow(self, work, peers, speeds):
        known = {variant: speed for variant, speed in speeds.items() if speed}
        for variant, speed in known.items():
            if speed < MAX_SLOWER * max(known.values()):
                self.say(work, variant, "is slower: no more rounds")
                self.drop(work, peers, variant)

    # --- both ---------------------------------------------------------------------------------------

    def measure(self, work, seconds):
        began = time.monotonic()
        rounds = self.options.rounds * ROUND_S * (1 + len(self.variants(work)) / 3)
        until = began + max(0.4 * seconds, seconds - rounds)
        peers = self.ready_peers(work, until)
        own_works = True
        for number in range(self.options.rounds):
            if number > 0 and (time.monotonic() - began > seconds - ROUND_S or self.left() < ROUND_S):
                print(f"{work.name}: no time for round {number + 1}", flush=True)
                break
            sides = [None, *peers]
            speeds = {}
            for side in sides[number % len(sides):] + sides[:number % len(sides)]:
                if side is None:
                    own_works = own_works and self.own_rounds_may_go_on(work, number)
                else:
                    speeds[side] = self.peer_round(work, peers, side, number)
            if number == 0:
                self.drop_slow(work, peers, speeds)
        for variant in list(peers):
            self.drop(work, peers, variant)

    def sustained(self, work, seconds):
        if self.left() > seconds + ROUND_S:
            self.write(work, "sustained", self.own(work, seconds, seconds + 40), round=0)

    def run(self, works):
        for number, work in enumerate(works):
            later = sum(w.seconds for w in works[number + 1:])
            if self.options.sustained and number == 0:
                later += self.options.sustained + ROUND_S
            seconds = min(self.left(), max(work.seconds, self.left() - later))
            if seconds < ROUND_S:
                print(f"{work.name}: not run: no time left", flush=True)
                self.write(work, "rackmark", {"error": "not run: no time left"})
                continue
            print(f"{work.name}: {seconds:.0f} s", flush=True)
            self.measure(work, seconds)
            if self.options.sustained and number == 0:
                self.sustained(work, self.options.sustained)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", required=True, help="folder of rackmark-bench-train and -infer")
    parser.add_argument("--libraries", default=os.environ.get("LD_LIBRARY_PATH", ""),
                        help="LD_LIBRARY_PATH of these programs, not of PyTorch")
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("--python", default="python3", help="command with torch")
    parser.add_argument("--peer", default=str(HERE / "pytorch_gpu.py"), help="where that Python finds it")
    parser.add_argument("--device", default="cuda", help="PyTorch's")
    parser.add_argument("--facts", required=True, help="file that lines of JSON are added to")
    parser.add_argument("--log", default=os.devnull, help="file that errors of all programs are added to")
    parser.add_argument("--run", default="1", help="name of this call in the facts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--works", help="only these, with commas between, in this order")
    parser.add_argument("--variants", help="of PyTorch, only these")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--window", type=float, default=4, help="seconds, at least")
    parser.add_argument("--warm-seconds", type=float, default=1, help="before each window")
    parser.add_argument("--sustained", type=float, default=0,
                        help="also a window of ours of so many seconds, in the first work")
    parser.add_argument("--seconds", type=float, default=450, help="for everything")
    parser.add_argument("--tiny", action="store_true", help=tiny.__doc__)
    return parser.parse_args()


def chosen(options):
    works = {work.name: work for work in WORKS}
    names = options.works.split(",") if options.works else list(works)
    unknown = [name for name in names if name not in works]
    if unknown:
        sys.exit(f"compare.py: --works: {unknown}; known: {list(works)}")
    if not options.tiny:
        return [works[name] for name in names]
    # Inception takes no small pictures.
    return [tiny(works[name]) for name in names if works[name].model == "resnet50"]


def main():
    options = parse_arguments()
    works = chosen(options)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda signum, _: sys.exit(128 + signum))
    bench = Bench(options)
    try:
        bench.run(works)
    finally:
        bench.close()
    sys.exit(1 if bench.own_failures else 0)


main()
