// Sides of a comparison, the sentence made from them, and whether they may be compared. Pure.
import type { Json, JobView, ResultView, Validity } from "./contract";
import { modelTitle, number, reasonWords, words } from "./format";
import { type Interval, intervalOf, type Ratio, ratioOf } from "./intervals";
import { type Metric, throughput } from "./metrics";

// What was asked to be measured, as far as device classes must share it to stand side by side.
export interface SpecKey {
  model: string;
  mode: string;
  precision: string;
  batch_size: number;
  variable_update: string;
  input_kind: string;
  image_size: number;
  agents: number;
}
export const specKeys: (keyof SpecKey)[] = ["model", "mode", "precision", "batch_size", "variable_update", "input_kind", "image_size", "agents"];

// Free to differ between classes, since hosts differ; chosen only to see another than the newest.
export type Narrow = "ranks" | "fusion";
export const narrowKeys: Narrow[] = ["ranks", "fusion"];

// What the plan of rank 0 has to say: who computes bf16, which layers are int8.
export const notesOf = (r: ResultView): Record<string, Json> => {
  const worker = (r.environment as { worker?: { notes?: Record<string, Json> } | null } | null)?.worker;
  return worker?.notes ?? {};
};
export const agentsOf = (r: ResultView): number => new Set(r.rank_times.map((t) => t.host)).size || 1;
export function valueOf(r: ResultView, key: keyof SpecKey | Narrow): string | number {
  if (key === "agents") return agentsOf(r);
  if (key === "fusion") return String(notesOf(r).fusion ?? "");
  return r[key];
}

export interface Side {
  name: string;
  results: ResultView[]; // of one fingerprint: repetitions of one measurement
  others: ResultView[]; // newest first; they measured something else and are in no number
  interval: Interval | null;
  why: string; // there is no number: the reason, else ""
}

const isValid = (r: ResultView): boolean => r.validity.verdict !== "invalid";

// The newest measurement among `results` (newest first): different fingerprints are no repetitions.
export function side(name: string, results: ResultView[], why = "no valid run", metric: Metric = throughput): Side {
  const newest = (results.find(isValid) ?? results[0])?.fingerprint;
  const same = results.filter((r) => r.fingerprint === newest);
  const interval = intervalOf(same, metric);
  return { name, results: same, others: results.filter((r) => r.fingerprint !== newest), interval, why: interval ? "" : same.some(isValid) ? metric.missing : why };
}

// A side for each device class: its newest measurement; or, with `each`, one for each measurement.
export function sidesByClass(results: ResultView[], each = false, metric: Metric = throughput): Side[] {
  return sidesBy(results, (r) => r.device_class, each, metric);
}

// A side for each value of a label of the agents, and for each device class in it where it has several.
export function sidesByLabel(results: ResultView[], labelOf: (r: ResultView) => string | undefined, key: string, each: boolean, metric: Metric): Side[] {
  const value = (r: ResultView) => (labelOf(r) === undefined ? `without ${key}` : `${key}=${labelOf(r)}`);
  const mixed = (name: string) => new Set(results.filter((r) => value(r) === name).map((r) => r.device_class)).size > 1;
  return sidesBy(results, (r) => (mixed(value(r)) ? `${value(r)}, ${r.device_class}` : value(r)), each, metric);
}

const gpusOfAgent = (r: ResultView): { driver?: string }[] => (r.environment as { agent?: { gpus?: { driver?: string }[] } | null } | null)?.agent?.gpus ?? [];

// Hosts with GPUs also run jobs on their CPUs: such a side must not be taken for the GPUs'.
function sidesBy(results: ResultView[], hostsOf: (r: ResultView) => string, each: boolean, metric: Metric): Side[] {
  const nameOf = (r: ResultView) => hostsOf(r) + (r.device === "cpu" && gpusOfAgent(r).length > 0 ? ", on its CPU" : "");
  return [...new Set(results.map(nameOf))]
    .sort()
    .flatMap((name) => {
      const own = results.filter((r) => nameOf(r) === name);
      const prints = [...new Set(own.map((r) => r.fingerprint))];
      if (!each || prints.length < 2) return [side(name, own, undefined, metric)];
      return prints.map((print) => {
        const measured = own.filter((r) => r.fingerprint === print);
        return side(`${name}, job ${measured[0]!.job_id}`, measured, undefined, metric);
      });
    })
    .sort(bestFirst(metric));
}
const bestFirst =
  (metric: Metric) =>
  (a: Side, b: Side): number => {
    if (!a.interval || !b.interval) return Number(!a.interval) - Number(!b.interval);
    return metric.lessIsBetter ? a.interval.value - b.interval.value : b.interval.value - a.interval.value;
  };

// A job on a side of its own: "job 12 (cpu-a)".
export function jobSide(job: JobView, results: ResultView[], metric: Metric = throughput): Side {
  const reason = job.state === "succeeded" ? "no valid run" : job.reason && job.reason !== "none" ? reasonWords(job.reason) : words(job.outcome ?? job.state);
  return side(`job ${job.id}${job.name ? ` ${job.name}` : ""}`, results, reason, metric);
}

