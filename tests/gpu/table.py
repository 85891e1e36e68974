#!/usr/bin/env python3
"""The table of tests/gpu/check.sh, from its facts: `table.py FACTS`.

Every bar with what was measured, what is wanted, and ok, miss or "not measured". Nothing is estimated:
a number that is not in the facts is not in the table. `table.py --dry-run` checks the table itself.
"""
import json
import statistics
import sys

INCEPTION_ROOFLINE = 10617  # img/s at fusion level B, operation by operation
NOT_MEASURED = "not measured"


class Facts:
    def __init__(self, lines):
        self.lines = lines

    def rates(self, work, side, key="images_per_s"):
        """By round."""
        return {line["round"]: line[key] for line in self.lines
                if line.get("step") == "bench" and line.get("work") == work
                and line.get("side") == side and line.get(key) is not None}

    def first(self, work, side, key):
        return next((line[key] for line in self.lines
                     if line.get("work") == work and line.get("side") == side
                     and line.get(key) is not None), None)

    def named(self, step):
        """The last line of every name."""
        return {line["name"]: line for line in self.lines if line.get("step") == step}

    def ratios(self, work):
        ours, theirs = self.rates(work, "rackmark"), self.rates(work, "pytorch")
        return [ours[number] / theirs[number] for number in ours if number in theirs]


def span(values, form):
    values = list(values)
    text = form.format(statistics.median(values))
    if len(values) > 1:
        text += f" ({form.format(min(values))} to {form.format(max(values))}, {len(values)} rounds)"
    return text


def bar(name, values, form, wanted_text, holds):
    values = list(values)
    if not values:
        return name, NOT_MEASURED, wanted_text, NOT_MEASURED
    verdict = "ok" if holds(statistics.median(values)) else "miss"
    return name, span(values, form), wanted_text, verdict


def at_least(name, values, bound, form="{:.0f} img/s"):
    return bar(name, values, form, ">= " + form.format(bound), lambda value: value >= bound)


def memory_ratio(facts, work):
    ours = facts.first(work, "rackmark", "arena_bytes")
    theirs = facts.first(work, "pytorch", "max_memory_allocated")
    return [ours / theirs] if ours and theirs else []


def bars(facts):
    rows = []
    for kind in ("fp16", "bf16"):
        work = f"train-resnet50-{kind}"
        ours = facts.rates(work, "rackmark").values()
        rows.append(at_least(f"resnet50 training {kind} b256", ours, 6500))
        rows.append(at_least("  the record's 7,970", ours, 7970))
        rows.append(at_least("  over PyTorch, its fastest", facts.ratios(work), 2, "{:.2f}x"))
    rows.append(at_least("inception_v3 training fp16 b256",
                         facts.rates("train-inception_v3-fp16", "rackmark").values(),
                         0.6 * INCEPTION_ROOFLINE))
    rows.append(at_least("resnet50 training tf32 b256 over PyTorch",
                         facts.ratios("train-resnet50-tf32"), 1.5, "{:.2f}x"))
    rows.append(at_least("resnet50 inference fp16 b256 over PyTorch",
                         facts.ratios("infer-resnet50-fp16"), 1.5, "{:.2f}x"))
    rows.append(bar("resnet50 inference fp16 b1, p50",
                    facts.rates("latency-resnet50-fp16", "rackmark", "p50_ms").values(),
                    "{:.3f} ms", "< 0.6 ms", lambda value: value < 0.6))
    rows.append(bar("device memory, training fp16 b256, over PyTorch",
                    memory_ratio(facts, "train-resnet50-fp16"), "{:.2f}x", "<= 0.80x",
                    lambda value: value <= 0.8))
    pictures = facts.named("real_pictures").get("packed")
    rows.append(at_least("resnet50 training fp16 b256, packed pictures",
                         [pictures["images_per_s"]] if pictures else [], 6500))
    return rows


def checks(facts):
    rows = []
    for step in ("device", "verify", "faults", "memcheck", "run", "memory", "pictures"):
        named = facts.named(step)
        done = [line for line in named.values() if "status" in line]
        good = [line for line in done if line["status"] == line["wanted"]]
        text = f"{len(good)} of {len(done)}" if done else NOT_MEASURED
        if len(done) < len(named):
            text += f", {len(named) - len(done)} not run"
        verdict = "ok" if done and len(good) == len(done) else "FAILED" if done else NOT_MEASURED
        rows.append((step, text, "all", verdict))
    return rows


def gigabytes(value):
    return "-" if value is None else f"{value / 1e9:.2f}"


