#!/usr/bin/env python3
"""Rackmark and PyTorch on the same GPU, in turns: the benchmark table of tests/gpu/check.sh.

First every variant of the PyTorch side is tried, which fills its compiler's cache and names the fastest;
several are compiled side by side, and other work may run meanwhile (until --gate exists). Then, with
nothing else running, each work is measured in rounds: one window of ours, one window of PyTorch's fastest
variant, in an order that alternates. What counts is the median over the rounds and, for a ratio, the
median of the rounds' ratios.

Appends one line of JSON a measurement to --facts: {"step": "bench", "work", "side", ...}. A side that
could not be measured has "error" instead of numbers.
"""
import argparse
import concurrent.futures
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
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
TRAINING = ("compile-graphs", "compile", "eager")
INFERENCE = ("compile-graphs", "compile", "eager-graphs")


@dataclass
class Work:
    name: str
    mode: str
    model: str
    precision: str
    batch: int
    steps: int
    image_size: int = 0  # 0: the model's


WORKS = [
    Work("train-resnet50-fp16", "train", "resnet50", "fp16", 256, 40),
    Work("train-resnet50-bf16", "train", "resnet50", "bf16", 256, 40),
    Work("infer-resnet50-fp16", "infer", "resnet50", "fp16", 256, 100),
    Work("latency-resnet50-fp16", "infer", "resnet50", "fp16", 1, 500),
    Work("train-resnet50-tf32", "train", "resnet50", "tf32", 256, 25),
    Work("train-inception_v3-fp16", "train", "inception_v3", "fp16", 256, 25),
]


def tiny(work):
    """Tries this script on a machine without a GPU; the figures mean nothing."""
    size = 75 if work.model == "inception_v3" else 32
    return Work(work.name, work.mode, work.model, work.precision, 1 if work.batch == 1 else 2, 2, size)


