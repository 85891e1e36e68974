// What hosts and GPUs did during a run, as lines over time. Pure.
import type { TelemetryEvent } from "./contract";

// Events that came in live after what was fetched. An event may arrive twice; what is new comes after
// all that its rank has said before.
export function joined(fetched: TelemetryEvent[], live: TelemetryEvent[]): TelemetryEvent[] {
  const said = new Map<number, number>();
  for (const e of fetched) said.set(e.rank, Math.max(said.get(e.rank) ?? -Infinity, e.t_ns));
  const fresh = live.filter((e) => {
    if (e.t_ns <= (said.get(e.rank) ?? -Infinity)) return false;
    said.set(e.rank, e.t_ns);
    return true;
  });
  return fresh.length ? [...fetched, ...fresh] : fetched;
}

// A long run: every second reading of each rank is left out.
const mostKept = 6000;
export function bounded(events: TelemetryEvent[]): TelemetryEvent[] {
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

// Readings by time since each rank's first one (each host has its own clock).
export interface Slots {
  width: number; // seconds
  readings: [at: number, byRank: Map<number, TelemetryEvent[]>][]; // in order of time; none without a reading
}

// At least a second wide and at most `most` of them.
export function slotsOf(events: TelemetryEvent[], most = 300): Slots {
  const starts = new Map<number, number>();
  for (const e of events) starts.set(e.rank, Math.min(starts.get(e.rank) ?? Infinity, e.t_ns));
  const seconds = (e: TelemetryEvent) => (e.t_ns - starts.get(e.rank)!) / 1e9;
  const span = events.reduce((longest, e) => Math.max(longest, seconds(e)), 0);
  const width = Math.max(1, span / most);
  const bySlot = new Map<number, Map<number, TelemetryEvent[]>>();
  for (const e of events) {
    const at = Math.floor(seconds(e) / width);
    const ranks = bySlot.get(at) ?? bySlot.set(at, new Map()).get(at)!;
    const own = ranks.get(e.rank);
    if (own) own.push(e);
    else ranks.set(e.rank, [e]);
  }
  return { width, readings: [...bySlot].sort((a, b) => a[0] - b[0]) };
}

// One line over all ranks: a rank's mean in each slot, then `combine` over the ranks. Readings of a rank
// may lie further apart than slots: its last value stands until the next. The line is as long as all ranks
// have something to say, so that a sum is always over all of them.
export function timeLine(slots: Slots, pick: (e: TelemetryEvent) => number | null | undefined, combine: Combine): TimePoint[] {
  const told = slots.readings.map(([at, byRank]) => {
    const means = new Map<number, number>();
    for (const [rank, events] of byRank) {
      const values = events.map(pick).filter((v): v is number => typeof v === "number");
      if (values.length) means.set(rank, mean(values));
    }
    return { at, means };
  });
  const ends = new Map<number, number>();
  for (const { at, means } of told) for (const rank of means.keys()) ends.set(rank, at);
  if (!ends.size) return [];
  const end = Math.min(...ends.values());
  const standing = new Map<number, number>();
  const points: TimePoint[] = [];
  for (const { at, means } of told) {
    if (at > end) break;
    for (const [rank, value] of means) standing.set(rank, value);
    if (standing.size === ends.size) points.push([at * slots.width, combine([...standing.values()])]);
  }
  return points;
}

// Reasons for which a card runs slower than it could at its power limit.
const slowDowns = ["sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "hw_slowdown"];

// From when to when some GPU was slowed down by heat or the power brake.
export function slowedSpans({ width, readings }: Slots): [from: number, to: number][] {
  const spans: [number, number][] = [];
  for (const [at, byRank] of readings) {
    const slowed = [...byRank.values()].flat().some((e) => e.throttle_reasons?.some((r) => slowDowns.includes(r)));
    const last = spans[spans.length - 1];
    if (!slowed) continue;
    if (last && last[1] === at * width) last[1] = (at + 1) * width;
    else spans.push([at * width, (at + 1) * width]);
  }
  return spans;
}

// Of all readings of all ranks, one by one; null: nobody says it.
export function extremeOf(events: TelemetryEvent[], pick: (e: TelemetryEvent) => number | null | undefined, which: Combine): number | null {
  const values = events.map(pick).filter((v): v is number => typeof v === "number");
  return values.length ? which(values) : null;
}

// Share of the readings with each reason, most frequent first; null: no card says.
export function throttleShares(events: TelemetryEvent[]): { readings: number; shares: [reason: string, share: number][] } | null {
  const told = events.filter((e) => e.throttle_reasons);
  if (!told.length) return null;
  const counts = new Map<string, number>();
  for (const e of told) for (const r of e.throttle_reasons!) counts.set(r, (counts.get(r) ?? 0) + 1);
  return { readings: told.length, shares: [...counts].map(([reason, n]): [string, number] => [reason, n / told.length]).sort((a, b) => b[1] - a[1]) };
}

export function telemetryTable(events: TelemetryEvent[]): { columns: string[]; rows: (number | string | null)[][] } {
  const columns = ["rank", "t_ns", "cpu_fraction", "rss_bytes", "steal_fraction", "gpu_fraction", "gpu_memory_bytes", "power_w", "energy_j", "temperature_c", "clock_mhz", "memory_clock_mhz", "ecc_corrected", "ecc_uncorrected"] as const;
  const rows = events.map((e) => [...columns.map((c) => e[c] ?? null), e.throttle_reasons?.join(" ") ?? null]);
  return { columns: [...columns, "throttle_reasons"], rows };
}
