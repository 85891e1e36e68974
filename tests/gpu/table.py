#!/usr/bin/env python3
"""The table of tests/gpu/check.sh, from the facts of one call or of several: `table.py FACTS...`.

Every check and every bar with what was measured, what is wanted, and a verdict: ok, FAILED (a check),
miss (a bar), part (some of it did not run), or "not measured". Nothing is estimated: a number that is
not in the facts is not in the table. Exit status 1: a check FAILED. `table.py --dry-run` checks the
table itself.
"""
import contextlib
import io
import json
import statistics
import sys

INCEPTION_ROOFLINE = 10617  # img/s at fusion level B, operation by operation
NOT_MEASURED = "not measured"
CHECKS = ("preflight", "device", "verify", "faults", "memcheck", "run", "memory", "pictures", "comparison",
          "profile", "fusion", "int8", "jpeg", "cache", "losses", "service")
# Of the loss at the start: how far means over 20 steps may be from those of fp32. Rounding differs and
# grows from step to step; a wrong gradient is much further off. fp16 skips its first steps until its
# loss scale (65,536 at first) fits: the batch and so the loss is the same again, and is left out.
CURVE_TOLERANCE = {"tf32": 0.05, "bf16": 0.1, "fp16": 0.1}


def read(paths):
    """Lines of JSON; one that was cut off when a machine went is no fact."""
    for path in paths:
        with open(path, errors="replace") as file:
            for text in file:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                if isinstance(line, dict):
                    yield line


class Facts:
    def __init__(self, lines):
        self.lines = list(lines)

    def measured(self, work, side, key):
        return [line for line in self.lines if line.get("step") == "bench" and line.get("work") == work
                and line.get("side") == side and line.get(key) is not None]

    def rates(self, work, side, key="images_per_s", variant=None):
        """By call and round."""
        return {(line.get("run"), line["round"]): line[key] for line in self.measured(work, side, key)
                if line.get("variant") == variant}

    def variants(self, work):
        """Of PyTorch, that were measured."""
        return list(dict.fromkeys(line["variant"] for line in self.measured(work, "pytorch", "images_per_s")))

    def fastest(self, work):
        return max(self.variants(work), default=None, key=lambda variant: statistics.median(
            self.rates(work, "pytorch", variant=variant).values()))

    def ratios(self, work):
        """Of ours to PyTorch's fastest, round by round."""
        ours, theirs = self.rates(work, "rackmark"), self.rates(work, "pytorch", variant=self.fastest(work))
        return [ours[at] / theirs[at] for at in ours if at in theirs]

    def errors(self, work, side, variant=None):
        return [line["error"].strip().splitlines()[-1] for line in self.lines
                if line.get("step") == "bench" and line.get("work") == work and line.get("side") == side
                and line.get("variant") == variant and line.get("error", "").strip()]

    def named(self, step):
        """The last line of every name, one that ran before one that did not."""
        named = {}
        for line in self.lines:
            if line.get("step") == step and ("status" in line or "status" not in named.get(line["name"], {})):
                named[line["name"]] = line
        return named

    def all_of(self, step, key):
        """{name: every value, in order}"""
        values = {}
        for line in self.lines:
            if line.get("step") == step and line.get(key) is not None:
                values.setdefault(line["name"], []).append(line[key])
        return values


def span(values, form):
    values = list(values)
    text = form.format(statistics.median(values))
    if len(values) > 1:
        bare = form.split("}")[0] + "}"  # without the unit
        text += f" ({bare.format(min(values))} to {bare.format(max(values))}, {len(values)})"
    return text


def bar(name, values, form, wanted_text, holds):
    values = list(values)
    if not values:
        return name, NOT_MEASURED, wanted_text, NOT_MEASURED
    verdict = "ok" if holds(statistics.median(values)) else "miss"
    return name, span(values, form), wanted_text, verdict


def at_least(name, values, bound, form="{:.0f} img/s"):
    return bar(name, values, form, ">= " + form.format(bound), lambda value: value >= bound)


def over_pytorch(facts, name, work, bound):
    name, text, wanted, verdict = at_least(name, facts.ratios(work), bound, "{:.2f}x")
    variants = facts.variants(work)
    if verdict != NOT_MEASURED:
        text += f", {facts.fastest(work)}"
        if not any(variant.startswith("compile") for variant in variants):
            verdict = "part"  # PyTorch may have been faster
    return name, text, wanted, verdict