class Lines:
    """A program that answers in lines of JSON; reads with a limit, ends it with all its children."""

    def __init__(self, command, log):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=log, text=True, start_new_session=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def answer(self, limit):
        try:
            line = self.lines.get(timeout=max(0.1, limit))
        except queue.Empty:
            return {"error": f"no answer within {limit:.0f} s"}
        return line or {"error": "ended without an answer"}

    def next_round(self, limit):
        try:
            self.process.stdin.write("next\n")
            self.process.stdin.flush()
        except OSError:
            return {"error": "has ended"}
        return self.answer(limit)

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Bench:
    def __init__(self, options):
        self.options = options
        self.started = time.monotonic()
        self.lock = threading.Lock()
        self.log = open(options.log, "a")
        self.running = set()
        self.closed = False

    def left(self):
        return self.options.seconds - (time.monotonic() - self.started)

    def write(self, work, side, facts, **more):
        line = {**facts, "step": "bench", "work": work.name, "side": side, "mode": work.mode,
                "model": work.model, "precision": work.precision, "batch": work.batch, **more}
        with self.lock, open(self.options.facts, "a") as file:
            file.write(json.dumps(line) + "\n")
        if "error" in facts:
            text = facts["error"]
        else:
            text = f"{facts['images_per_s']:.1f} img/s"
            if facts.get("p50_ms"):
                text += f", p50 {facts['p50_ms']:.3f} ms"
        about = " ".join(str(value) for value in more.values())
        print(f"{work.name:26s} {side:8s} {about:24s} {text}", flush=True)

    def peer_command(self, work, variant):
        command = shlex.split(self.options.python) + [
            str(HERE / "pytorch_gpu.py"), work.mode, "--model", work.model, "--precision", work.precision,
            "--batch", str(work.batch), "--steps", str(work.steps), "--variants", variant, "--serve",
            "--rounds", "1000", "--limit", str(self.options.compile_limit),
            "--image-size", str(work.image_size), "--device", self.options.device]
        return command + (["--warmup", "1"] if self.options.tiny else [])

    def start_peer(self, work, variant):
        with self.lock:
            if self.closed:
                return None
            peer = Lines(self.peer_command(work, variant), self.log)
            self.running.add(peer)
            return peer

    def end_peer(self, peer):
        peer.end()
        with self.lock:
            self.running.discard(peer)

    def own_command(self, work):
        program = "rackmark-bench-train" if work.mode == "train" else "rackmark-bench-infer"
        command = [str(pathlib.Path(self.options.bin, program))]
        if work.mode == "train":
            command += ["--model", work.model, "--batch", str(work.batch), "--precision", work.precision]
        else:
            command += [work.model, work.precision, str(work.batch)]
        return command + ["--backend", self.options.backend, "--steps", str(work.steps), "--json",
                          "--warmup", "1" if self.options.tiny else "10",
                          "--image-size", str(work.image_size)]

    # One try of a variant: {"variant", "images_per_s" or "error"}.
    def prepare(self, work, variant):
        peer = self.start_peer(work, variant)
        if peer is None:
            return {"variant": variant, "error": "not tried: no time left"}
        ready = peer.answer(self.options.compile_limit + 30)
        facts = ready if "error" in ready else peer.next_round(60)
        self.end_peer(peer)
        if self.closed and "error" in facts:
            facts = {"error": "not compiled in the time there was"}
        self.write(work, "prepare", facts, variant=variant)
        return {**facts, "variant": variant}

    def prepare_all(self, works):
        """The fastest variant of every work; None where none works."""
        tries = {}
        with concurrent.futures.ThreadPoolExecutor(self.options.parallel) as pool:
            for work in works:
                variants = TRAINING if work.mode == "train" else INFERENCE
                if self.options.variants:
                    variants = [v for v in variants if v in self.options.variants.split(",")]
                tries[work.name] = [pool.submit(self.prepare, work, v) for v in variants]
            everything = [one for list_of in tries.values() for one in list_of]
            concurrent.futures.wait(everything, timeout=min(self.options.prepare_seconds,
                                                            self.options.seconds / 2))
            with self.lock:
                self.closed = True
                late = list(self.running)
            for peer in late:
                peer.end()
        best = {}
        for name, futures in tries.items():
            done = [f.result() for f in futures if "error" not in f.result()]
            latency = name.startswith("latency")
            done.sort(key=lambda d: d["p50_ms"] if latency else -d["images_per_s"])
            best[name] = done[0]["variant"] if done else None
        self.closed = False
        return best

    def own(self, work):
        try:
            done = subprocess.run(self.own_command(work), capture_output=True, text=True,
                                  env={**os.environ, "LD_LIBRARY_PATH": self.options.libraries},
                                  timeout=max(5, min(90, self.left())))
        except subprocess.TimeoutExpired:
            return {"error": "not done within the time"}
        self.log.write(done.stderr)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not lines:
            return {"error": f"exit status {done.returncode}: {done.stderr.strip()[-300:]}"}
        facts = json.loads(lines[-1])
        if work.mode == "infer":
            facts["p50_ms"] = facts["step_ms"]["p50"]
        return facts

    def measure(self, work, variant):
        peer = self.start_peer(work, variant) if variant else None
        if peer:
            ready = peer.answer(min(self.options.compile_limit + 30, self.left() - 40))  # 40 s for rounds
            if "error" in ready:
                self.write(work, "pytorch", ready, variant=variant)
                self.end_peer(peer)
                peer = None
        own_works = True
        for number in range(self.options.rounds):
            if self.left() < 10:
                print(f"{work.name}: no time for round {number + 1}", flush=True)
                break
            sides = ["rackmark", "pytorch"] if number % 2 == 0 else ["pytorch", "rackmark"]
            for side in sides:
                if side == "rackmark" and own_works:
                    facts = self.own(work)
                    own_works = "error" not in facts
                    self.write(work, side, facts, round=number)
                elif side == "pytorch" and peer:
                    self.write(work, side, peer.next_round(60), round=number, variant=variant)
        if peer:
            self.end_peer(peer)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", required=True, help="folder of rackmark-bench-train and -infer")
    parser.add_argument("--libraries", default=os.environ.get("LD_LIBRARY_PATH", ""),
                        help="LD_LIBRARY_PATH of these programs, not of PyTorch")
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("--python", default="python3", help="command with torch")
    parser.add_argument("--device", default="cuda", help="PyTorch's")
    parser.add_argument("--facts", required=True, help="file that lines of JSON are added to")
    parser.add_argument("--log", default=os.devnull, help="file that errors are added to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--works", help="only these, with commas between")
    parser.add_argument("--variants", help="of PyTorch, only these")
    parser.add_argument("--parallel", type=int, default=3, help="variants compiled side by side")
    parser.add_argument("--compile-limit", type=float, default=150)
    parser.add_argument("--prepare-seconds", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=450, help="for everything")
    parser.add_argument("--gate", help="rounds begin when this file exists")
    parser.add_argument("--tiny", action="store_true", help=tiny.__doc__)
    return parser.parse_args()


def main():
    options = parse_arguments()
    works = [tiny(w) if options.tiny else w for w in WORKS]
    if options.works:
        wanted = options.works.split(",")
        unknown = set(wanted) - {w.name for w in works}
        if unknown:
            sys.exit(f"compare.py: --works: {sorted(unknown)}; known: {[w.name for w in works]}")
        works = [w for w in works if w.name in wanted]
    bench = Bench(options)
    best = bench.prepare_all(works)
    while options.gate and not pathlib.Path(options.gate).exists():
        time.sleep(0.5)
    for work in works:
        if bench.left() < 20:
            print(f"{work.name}: no time left", flush=True)
            continue
        bench.measure(work, best[work.name])


main()
