// What hosts and GPUs did during a run, as lines over time. Pure.
import type { StepsView, TelemetryEvent } from "./contract";

// An event may arrive twice; it comes after all that its rank has said before.
export function addTelemetry(view: StepsView, event: TelemetryEvent): StepsView {
  if (event.run_id !== view.run_id) return view;
  for (let i = view.telemetry.length - 1; i >= 0; --i) {
    const old = view.telemetry[i]!;
    if (old.rank === event.rank && old.t_ns >= event.t_ns) return view;
    if (old.rank === event.rank) break;
  }
  return { ...view, telemetry: bounded([...view.telemetry, event]) };
}

// A long run: every second reading of each rank is left out.
const mostKept = 6000;
function bounded(events: TelemetryEvent[]): TelemetryEvent[] {
  if (events.length <= mostKept) return events;
  const seen = new Map<number, number>();
  return events.filter((e) => {
    const n = seen.get(e.rank) ?? 0;
    seen.set(e.rank, n + 1);
    return n % 2 === 0;
  });
}

export const scaled = (value: number | null | undefined, factor: number): number | null => (typeof value === "number" ? value * factor : null);
export type TimePoint = [seconds: number, value: number];
export type Combine = (values: number[]) => number;
export const mean: Combine = (values) => values.reduce((a, b) => a + b, 0) / values.length;
export const sum: Combine = (values) => values.reduce((a, b) => a + b, 0);
export const largest: Combine = (values) => Math.max(...values);
export const smallest: Combine = (values) => Math.min(...values);

// Readings by time since each rank's first one (each host has its own clock), at least a second and at
// most `most` slots: slot -> rank -> readings.
function slots(view: StepsView, most: number): { width: number; bySlot: Map<number, Map<number, TelemetryEvent[]>> } {
  const starts = new Map<number, number>();
  for (const e of view.telemetry) starts.set(e.rank, Math.min(starts.get(e.rank) ?? Infinity, e.t_ns));
  const seconds = (e: TelemetryEvent) => (e.t_ns - starts.get(e.rank)!) / 1e9;
  const span = view.telemetry.reduce((longest, e) => Math.max(longest, seconds(e)), 0);
  const width = Math.max(1, span / most);
  const bySlot = new Map<number, Map<number, TelemetryEvent[]>>();
  for (const e of view.telemetry) {
    const at = Math.floor(seconds(e) / width);
    const ranks = bySlot.get(at) ?? bySlot.set(at, new Map()).get(at)!;
    ranks.set(e.rank, [...(ranks.get(e.rank) ?? []), e]);
  }
  return { width, bySlot };
}

// One line over all ranks: a rank's mean in each slot, then `combine` over the ranks that have one.
export function timeLine(view: StepsView, pick: (e: TelemetryEvent) => number | null | undefined, combine: Combine, most = 300): TimePoint[] {
  const { width, bySlot } = slots(view, most);
  return [...bySlot.keys()]
    .sort((a, b) => a - b)
    .flatMap((at): TimePoint[] => {
      const ofRanks = [...bySlot.get(at)!.values()]
        .map((events) => events.map(pick).filter((v): v is number => typeof v === "number"))
        .filter((values) => values.length > 0)
        .map(mean);
      return ofRanks.length ? [[at * width, combine(ofRanks)]] : [];
    });
}

// Reasons for which a card runs slower than it could at its power limit.
const slowDowns = ["sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "hw_slowdown"];

// From when to when some GPU was slowed down by heat or the power brake.
export function slowedSpans(view: StepsView, most = 300): [from: number, to: number][] {
  const { width, bySlot } = slots(view, most);
  const spans: [number, number][] = [];
  for (const at of [...bySlot.keys()].sort((a, b) => a - b)) {
    const slowed = [...bySlot.get(at)!.values()].flat().some((e) => e.throttle_reasons?.some((r) => slowDowns.includes(r)));
    const last = spans[spans.length - 1];
    if (!slowed) continue;
    if (last && last[1] === at * width) last[1] = (at + 1) * width;
    else spans.push([at * width, (at + 1) * width]);
  }
  return spans;
}

// Share of the readings with each reason, most frequent first; null: no card says.
export function throttleShares(view: StepsView): [reason: string, share: number][] | null {
  const told = view.telemetry.filter((e) => e.throttle_reasons);
  if (!told.length) return null;
  const counts = new Map<string, number>();
  for (const e of told) for (const r of e.throttle_reasons!) counts.set(r, (counts.get(r) ?? 0) + 1);
  return [...counts].map(([reason, n]): [string, number] => [reason, n / told.length]).sort((a, b) => b[1] - a[1]);
}

export function telemetryTable(view: StepsView): { columns: string[]; rows: (number | string | null)[][] } {
  const columns = ["rank", "t_ns", "cpu_fraction", "rss_bytes", "steal_fraction", "gpu_fraction", "gpu_memory_bytes", "power_w", "energy_j", "temperature_c", "clock_mhz", "memory_clock_mhz", "ecc_corrected", "ecc_uncorrected"] as const;
  const rows = view.telemetry.map((e) => [...columns.map((c) => e[c] ?? null), e.throttle_reasons?.join(" ") ?? null]);
  return { columns: [...columns, "throttle_reasons"], rows };
}