def smallest_of_pytorch(facts, work):
    """Bytes; after a recording PyTorch's own count leaves out what the recording holds."""
    return min((line["max_memory_allocated"] for line in facts.measured(work, "pytorch", "max_memory_allocated")
                if not line["variant"].endswith("graphs")), default=None)


def in_turns(facts, name, rate, one, other):
    """One over the other, turn by turn; no bar is set."""
    rates = facts.all_of(rate, "images_per_s")
    ones, others = rates.get(one, []), rates.get(other, [])
    ratios = [a / b for a, b in zip(ones, others)] if len(ones) == len(others) else []
    return name, span(ratios, "{:.2f}x") if ratios else NOT_MEASURED, "", ""


def int8_over_fp16(facts):
    return in_turns(facts, "resnet50 inference int8 b256 over fp16", "int8_rate", "int8", "fp16")


def nvjpeg_over_cpu(facts):
    return in_turns(facts, "resnet50 training on JPEG files, nvJPEG over CPU", "jpeg_rate", "gpu", "cpu")


def memory_ratio(facts, work):
    ours = next((line["arena_bytes"] for line in facts.measured(work, "rackmark", "arena_bytes")), None)
    theirs = smallest_of_pytorch(facts, work)
    return [ours / theirs] if ours and theirs else []


def bars(facts):
    rows = []
    for kind in ("fp16", "bf16"):
        work = f"train-resnet50-{kind}"
        ours = facts.rates(work, "rackmark").values()
        rows.append(at_least(f"resnet50 training {kind} b256", ours, 6500))
        rows.append(at_least("  the record's 7,970", ours, 7970))
        rows.append(over_pytorch(facts, "  over PyTorch, its fastest", work, 2))
    rows.append(at_least("resnet50 training fp16 b256, bn in convolutions",
                         facts.rates("train-resnet50-fp16-bn-in-conv", "rackmark").values(), 7970))
    rows.append(at_least("inception_v3 training fp16 b256",
                         facts.rates("train-inception_v3-fp16", "rackmark").values(),
                         0.6 * INCEPTION_ROOFLINE))
    rows.append(over_pytorch(facts, "resnet50 training tf32 b256 over PyTorch", "train-resnet50-tf32", 1.5))
    rows.append(over_pytorch(facts, "resnet50 inference fp16 b256 over PyTorch", "infer-resnet50-fp16", 1.5))
    rows.append(bar("resnet50 inference fp16 b1, p50",
                    facts.rates("latency-resnet50-fp16", "rackmark", "p50_ms").values(),
                    "{:.3f} ms", "< 0.6 ms", lambda value: value < 0.6))
    rows.append(bar("device memory, training fp16 b256, over PyTorch",
                    memory_ratio(facts, "train-resnet50-fp16"), "{:.2f}x", "<= 0.80x",
                    lambda value: value <= 0.8))
    rows.append(at_least("resnet50 training fp16 b256, packed pictures",
                         facts.all_of("real_pictures", "images_per_s").get("packed", []), 6500))
    rows.append(int8_over_fp16(facts))
    rows.append(nvjpeg_over_cpu(facts))
    return rows


def checks(facts):
    rows = []
    for step in CHECKS:
        named = facts.named(step)
        done = [line for line in named.values() if "status" in line]
        good = [line for line in done if line["status"] == line["wanted"]]
        text = f"{len(good)} of {len(done)}" if done else NOT_MEASURED
        if len(done) < len(named):
            text += f", {len(named) - len(done)} not run"
        verdict = ("FAILED" if len(good) < len(done) else NOT_MEASURED if not done
                   else "part" if len(done) < len(named) else "ok")
        rows.append((step, text, "all", verdict))
    return rows + list(curves(facts))


def curves(facts):
    losses = {name: line["losses"] for name, line in facts.named("loss_curve").items()}
    for name, tolerance in CURVE_TOLERANCE.items():
        row = f"  losses of {name} from fp32's", NOT_MEASURED, f"<= {tolerance:.0%} of the first", NOT_MEASURED
        if name in losses and "fp32" in losses:
            curve = without_skipped(losses[name])
            off = distance(curve, losses["fp32"])
            good = off is not None and off <= tolerance * losses["fp32"][0]
            text = "not finite, or all steps skipped" if off is None else f"{off:.4f}"
            if len(curve) < len(losses[name]):
                text += f", {len(losses[name]) - len(curve)} steps skipped"
            row = row[0], text, row[2], "ok" if good else "FAILED"
        yield row


