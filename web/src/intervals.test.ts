import assert from "node:assert/strict";
import { test } from "node:test";
import type { ResultView, StepStatistics } from "./contract";
import { histogram, intervalOf, median, niceStep, percentile, ratioOf, ratioTicks, tQuantile } from "./intervals";

const near = (a: number | null, b: number, tolerance = 1e-3) => assert.ok(a !== null && Math.abs(a - b) <= tolerance * Math.abs(b), `${a} is not ${b}`);

export function result(images_per_second: number, more: Partial<ResultView> = {}): ResultView {
  const step = { count: 100, mean_ms: 100, standard_error_ms: 1 } as StepStatistics;
  return { images_per_second, step, validity: { verdict: "clean", causes: [], not_checked: [] }, environment: {}, device_class: "a", job_id: 1, ...more } as ResultView;
}

test("t quantiles agree with tables", () => {
  near(tQuantile(1), 12.706);
  near(tQuantile(4), 2.776);
  near(tQuantile(11), 2.201);
  near(tQuantile(30), 2.042);
  near(tQuantile(1000), 1.962);
  assert.ok(Number.isNaN(tQuantile(0)));
});

test("percentiles interpolate between closest ranks", () => {
  assert.equal(percentile([], 0.5), null);
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  near(percentile([1, 2, 3, 4, 5], 0.9), 4.6);
});

test("over runs: the median with t times the standard error", () => {
  const i = intervalOf([result(10), result(11), result(12)])!;
  assert.equal(i.value, 11);
  assert.equal(i.kind, "runs");
  assert.equal(i.runs, 3);
  near(i.relative, 1 / Math.sqrt(3) / 11);
  near(i.high, 11 + (4.303 * 1) / Math.sqrt(3));
  near(i.low, 11 - (4.303 * 1) / Math.sqrt(3));
});

test("one run: within the run, from its steps", () => {
  const i = intervalOf([result(50)])!;
  assert.equal(i.kind, "steps");
  near(i.relative, 0.01);
  near(i.high, 50 * (1 + 0.01 * tQuantile(99)));
});

test("an invalid run does not count, and a step without spread has no interval", () => {
  const invalid = result(99, { validity: { verdict: "invalid", causes: ["no valid steps"], not_checked: [] } });
  assert.equal(intervalOf([invalid]), null);
  assert.equal(intervalOf([result(10), invalid])!.runs, 1);
  const one = intervalOf([result(10, { step: { count: 1, mean_ms: 5, standard_error_ms: null } as StepStatistics })])!;
  assert.deepEqual([one.low, one.high, one.relative], [null, null, null]);
});

test("a ratio is significant when its interval leaves out 1", () => {
  const fast = intervalOf([result(20), result(20.1), result(19.9)])!;
  const slow = intervalOf([result(10), result(10.1), result(9.9)])!;
  const r = ratioOf(fast, slow);
  assert.equal(r.value, 2);
  assert.equal(r.significant, true);
  near(r.high! / r.value, r.value / r.low!);
  assert.equal(ratioOf(intervalOf([result(10.05), result(10.1)])!, slow).significant, false);
  // The same job twice, one run each, differs by more than its steps do.
  const once = ratioOf(intervalOf([result(20)])!, slow);
  assert.deepEqual([once.significant, once.low! > 1], [null, true]);
  const unknown = ratioOf(fast, { ...slow, relative: null });
  assert.equal(unknown.significant, null);
  assert.equal(unknown.low, null);
});

test("every value falls into exactly one bin", () => {
  const values = Array.from({ length: 1000 }, (_, i) => 100 + ((i * 37) % 101) / 7);
  const bins = histogram(values);
  assert.equal(bins.reduce((n, b) => n + b.count, 0), 1000);
  assert.ok(bins.length <= 41);
  for (const b of bins) {
    const inside = values.filter((v) => v >= b.from && (v < b.to || b === bins[bins.length - 1])).length;
    assert.ok(Math.abs(inside - b.count) <= 2, `${b.from}: ${inside} ${b.count}`);
  }
  assert.deepEqual(histogram([]), []);
  assert.deepEqual(histogram([5, 5]), [{ from: 5, to: 5, count: 2 }]);
});

test("axis steps and ratio ticks are round", () => {
  assert.equal(niceStep(0.3), 0.5);
  assert.equal(niceStep(7), 10);
  assert.deepEqual(ratioTicks(0.4, 6), [0.5, 1, 2, 5]);
  assert.ok(ratioTicks(0.95, 1.1).includes(1));
});