def works(facts):
    """Both sides of every work, with memory."""
    names = list(dict.fromkeys(l["work"] for l in facts.lines if l.get("step") == "bench"))
    for name in names:
        for side in ("rackmark", "pytorch"):
            rates = facts.rates(name, side).values()
            if not rates:
                errors = [l["error"] for l in facts.lines if l.get("work") == name
                          and l.get("side") == side and "error" in l]
                why = f" ({errors[-1].strip().splitlines()[-1][:90]})" if errors else ""
                yield f"{name:24s} {side:9s} {NOT_MEASURED}{why}"
                continue
            line = f"{name:24s} {side:9s} {span(rates, '{:.0f}')} img/s"
            latency = facts.rates(name, side, "p50_ms").values()
            if latency:
                line += f", p50 {span(latency, '{:.3f}')} ms"
            if side == "rackmark":
                line += f"; {gigabytes(facts.first(name, side, 'arena_bytes'))} GB"
            else:
                line += (f"; {facts.first(name, side, 'variant')}, "
                         f"{gigabytes(facts.first(name, side, 'max_memory_allocated'))} GB allocated, "
                         f"{gigabytes(facts.first(name, side, 'max_memory_reserved'))} reserved")
            yield line


def tries(facts):
    for line in facts.lines:
        if line.get("side") == "prepare":
            rate = line.get("images_per_s")
            text = f"{rate:.0f} img/s" if rate else line.get("error", "")[:70].replace("\n", " ")
            yield f"{line['work']:24s} {line['variant']:15s} {text}"


def others(facts):
    for line in facts.lines:
        if line.get("step") == "fusion_rate":
            yield f"fusion {line['name']:28s} {line['images_per_s']:.0f} img/s"
    for name, line in facts.named("real_pictures").items():
        yield (f"pictures {name:9s} {line['images_per_s']:.0f} img/s, "
               f"a step waits {line['input_wait_ms']:.2f} ms for them")
    for name, line in facts.named("cache_time").items():
        yield (f"plan cache {name:6s} compile {line['compile_s']:.2f} s, "
               f"first step {line['first_step_s']:.2f} s")
    curves = {name: line["losses"] for name, line in facts.named("loss_curve").items()}
    for name, curve in curves.items():
        text = f"losses {name}: " + " ".join(
            "-" if curve[i] is None else f"{curve[i]:.4f}"
            for i in sorted({0, *range(19, len(curve), 30), len(curve) - 1}))
        if name != "fp32" and "fp32" in curves:
            text += f"; from fp32 {distance(curve, curves['fp32'])}"
        yield text


def distance(curve, wanted, width=20):
    """Largest difference of means over `width` steps: single steps differ by chance."""
    if None in curve:
        return "not finite"
    width = min(width, len(curve))
    means = [[statistics.mean(c[i:i + width]) for i in range(0, len(c) - width + 1, width)]
             for c in (curve, wanted)]
    return f"at most {max(abs(a - b) for a, b in zip(*means)):.4f} (means of {width} steps)"


def print_table(facts):
    for title, lines in (("PyTorch's variants, tried beside other work", tries(facts)),
                         ("other figures", others(facts)), ("both sides", works(facts))):
        lines = list(lines)
        if lines:
            print(f"-- {title}")
            print("\n".join(lines))
    print("-- table")
    rows = [("what", "measured", "wanted", "")] + checks(facts) + bars(facts)
    for row in rows:
        print(f"{row[0]:48s} {row[1]:46s} {row[2]:14s} {row[3]}")


def self_test():
    """Verdicts on made-up facts: met, missed, absent."""
    def bench(work, side, number, **more):
        return {"step": "bench", "work": work, "side": side, "round": number, **more}

    lines = [bench("train-resnet50-fp16", "rackmark", n, images_per_s=7000 + n, arena_bytes=9e9)
             for n in range(3)]
    lines += [bench("train-resnet50-fp16", "pytorch", n, images_per_s=3600, max_memory_allocated=10e9)
              for n in range(3)]
    lines += [bench("latency-resnet50-fp16", "rackmark", 0, images_per_s=1, p50_ms=0.5)]
    lines += [bench("train-resnet50-bf16", "rackmark", 0, error="exit status 1")]
    lines += [{"step": "real_pictures", "name": "packed", "images_per_s": 6400.0},
              {"step": "verify", "name": "a", "status": 0, "wanted": 0},
              {"step": "verify", "name": "b", "error": "not run"},
              {"step": "faults", "name": "c", "status": 0, "wanted": 1}]
    verdicts = [row[3] for row in checks(Facts(lines)) + bars(Facts(lines))]
    none = NOT_MEASURED
    wanted = [none, "ok", "FAILED", none, none, none, none, "ok", "miss", "miss", none, none, none, none, none, none,
              "ok", "miss", "miss"]
    if verdicts != wanted:
        sys.exit(f"table.py: {verdicts}, wanted {wanted}")
    if any(row[3] != none for row in bars(Facts([]))):
        sys.exit("table.py: a verdict without facts")
    print("table.py: verdicts hold")


if len(sys.argv) != 2:
    sys.exit("usage: table.py FACTS | --dry-run")
if sys.argv[1] == "--dry-run":
    self_test()
else:
    with open(sys.argv[1]) as file:
        print_table(Facts([json.loads(text) for text in file if text.strip()]))
