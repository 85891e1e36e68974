// Telemetry events as lines over time.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TelemetryEvent } from "./contract";
import { bounded, extremeOf, joined, largest, mean, slotsOf, smallest, slowedSpans, sum, telemetryTable, throttleShares, timeLine } from "./telemetry";

const event = (rank: number, seconds: number, more: Partial<TelemetryEvent> = {}): TelemetryEvent =>
  ({ run_id: 7, rank, t_ns: (1000 * (rank + 1) + seconds) * 1e9, cpu_fraction: 0.5, gpu_fraction: null, throttle_reasons: null, ...more }) as TelemetryEvent;
const power = (e: TelemetryEvent) => e.power_w;

test("live events continue what was fetched, each once", () => {
  const first = [event(0, 0), event(1, 0)];
  const more = joined(first, [event(0, 0), event(0, 1), event(0, 1)]);
  assert.deepEqual(more.map((e) => [e.rank, e.t_ns / 1e9]), [[0, 1000], [1, 2000], [0, 1001]]);
  assert.equal(joined(more, [event(1, 0)]), more);
  const long = bounded(Array.from({ length: 6002 }, (_, i) => event(i % 2, i)));
  assert.deepEqual([long.length, long[0]!.rank, long[1]!.rank], [3002, 0, 1], "ranks are thinned one by one");
});

test("ranks are put together by the time since their own first reading", () => {
  const both = slotsOf([event(0, 0, { power_w: 100 }), event(0, 0.25, { power_w: 200 }), event(1, 0.5, { power_w: 300 }), event(0, 3, { power_w: 400 }), event(1, 9, { power_w: null })]);
  assert.deepEqual(timeLine(both, power, sum), [[0, 450]], "no sum over the ranks that are left");
  assert.deepEqual(timeLine(both, power, largest), [[0, 300]]);
  assert.deepEqual(timeLine(both, (e) => e.gpu_fraction, mean), [], "what nobody says is no line");
  // A reading of 100 and one of 200 share a slot: the line says 150, the highest reading 200.
  const slot = [event(0, 0, { power_w: 100 }), event(0, 0.25, { power_w: 200 })];
  assert.deepEqual([timeLine(slotsOf(slot), power, largest), extremeOf(slot, power, largest), extremeOf(slot, power, smallest)], [[[0, 150]], 200, 100]);
  assert.equal(extremeOf(slot, (e) => e.temperature_c, largest), null);
  const long = slotsOf(Array.from({ length: 1000 }, (_, i) => event(0, i)), 100);
  assert.ok(timeLine(long, (e) => e.cpu_fraction, mean).length <= 101);
});

test("readings further apart than slots make no dips: a rank's last value stands", () => {
  // 8 ranks, a reading each 8 s, one second after each other.
  const watts = Array.from({ length: 8 }, (_, rank) => Array.from({ length: 40 }, (_, i) => event(rank, i * 8 + (i ? rank : 0), { power_w: 500 }))).flat();
  const line = timeLine(slotsOf(watts), power, sum);
  assert.ok(line.length > 250, `${line.length} points`);
  assert.deepEqual([...new Set(line.map(([, w]) => w))], [4000]);
});

test("slow-downs are spans, and every reason has its share", () => {
  const hot = [event(0, 0, { throttle_reasons: [] }), event(0, 1, { throttle_reasons: ["sw_thermal_slowdown"] }), event(0, 2, { throttle_reasons: ["hw_power_brake_slowdown", "sw_power_cap"] }), event(0, 3, { throttle_reasons: ["sw_power_cap"] }), event(0, 4)];
  assert.deepEqual(slowedSpans(slotsOf(hot)), [[1, 3]]);
  assert.deepEqual(throttleShares(hot), { readings: 4, shares: [["sw_power_cap", 0.5], ["sw_thermal_slowdown", 0.25], ["hw_power_brake_slowdown", 0.25]] });
  assert.equal(throttleShares([event(0, 0)]), null);
  const table = telemetryTable(hot);
  assert.equal(table.rows[2]![table.columns.indexOf("throttle_reasons")], "hw_power_brake_slowdown sw_power_cap");
});