// Choices that occur, each with what the others leave possible, most results first.
export function choices(results: ResultView[], chosen: Partial<SpecKey>, key: keyof SpecKey | Narrow): [string, number][] {
  const counts = new Map<string, number>();
  for (const r of results) {
    const others = specKeys.every((k) => k === key || chosen[k] === undefined || valueOf(r, k) === chosen[k]);
    const value = String(valueOf(r, key));
    if (others) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0], "en", { numeric: true }));
}

// What is compared when the address says only part of it: the newest result that fits.
export function resolveSpec(results: ResultView[], wanted: Partial<Record<keyof SpecKey, string>>): SpecKey | null {
  const fits = results.filter((r) => specKeys.every((k) => wanted[k] === undefined || String(valueOf(r, k)) === wanted[k]));
  return fits[0] ? specOf(fits[0]) : null;
}
export const specOf = (r: ResultView): SpecKey => Object.fromEntries(specKeys.map((k) => [k, valueOf(r, k)])) as unknown as SpecKey;
export const inSpec = (r: ResultView, spec: SpecKey): boolean => specKeys.every((k) => valueOf(r, k) === spec[k]);

// Near 1 the third decimal matters.
const times = (r: number): string => `${Math.abs(r - 1) < 0.1 ? r.toFixed(3) : number(r)}×`;
export function ratioText(r: Ratio): string {
  return r.low === null || r.high === null ? times(r.value) : `${times(r.value)} (${times(r.low)} to ${times(r.high)})`;
}

export function conditions(s: SpecKey): string {
  const update = s.variable_update ? `, ${words(s.variable_update)}` : "";
  return `batch ${s.batch_size}, image size ${s.image_size}, ${s.precision}${update}, ${words(s.input_kind)} input${s.agents > 1 ? `, ${s.agents} agents` : ""}`;
}

// An image of one is not an image of the other: no number of one side divides by that of another.
const sameWork: [string, (r: ResultView) => string][] = [
  ["model", (r) => modelTitle(r.model)],
  ["mode", (r) => words(r.mode)],
  ["image size", (r) => String(r.image_size)],
];
// The same work done otherwise: a ratio that must say so.
const sameWay: [string, (r: ResultView) => string][] = [
  ["precision", (r) => r.precision],
  ["batch size", (r) => String(r.batch_size)],
  ["device", (r) => r.device],
];
function apart(sides: Side[], of: typeof sameWork): string[] {
  const told = sides.filter((s) => s.interval !== null);
  return of.flatMap(([name, pick]) => {
    const values = [...new Set(told.flatMap((s) => s.results.map(pick)))];
    return values.length > 1 ? [`${name} (${values.join(", ")})`] : [];
  });
}
// In what work the sides differ, so that they are not comparable; empty: they are.
export const unlike = (sides: Side[]): string[] => apart(sides, sameWork);

// Of the runs that count; invalid where none does.
export function verdictOf(s: Side): Pick<Validity, "verdict" | "causes"> | null {
  if (!s.results.length) return null;
  const counted = s.results.filter(isValid);
  const told = counted.length ? counted : s.results;
  const suspect = told.some((r) => r.validity.verdict === "suspect");
  return { verdict: !counted.length ? "invalid" : suspect ? "suspect" : "clean", causes: [...new Set(told.flatMap((r) => r.validity.causes))] };
}

const verb: Record<string, string> = { training: "trains", inference: "runs", accuracy: "trains" };

// The answer in one sentence; never more than the data say.
export function sentence(sides: Side[], what: What | null, metric: Metric = throughput): string {
  const text = answer(sides, what, metric) + suspects(sides);
  return text.replace(/(^|\. )job /g, "$1Job ");
}
function suspects(sides: Side[]): string {
  const found = sides.flatMap((s) => {
    return s.interval && verdictOf(s)?.verdict === "suspect" ? [s.name] : [];
  });
  return found.length ? ` Suspect, see the verdicts below: ${found.join(", ")}.` : "";
}

export interface What {
  model: string;
  mode: string;
  conditions: string;
}