def without_skipped(curve):
    first = 0
    while first + 1 < len(curve) and curve[first + 1] == curve[first]:
        first += 1
    return curve[first:]


def distance(curve, wanted, width=20):
    """Largest difference of means over `width` steps: single steps differ by chance. None: not finite."""
    if None in curve or None in wanted or len(curve) < 2:
        return None
    width = min(width, len(curve))
    means = [[statistics.mean(c[i:i + width]) for i in range(0, len(curve) - width + 1, width)]
             for c in (curve, wanted)]
    return max(abs(a - b) for a, b in zip(*means))


def gigabytes(lines, key):
    values = [line[key] for line in lines if line.get(key) is not None]
    return f"{max(values) / 1e9:.2f}" if values else "-"


def side_of(facts, work, side, variant):
    label = f"{work:24s} {variant or 'rackmark':15s} "
    rates = facts.rates(work, side, variant=variant).values()
    errors = facts.errors(work, side, variant)
    if not rates:
        return label + NOT_MEASURED + (f" ({errors[-1][:120]})" if errors else "")
    label += f"{span(rates, '{:.0f}')} img/s"
    latency = facts.rates(work, side, "p50_ms", variant).values()
    if latency:
        label += f", p50 {span(latency, '{:.3f}')} ms"
    lines = [line for line in facts.measured(work, side, "images_per_s") if line.get("variant") == variant]
    if side == "rackmark":
        label += f"; {gigabytes(lines, 'arena_bytes')} GB"
    else:
        label += (f"; {gigabytes(lines, 'max_memory_allocated')} GB allocated, "
                  f"{gigabytes(lines, 'max_memory_reserved')} reserved")
    label += f", {gigabytes(lines, 'process_bytes')} by the driver"
    return label + (f"; once: {errors[-1][:80]}" if errors else "")


def works(facts):
    """Ours and every variant of PyTorch, with memory."""
    lines = [line for line in facts.lines if line.get("step") == "bench"]
    for name in dict.fromkeys(line["work"] for line in lines):
        sides = [(line["side"], line.get("variant")) for line in lines if line["work"] == name]
        for side, variant in dict.fromkeys(sorted(sides, key=lambda one: one[0] != "rackmark")):
            if side == "sustained":
                rates = facts.rates(name, side).values()
                yield f"{name:24s} one long window {span(rates, '{:.0f}') if rates else NOT_MEASURED} img/s"
            else:
                yield side_of(facts, name, side, variant)


def others(facts):
    for name, rates in facts.all_of("fusion_rate", "images_per_s").items():
        yield f"fusion {name:44s} {span(rates, '{:.0f}')} img/s"
    for name, rates in facts.all_of("int8_rate", "images_per_s").items():
        yield f"inference {name:9s} {span(rates, '{:.0f}')} img/s"
    for name, rates in facts.all_of("jpeg_rate", "images_per_s").items():
        yield f"JPEG files decoded by {name} {span(rates, '{:.0f}')} img/s"
    waits = facts.all_of("real_pictures", "input_wait_ms")
    for name, rates in facts.all_of("real_pictures", "images_per_s").items():
        yield (f"pictures {name:16s} {span(rates, '{:.0f}')} img/s, "
               f"a step waits {span(waits[name], '{:.2f}')} ms for them")
    first = facts.all_of("cache_time", "first_step_s")
    for name, seconds in facts.all_of("cache_time", "compile_s").items():
        yield (f"plan cache {name:6s} compile {span(seconds, '{:.2f}')} s, "
               f"first step {span(first[name], '{:.2f}')} s")
    for name, line in facts.named("loss_curve").items():
        curve = line["losses"]
        yield f"losses {name}: " + " ".join("-" if curve[i] is None else f"{curve[i]:.4f}"
                                            for i in sorted({0, *range(19, len(curve), 30), len(curve) - 1}))


def print_table(facts):
    for title, lines in (("other figures: median (least to most, how many)", others(facts)),
                         ("both sides", works(facts))):
        lines = list(lines)
        if lines:
            print(f"-- {title}")
            print("\n".join(lines))
    print("-- table")
    rows = [("what", "measured", "wanted", "")] + checks(facts) + bars(facts)
    for row in rows:
        print(f"{row[0]:48s} {row[1]:46s} {row[2]:20s} {row[3]}".rstrip())
    return 1 if any(row[3] == "FAILED" for row in rows) else 0


