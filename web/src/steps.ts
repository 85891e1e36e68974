// Step samples of a run as the page holds them: filled from /runs/{id}/steps, continued by live events,
// turned into series for the charts. Pure.
import { median, percentile } from "./intervals";
import type { RankSteps, RankTime, RunView, StepsEvent, StepsView } from "./contract";

export interface StepsState {
  view: StepsView;
  hole: boolean; // an event did not continue what is here: fetch again
}

const emptyRank = (rank: number): RankSteps => ({
  rank,
  ms: [],
  loss: [],
  input_wait_ms: [],
  exposed_communication_ms: [],
  server_wait_ms: [],
  warmup_ms: [],
  warmup_loss: [],
});

// More of a rank and phase than this is thinned again by the controller.
const mostKept = 20_000;

// Of values from step `first` on those whose step is a multiple of the stride, and where they begin.
function atStride(first: number, values: number[], stride: number): [number, number[]] {
  return stride === 1 ? [first, values] : [Math.ceil(first / stride), values.filter((_, i) => (first + i) % stride === 0)];
}

// What is here already is kept where both overlap: an event may arrive twice or late.
function continued(have: number[], first: number, more: number[]): number[] | null {
  if (first > have.length) return null;
  const fresh = more.slice(have.length - first);
  return fresh.length ? [...have, ...fresh] : have;
}

export function addSteps(state: StepsState, event: StepsEvent): StepsState {
  if (event.run_id !== state.view.run_id) return state;
  const index = state.view.ranks.findIndex((r) => r.rank === event.rank);
  const old = state.view.ranks[index] ?? emptyRank(event.rank);
  const warm = event.phase === "warmup";
  const stride = warm ? state.view.warmup_stride : state.view.stride;
  const ms = continued(warm ? old.warmup_ms : old.ms, ...atStride(event.first_step, event.ms, stride));
  if (ms === null || ms.length > mostKept) return { ...state, hole: true };
  const grow = (have: number[], more: number[]) => continued(have, ...atStride(event.first_step, more, stride)) ?? have;
  const next: RankSteps = warm
    ? { ...old, warmup_ms: ms, warmup_loss: grow(old.warmup_loss, event.loss) }
    : {
        ...old,
        ms,
        loss: grow(old.loss, event.loss),
        input_wait_ms: grow(old.input_wait_ms, event.input_wait_ms),
        exposed_communication_ms: grow(old.exposed_communication_ms, event.exposed_communication_ms),
        server_wait_ms: grow(old.server_wait_ms, event.server_wait_ms),
      };
  const ranks = index < 0 ? [...state.view.ranks, next].sort((a, b) => a.rank - b.rank) : state.view.ranks.map((r, i) => (i === index ? next : r));
  return { ...state, view: { ...state.view, ranks } };
}

export interface SeriesPoint {
  step: number; // 0 = first measured step; warm-up steps are negative
  middle: number;
  low: number;
  high: number;
}

// Points for a line and a band, at most about `most`: neighbouring steps share a point, whose middle is
// their median. `pick` gives the warm-up and the measured values of a rank; `combine` what the ranks of
// one step become.
function series(
  { ranks, warmup_stride, stride: measured_stride }: StepsView,
  pick: (r: RankSteps) => [number[], number[]],
  combine: (values: number[]) => SeriesPoint | Omit<SeriesPoint, "step"> | null,
  most: number,
): SeriesPoint[] {
  const warm = ranks.map((r) => pick(r)[0]);
  const measured = ranks.map((r) => pick(r)[1]);
  const shortest = (lists: number[][]) => (lists.length ? Math.min(...lists.map((l) => l.length)) : 0);
  const warmCount = shortest(warm);
  const measuredCount = shortest(measured);
  const points: SeriesPoint[] = [];
  const add = (lists: number[][], count: number, offset: number, apart: number) => {
    const stride = Math.max(1, Math.ceil(count / most));
    for (let from = 0; from < count; from += stride) {
      const to = Math.min(count, from + stride);
      const steps: Omit<SeriesPoint, "step">[] = [];
      for (let i = from; i < to; ++i) {
        const one = combine(lists.map((l) => l[i]!));
        if (one) steps.push(one);
      }
      if (!steps.length) continue;
      points.push({
        step: offset + (apart * (from + to - 1)) / 2,
        middle: median(steps.map((s) => s.middle))!,
        low: Math.min(...steps.map((s) => s.low)),
        high: Math.max(...steps.map((s) => s.high)),
      });
    }
  };
  add(warm, warmCount, -warmCount * warmup_stride, warmup_stride);
  add(measured, measuredCount, 0, measured_stride);
  return points;
}

