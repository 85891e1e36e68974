// Telemetry events as lines over time.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { StepsView, TelemetryEvent } from "./contract";
import { addTelemetry, largest, mean, slowedSpans, sum, telemetryTable, throttleShares, timeLine } from "./telemetry";

const event = (rank: number, seconds: number, more: Partial<TelemetryEvent> = {}): TelemetryEvent =>
  ({ run_id: 7, rank, t_ns: (1000 * (rank + 1) + seconds) * 1e9, cpu_fraction: 0.5, gpu_fraction: null, throttle_reasons: null, ...more }) as TelemetryEvent;
const view = (...telemetry: TelemetryEvent[]): StepsView => ({ run_id: 7, images_per_step: 4, ranks: [], telemetry });

test("an event is added once, and only to its own run", () => {
  const first = view(event(0, 0), event(1, 0));
  const more = addTelemetry(first, event(0, 1));
  assert.equal(more.telemetry.length, 3);
  assert.equal(addTelemetry(more, event(0, 1)), more);
  assert.equal(addTelemetry(more, event(1, 0)), more);
  assert.equal(addTelemetry(more, { ...event(0, 2), run_id: 8 }), more);
});

test("ranks are put together by the time since their own first reading", () => {
  const both = view(event(0, 0, { power_w: 100 }), event(0, 0.25, { power_w: 200 }), event(1, 0.5, { power_w: 300 }), event(0, 3, { power_w: 400 }), event(1, 9, { power_w: null }));
  assert.deepEqual(timeLine(both, (e) => e.power_w, sum), [[0, 450], [3, 400]]);
  assert.deepEqual(timeLine(both, (e) => e.power_w, largest), [[0, 300], [3, 400]]);
  assert.deepEqual(timeLine(both, (e) => e.gpu_fraction, mean), [], "what nobody says is no line");
  const long = view(...Array.from({ length: 1000 }, (_, i) => event(0, i)));
  assert.ok(timeLine(long, (e) => e.cpu_fraction, mean, 100).length <= 101);
});

test("slow-downs are spans, and every reason has its share", () => {
  const hot = view(event(0, 0, { throttle_reasons: [] }), event(0, 1, { throttle_reasons: ["sw_thermal_slowdown"] }), event(0, 2, { throttle_reasons: ["hw_power_brake_slowdown", "sw_power_cap"] }), event(0, 3, { throttle_reasons: ["sw_power_cap"] }), event(0, 4));
  assert.deepEqual(slowedSpans(hot), [[1, 3]]);
  assert.deepEqual(throttleShares(hot), [["sw_power_cap", 0.5], ["sw_thermal_slowdown", 0.25], ["hw_power_brake_slowdown", 0.25]]);
  assert.equal(throttleShares(view(event(0, 0))), null);
  const table = telemetryTable(hot);
  assert.equal(table.rows[2]![table.columns.indexOf("throttle_reasons")], "hw_power_brake_slowdown sw_power_cap");
});