def self_test():
    """Verdicts on made-up facts: met, missed, absent, in part."""
    def bench(work, side, number, **more):
        return {"step": "bench", "run": "1", "work": work, "side": side, "round": number, **more}

    lines = [bench("train-resnet50-fp16", "rackmark", n, images_per_s=7000 + n, arena_bytes=9e9)
             for n in range(3)]
    for variant, rate, held in (("compile-graphs", 3600, 1e9), ("compile", 3400, 10e9), ("eager", 3000, 12e9)):
        lines += [bench("train-resnet50-fp16", "pytorch", n, variant=variant, images_per_s=rate,
                        max_memory_allocated=held) for n in range(3 if rate > 3200 else 1)]
    lines += [bench("train-resnet50-tf32", "rackmark", 0, images_per_s=2000),
              bench("train-resnet50-tf32", "pytorch", 0, variant="compile", error="no"),
              bench("train-resnet50-tf32", "pytorch", 0, variant="eager", images_per_s=1000),
              bench("latency-resnet50-fp16", "rackmark", 0, images_per_s=1, p50_ms=0.5),
              bench("train-resnet50-bf16", "rackmark", 0, error="exit status 1"),
              {"step": "real_pictures", "name": "packed", "images_per_s": 6400.0, "input_wait_ms": 0.0},
              {"step": "int8_rate", "name": "fp16", "images_per_s": 10000.0},
              {"step": "int8_rate", "name": "int8", "images_per_s": 15000.0},
              {"step": "loss_curve", "name": "fp32", "losses": [7.0, 6.0]},
              {"step": "loss_curve", "name": "tf32", "losses": [7.0, 7.0, 6.1]},
              {"step": "loss_curve", "name": "bf16", "losses": [7.0, 9.0]},
              {"step": "loss_curve", "name": "fp16", "losses": [7.0, None]},
              {"step": "verify", "name": "a", "status": 0, "wanted": 0},
              {"step": "verify", "name": "b", "error": "not run"},
              {"step": "device", "name": "d", "status": 0, "wanted": 0},
              {"step": "device", "name": "d", "error": "not run"},
              {"step": "run", "name": "r", "error": "not run"},
              {"step": "faults", "name": "c", "status": 0, "wanted": 1}]
    facts = Facts(lines)
    none = NOT_MEASURED
    wanted = {"device": "ok", "verify": "part", "faults": "FAILED", "  losses of tf32 from fp32's": "ok",
              "  losses of bf16 from fp32's": "FAILED", "  losses of fp16 from fp32's": "FAILED",
              "resnet50 training fp16 b256": "ok", "resnet50 training tf32 b256 over PyTorch": "part",
              "resnet50 inference fp16 b1, p50": "ok", "device memory, training fp16 b256, over PyTorch": "miss",
              "resnet50 training fp16 b256, packed pictures": "miss", "resnet50 inference int8 b256 over fp16": "",
              "resnet50 training on JPEG files, nvJPEG over CPU": ""}
    got = {row[0]: row[3] for row in bars(facts)[3:] + checks(facts)}
    got["resnet50 training fp16 b256"] = bars(facts)[0][3]
    wrong = {name: verdict for name, verdict in got.items() if verdict != wanted.get(name, none)}
    if wrong or [row[3] for row in bars(facts)[:3]] != ["ok", "miss", "miss"]:
        sys.exit(f"table.py: {wrong or bars(facts)[:3]}")
    if facts.fastest("train-resnet50-fp16") != "compile-graphs" or len(facts.ratios("train-resnet50-fp16")) != 3:
        sys.exit("table.py: PyTorch's fastest")
    if int8_over_fp16(facts)[1] != "1.50x" or int8_over_fp16(Facts([]))[1] != none:
        sys.exit("table.py: int8 over fp16")
    if any(row[3] not in (none, "") for row in bars(Facts([])) + checks(Facts([]))):
        sys.exit("table.py: a verdict without facts")
    with contextlib.redirect_stdout(io.StringIO()):
        print_table(facts)
    print("table.py: verdicts hold")


if len(sys.argv) < 2:
    sys.exit("usage: table.py FACTS... | --dry-run")
if sys.argv[1] == "--dry-run":
    self_test()
else:
    sys.exit(print_table(Facts(read(sys.argv[1:]))))
