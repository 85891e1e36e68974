// Sides of a comparison, the sentence made from them, and whether they may be compared. Pure.
import type { Json, JobView, ResultView } from "./contract";
import { modelTitle, number, rate, reasonWords, words } from "./format";
import { type Interval, intervalOf, type Ratio, ratioOf } from "./intervals";

export interface SpecKey {
  model: string;
  mode: string;
  precision: string;
  batch_size: number;
  variable_update: string;
  input_kind: string;
  image_size: number;
}
export const specKeys: (keyof SpecKey)[] = ["model", "mode", "precision", "batch_size", "variable_update", "input_kind", "image_size"];

export interface Side {
  name: string;
  results: ResultView[];
  interval: Interval | null;
  why: string; // there is no number: the reason, else ""
}

export function sidesByClass(results: ResultView[]): Side[] {
  const classes = [...new Set(results.map((r) => r.device_class))].sort();
  return classes
    .map((name) => side(name, results.filter((r) => r.device_class === name)))
    .sort((a, b) => (b.interval?.value ?? 0) - (a.interval?.value ?? 0));
}

export function side(name: string, results: ResultView[], why = "no valid run"): Side {
  const interval = intervalOf(results);
  return { name, results, interval, why: interval ? "" : why };
}

// A job on a side of its own: "job 12 (cpu-a)".
export function jobSide(job: JobView, results: ResultView[]): Side {
  const reason = job.state === "succeeded" ? "no valid run" : job.reason && job.reason !== "none" ? reasonWords(job.reason) : words(job.outcome ?? job.state);
  return side(`job ${job.id}${job.name ? ` ${job.name}` : ""}`, results, reason);
}

// Choices that occur, each with what the others leave possible, most results first.
export function choices(results: ResultView[], chosen: Partial<SpecKey>, key: keyof SpecKey): [string, number][] {
  const counts = new Map<string, number>();
  for (const r of results) {
    const others = specKeys.every((k) => k === key || chosen[k] === undefined || r[k] === chosen[k]);
    if (others) counts.set(String(r[key]), (counts.get(String(r[key])) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0], "en", { numeric: true }));
}

// What is compared when the address says only part of it: the newest result that fits.
export function resolveSpec(results: ResultView[], wanted: Partial<Record<keyof SpecKey, string>>): SpecKey | null {
  const fits = results.filter((r) => specKeys.every((k) => wanted[k] === undefined || String(r[k]) === wanted[k]));
  const newest = fits[0] ?? null;
  return newest ? (Object.fromEntries(specKeys.map((k) => [k, newest[k]])) as unknown as SpecKey) : null;
}
export const inSpec = (r: ResultView, spec: SpecKey): boolean => specKeys.every((k) => r[k] === spec[k]);

// Near 1 the third decimal matters.
const times = (r: number): string => `${Math.abs(r - 1) < 0.1 ? r.toFixed(3) : number(r)}×`;
export function ratioText(r: Ratio): string {
  return r.low === null || r.high === null ? times(r.value) : `${times(r.value)} (${times(r.low)} to ${times(r.high)})`;
}

export function conditions(s: SpecKey): string {
  return `batch ${s.batch_size}, ${s.precision}, ${words(s.input_kind)} input`;
}

const verb: Record<string, string> = { training: "trains", inference: "runs", accuracy: "trains" };

// The answer in one sentence; never more than the data say.
export function sentence(sides: Side[], what: { model: string; mode: string; conditions: string } | null): string {
  const text = answer(sides, what);
  return text.replace(/(^|\. )job /g, "$1Job ");
}

function answer(sides: Side[], what: { model: string; mode: string; conditions: string } | null): string {
  const counted = sides.filter((s): s is Side & { interval: Interval } => s.interval !== null).sort((a, b) => b.interval.value - a.interval.value);
  const at = what?.conditions ? ` at ${what.conditions}` : "";
  const model = what ? modelTitle(what.model) : "its benchmark";
  const does = what ? (verb[what.mode] ?? "runs") : "runs";
  const first = counted[0];
  if (!first) return sides.length ? `No side has a number: ${sides.map((s) => `${s.name}: ${s.why}`).join("; ")}.` : "Nothing to compare yet.";
  if (counted.length === 1) {
    const others = sides.filter((s) => s !== first);
    const rest = others.length ? ` ${others.map((s) => `${s.name} has no number: ${s.why}`).join("; ")}.` : " It is the only side with results.";
    return `${first.name} ${does} ${model} at ${rate(first.interval.value)} img/s${what?.conditions ? ` (${what.conditions})` : ""}.${rest}`;
  }
  const second = counted[1]!;
  const last = counted[counted.length - 1]!;
  const lead = ratioOf(first.interval, second.interval);
  const parts: string[] = [];
  if (lead.significant) parts.push(`${first.name} ${does} ${model} ${ratioText(lead)} as fast as ${second.name}${at}`);
  else if (lead.significant === null) parts.push(`${first.name} ${does} ${model} ${ratioText(lead)} as fast as ${second.name}${at}, with too few samples to say how sure that is`);
  else parts.push(`${first.name} and ${second.name} do not differ significantly${at}: ${ratioText(lead)}`);
  if (last !== second) {
    const all = ratioOf(first.interval, last.interval);
    parts.push(`${ratioText(all)} as fast as ${last.name}${all.significant === false ? " (not significant)" : ""}`);
  }
  const missing = sides.filter((s) => s.interval === null);
  return parts.join("; ") + "." + (missing.length ? ` ${missing.map((s) => `${s.name} has no number: ${s.why}`).join("; ")}.` : "");
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
const environmentThatMatters = /(versions?|libraries)\.|engine_revision|governor|kernel$|backend$/i;
const settings: [string, (r: ResultView) => string][] = [
  ["model", (r) => r.model],
  ["mode", (r) => r.mode],
  ["precision", (r) => r.precision],
  ["batch size", (r) => String(r.batch_size)],
  ["image size", (r) => String(r.image_size)],
  ["variable update", (r) => words(r.variable_update) || "none"],
  ["input", (r) => words(r.input_kind)],
  ["backend", (r) => r.backend],
  ["workers", (r) => String(r.ranks)],
  ["threads per worker", (r) => String(r.threads_per_worker)],
];

// Everything besides hardware in which the sides differ.
export function differences(sides: Side[]): Difference[] {
  const told = sides.filter((s) => s.results.length > 0);
  if (told.length < 2) return [];
  const found: Difference[] = [];
  const add = (what: string, of: (r: ResultView) => string | undefined) => {
    const values = told.map((s) => ({ side: s.name, value: [...new Set(s.results.map((r) => of(r) ?? "not reported"))].sort().join(" and ") }));
    if (new Set(values.map((v) => v.value)).size > 1) found.push({ what, values });
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
