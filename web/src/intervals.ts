// Statistics that only the view needs: 95 % intervals, ratios, bins. The definitions of measured
// numbers themselves live in common/measure and arrive ready-made.
import type { ResultView } from "./contract";
import { type Metric, throughput } from "./metrics";

// Two-sided 95 % quantile of Student's t.
export function tQuantile(degrees: number): number {
  const exact = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
  if (degrees < 1) return NaN;
  const known = exact[Math.round(degrees) - 1];
  if (known !== undefined) return known;
  const z = 1.959964;
  const v = degrees;
  return z + (z ** 3 + z) / (4 * v) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * v * v);
}

// Linear interpolation between closest ranks, as common/measure does.
export function percentile(values: number[], q: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = sorted[Math.floor(at)]!;
  const high = sorted[Math.ceil(at)]!;
  return low + (high - low) * (at - Math.floor(at));
}
export const median = (values: number[]): number | null => percentile(values, 0.5);

export type IntervalKind = "runs" | "steps";
export interface Interval {
  value: number; // median over runs
  low: number | null; // 95 %; null: nothing to estimate a spread from
  high: number | null;
  relative: number | null; // standard error / mean, a fraction
  kind: IntervalKind; // over runs, or within the one run
  runs: number;
  degrees: number;
}

// Of results that measured the same thing; invalid ones do not count. Null without any.
export function intervalOf(results: ResultView[], metric: Metric = throughput): Interval | null {
  const told = results.filter((r) => r.validity.verdict !== "invalid" && metric.of(r) !== null);
  const values = told.map((r) => metric.of(r)!);
  const value = median(values);
  if (value === null) return null;
  if (values.length >= 2) {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const variance = values.reduce((sum, r) => sum + (r - mean) ** 2, 0) / (values.length - 1);
    const error = Math.sqrt(variance / values.length);
    return around(value, error / mean, "runs", values.length, values.length - 1);
  }
  const step = told[0]!.step;
  const relative = metric.ofSteps && step.standard_error_ms !== null && step.mean_ms ? step.standard_error_ms / step.mean_ms : null;
  return around(value, relative, "steps", 1, Math.max(1, step.count - 1));
}

function around(value: number, relative: number | null, kind: IntervalKind, runs: number, degrees: number): Interval {
  const half = relative === null ? null : tQuantile(degrees) * relative * value;
  return {
    value,
    low: half === null ? null : Math.max(0, value - half),
    high: half === null ? null : value + half,
    relative,
    kind,
    runs,
    degrees,
  };
}

export interface Ratio {
  value: number;
  low: number | null;
  high: number | null;
  significant: boolean | null; // null: unknown, a side has no spread or only that of the steps of one run
}

// a / b with a 95 % interval from both relative errors (log scale, the smaller degrees of freedom).
export function ratioOf(a: Interval, b: Interval): Ratio {
  const value = a.value / b.value;
  if (a.relative === null || b.relative === null) return { value, low: null, high: null, significant: null };
  const half = tQuantile(Math.min(a.degrees, b.degrees)) * Math.hypot(a.relative, b.relative);
  const low = value * Math.exp(-half);
  const high = value * Math.exp(half);
  const known = a.kind === "runs" && b.kind === "runs"; // steps of one run do not tell how runs differ
  return { value, low, high, significant: known ? low > 1 || high < 1 : null };
}

export interface Bin {
  from: number;
  to: number;
  count: number;
}

// At most `most` equal bins whose width is 1, 2 or 5 times a power of ten.
export function histogram(values: number[], most = 40): Bin[] {
  if (values.length === 0) return [];
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  if (low === high) return [{ from: low, to: high, count: values.length }];
  const target = Math.min(most, Math.max(5, Math.ceil(2 * Math.cbrt(values.length))));
  const width = niceStep((high - low) / target);
  const first = Math.floor(low / width);
  const bins: Bin[] = [];
  for (let i = first; i * width <= high; ++i) bins.push({ from: i * width, to: (i + 1) * width, count: 0 });
  for (const value of values) bins[Math.min(bins.length - 1, Math.max(0, Math.floor(value / width) - first))]!.count += 1;
  return bins;
}

export function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  const share = rough / power;
  return (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10) * power;
}

// Round positions between two ratios, for an axis in logarithms: 0.5, 1, 2 or 0.9, 1, 1.1.
export function ratioTicks(low: number, high: number): number[] {
  if (!(low > 0) || high < low) return [1];
  const wide = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].filter((t) => t >= low && t <= high);
  if (high / low > 4 && wide.length >= 2) return wide;
  const step = niceStep((high - low) / 6);
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; ++i) ticks.push(Number((i * step).toPrecision(6)));
  return ticks;
}