function answer(sides: Side[], what: What | null, metric: Metric): string {
  const counted = sides.filter((s): s is Side & { interval: Interval } => s.interval !== null).sort(bestFirst(metric));
  const at = what?.conditions ? ` at ${what.conditions}` : "";
  const model = what ? modelTitle(what.model) : "its benchmark";
  const does = what ? (verb[what.mode] ?? "runs") : "runs";
  const first = counted[0];
  if (!first) return sides.length ? `No side has a number: ${sides.map((s) => `${s.name}: ${s.why}`).join("; ")}.` : "Nothing to compare yet.";
  if (counted.length === 1) {
    const others = sides.filter((s) => s !== first);
    const rest = others.length ? ` ${others.map((s) => `${s.name} has no number: ${s.why}`).join("; ")}.` : " It is the only side with results.";
    return `${first.name} ${does} ${model} at ${metric.show(first.interval.value)}${what?.conditions ? ` (${what.conditions})` : ""}.${rest}`;
  }
  const work = unlike(counted);
  if (work.length) return `Not comparable, the sides differ in ${work.join(" and ")}: ${counted.map((s) => `${s.name} ${metric.show(s.interval.value)}`).join(", ")}.`;
  const second = counted[1]!;
  const last = counted[counted.length - 1]!;
  const lead = ratioOf(first.interval, second.interval);
  const parts: string[] = [];
  if (lead.significant) parts.push(`${first.name} ${does} ${model} ${metric.preposition}${ratioText(lead)} ${metric.relation} ${second.name}${at}`);
  else if (lead.significant === null) parts.push(`${first.name} ${does} ${model} ${metric.preposition}${ratioText(lead)} ${metric.relation} ${second.name}${at}${lead.low === null ? ", with too few samples to say how sure that is" : ""}`);
  else parts.push(`${first.name} and ${second.name} do not differ significantly${at}: ${ratioText(lead)}`);
  if (last !== second) {
    const all = ratioOf(first.interval, last.interval);
    parts.push(`${ratioText(all)} ${metric.relation} ${last.name}${all.significant === false ? " (not significant)" : ""}`);
  }
  const missing = sides.filter((s) => s.interval === null);
  const once = counted.filter((s) => s.interval.kind === "steps" && s.interval.low !== null);
  const unsure = !once.length ? "" : ` ${once.length === counted.length ? "One run a side" : `One run only: ${once.map((s) => s.name).join(", ")}`}; runs may differ by more than their steps do, use repetitions.`;
  const way = apart(counted, sameWay);
  return parts.join("; ") + "." + (way.length ? ` They differ in ${way.join(" and ")}.` : "") + unsure + (missing.length ? ` ${missing.map((s) => `${s.name} has no number: ${s.why}`).join("; ")}.` : "");
}

export interface Difference {
  what: string;
  values: { side: string; value: string }[];
}

function flatten(value: Json, path: string, out: Map<string, string>) {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    for (const [name, inner] of Object.entries(value)) flatten(inner, path ? `${path}.${name}` : name, out);
  } else {
    out.set(path, value === null ? "not available" : Array.isArray(value) ? value.map((v) => (v !== null && typeof v === "object" ? JSON.stringify(v) : String(v))).join(", ") || "none" : String(value));
  }
}
export function flat(value: Json): Map<string, string> {
  const out = new Map<string, string>();
  flatten(value, "", out);
  return out;
}

// Software and settings that should be equal when hardware is compared.
const environmentThatMatters = /(versions?|libraries|notes)\.|engine_revision|governor|kernel$|backend$/i;
const settings: [string, (r: ResultView) => string][] = [
  ["model", (r) => r.model],
  ["mode", (r) => r.mode],
  ["precision", (r) => r.precision],
  ["batch size", (r) => String(r.batch_size)],
  ["image size", (r) => String(r.image_size)],
  ["variable update", (r) => words(r.variable_update) || "none"],
  ["exchange", (r) => words(r.exchange) || "none"],
  ["input", (r) => words(r.input_kind)],
  ["device", (r) => r.device],
  ["backend", (r) => r.backend],
  ["agents", (r) => String(agentsOf(r))],
  ["workers", (r) => String(r.ranks)],
  ["threads per worker", (r) => String(r.threads_per_worker)],
  ["GPU driver", gpuDrivers],
];

// Of the agent that started the run; "none" where it has no GPU.
function gpuDrivers(r: ResultView): string {
  return [...new Set(gpusOfAgent(r).map((g) => g.driver || "not reported"))].sort().join(", ") || "none";
}

// Everything besides hardware in which sides differ, or the runs of one side among themselves.
export function differences(sides: Side[]): Difference[] {
  const told = sides.filter((s) => s.results.length > 0);
  const found: Difference[] = [];
  const add = (what: string, of: (r: ResultView) => string | undefined) => {
    const each = told.map((s) => [...new Set(s.results.map((r) => of(r) ?? "not reported"))].sort());
    const values = told.map((s, i) => ({ side: s.name, value: each[i]!.join(" and ") }));
    if (new Set(values.map((v) => v.value)).size > 1 || each.some((v) => v.length > 1)) found.push({ what, values });
  };
  for (const [what, of] of settings) add(what, of);
  const environments = new Map<ResultView, Map<string, string>>();
  const names = new Set<string>();
  for (const s of told) {
    for (const r of s.results) {
      const map = flat(r.environment);
      environments.set(r, map);
      for (const name of map.keys()) if (environmentThatMatters.test(name)) names.add(name);
    }
  }
  for (const name of [...names].sort()) add(name, (r) => environments.get(r)?.get(name));
  return found;
}

// In what the results that a side leaves out differ from those in it, as far as results tell.
export function whyLeftOut(s: Side): string[] {
  const here = differences([side("in it", s.results)]).map((d) => d.what);
  const classes = new Set(s.results.map((r) => r.device_class));
  return [
    ...(s.others.every((r) => classes.has(r.device_class)) ? [] : ["device class"]),
    ...differences([side("in it", s.results), { ...s, name: "left out", results: s.others }])
      .map((d) => d.what)
      .filter((what) => !here.includes(what)),
  ];
}