// Images a second if every rank were as fast as this one: median and range over the ranks of a step.
export function throughputSeries(view: StepsView, most = 600): SeriesPoint[] {
  const images = view.images_per_step;
  if (!images) return [];
  return series(
    view,
    (r) => [r.warmup_ms, r.ms],
    (ms) => {
      const rates = ms.filter((m) => m > 0).map((m) => (images * 1000) / m);
      return rates.length ? { middle: median(rates)!, low: Math.min(...rates), high: Math.max(...rates) } : null;
    },
    most,
  );
}

// Mean over ranks of a step's loss, with its range.
export function lossSeries(view: StepsView, most = 600): SeriesPoint[] {
  return series(
    view,
    (r) => [r.warmup_loss, r.loss],
    (losses) => {
      const known = losses.filter((l) => typeof l === "number" && Number.isFinite(l));
      if (!known.length) return null;
      return { middle: known.reduce((a, b) => a + b, 0) / known.length, low: Math.min(...known), high: Math.max(...known) };
    },
    most,
  );
}

// Step time of the job: the slowest rank's, measured steps that every rank has done.
export function slowestSteps(view: StepsView): number[] {
  if (!view.ranks.length) return [];
  const count = Math.min(...view.ranks.map((r) => r.ms.length));
  return Array.from({ length: count }, (_, i) => Math.max(...view.ranks.map((r) => r.ms[i]!)));
}

// The agent on which a rank runs.
export const hostOfRank = (run: Pick<RunView, "agent" | "hosts">, rank: number): string =>
  run.hosts.find((h) => rank >= h.first_rank && rank < h.first_rank + h.ranks)?.agent ?? run.agent;

// The split so far, while the run has no result that says it finally.
export function rankTimes(view: StepsView, hostOf: (rank: number) => string): RankTime[] {
  // Who made the others wait: the longest step without the waits for others; the lower rank on ties.
  const own = (r: StepsView["ranks"][number], i: number) => r.ms[i]! - (r.exposed_communication_ms[i] ?? 0) - (r.server_wait_ms[i] ?? 0);
  const lastOf = slowestSteps(view).map((_, i) => view.ranks.reduce((a, b) => (own(b, i) > own(a, i) ? b : a)).rank);
  const mean = (values: number[]) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0);
  return view.ranks
    .filter((r) => r.ms.length > 0)
    .map((r) => {
      const step = mean(r.ms);
      const input = mean(r.input_wait_ms);
      const exposed = mean(r.exposed_communication_ms);
      const server = mean(r.server_wait_ms);
      const last = lastOf.filter((rank) => rank === r.rank).length;
      return {
        rank: r.rank,
        host: hostOf(r.rank),
        step_ms: step,
        input_wait_ms: input,
        compute_ms: Math.max(0, step - input - exposed - server),
        exposed_communication_ms: exposed,
        server_wait_ms: server,
        share_last: lastOf.length ? last / lastOf.length : 0,
        staleness: [],
        skipped_steps: null,
        gpu: null,
      };
    });
}

export function stepsTable(view: StepsView): { columns: string[]; rows: (number | string | null)[][] } {
  const rows: (number | string | null)[][] = [];
  for (const r of view.ranks) {
    r.warmup_ms.forEach((ms, i) => rows.push([r.rank, "warmup", i * view.warmup_stride, ms, r.warmup_loss[i] ?? null, null, null, null]));
    r.ms.forEach((ms, i) =>
      rows.push([r.rank, "measuring", i * view.stride, ms, r.loss[i] ?? null, r.input_wait_ms[i] ?? null, r.exposed_communication_ms[i] ?? null, r.server_wait_ms[i] ?? null]),
    );
  }
  return { columns: ["rank", "phase", "step", "step_ms", "loss", "input_wait_ms", "exposed_communication_ms", "server_wait_ms"], rows };
}

export const percentiles = (values: number[]): { name: string; value: number }[] =>
  [0.5, 0.9, 0.99].flatMap((q) => {
    const value = percentile(values, q);
    return value === null ? [] : [{ name: `p${q * 100}`, value }];
  });
