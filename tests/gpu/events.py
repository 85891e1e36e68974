#!/usr/bin/env python3
"""One line about a run of rackmark-worker, from its event lines: `events.py FILE [--json]`.

With --json its rate and how long a step waited for pictures, as one object.
"""
import json
import statistics
import sys


def middle(events, field, form):
    values = [event[field] for event in events
              if event.get("type") == "telemetry" and event.get(field) is not None]
    return form.format(statistics.median(values)) if values else "none"


def rate_of(summary):
    return summary["images"] / (summary["end_ns"] - summary["start_ns"]) * 1e9


def main():
    with open(sys.argv[1]) as file:
        events = [json.loads(line) for line in file if line.startswith("{")]
    setup = next((event for event in events if "arena_bytes" in event), {})
    ends = [event for event in events if event.get("type") == "summary"]
    if "--json" in sys.argv:
        waits = [ms for event in events if event.get("phase") == "measuring"
                 for ms in event.get("input_wait_ms", [])]
        print(json.dumps({"images_per_s": rate_of(ends[-1]), "input_wait_ms": statistics.median(waits)}))
        return
    line = f"batch {setup.get('batch_size')}, backend {setup.get('backend')}"
    if ends:
        end = ends[-1]
        line += f", {rate_of(end):.1f} img/s"
        if end["first_loss"] is not None:
            line += f", loss {end['first_loss']} to {end['final_loss']}"
        if end.get("agreement"):
            line += ", cosine {cosine:.3f} and top-1 {top1:.2f} with fp32".format(**end["agreement"])
    if setup.get("arena_bytes"):
        line += f", {setup['arena_bytes'] / 1e9:.2f} GB"
    print(line + "; telemetry: busy " + middle(events, "gpu_fraction", "{:.2f}")
          + ", W " + middle(events, "power_w", "{:.0f}") + ", MHz " + middle(events, "clock_mhz", "{:.0f}")
          + ", C " + middle(events, "temperature_c", "{:.0f}"))


main()
