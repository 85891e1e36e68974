// The form of a job spec: which fields apply, text to value and back, problems to their fields. Pure.
import type { Json, JsonObject, ProblemField, SpecField } from "./contract";
import { shellQuote } from "./format";

export type FormValues = Record<string, string>; // by path; a field at its default is absent

export function valueAt(object: Json | undefined, path: string): Json | undefined {
  let at: Json | undefined = object;
  for (const part of path.split(".")) {
    if (at === null || typeof at !== "object" || Array.isArray(at)) return undefined;
    at = at[part];
  }
  return at;
}

function setAt(object: JsonObject, path: string, value: Json) {
  const names = path.split(".");
  const last = names.pop()!;
  let at = object;
  for (const name of names) {
    const inner = at[name];
    at = (inner !== null && typeof inner === "object" && !Array.isArray(inner) ? inner : (at[name] = {})) as JsonObject;
  }
  at[last] = value;
}

// What a text stands for. Text that is no number stays text: the controller then says at that field what
// it takes, so there is one source of that sentence.
export function parseValue(field: SpecField, text: string): Json {
  const trimmed = text.trim();
  switch (field.type) {
    case "integer":
    case "number":
    case "integer_or_max":
    case "number_or_dynamic":
      return trimmed !== "" && Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
    case "boolean":
      return trimmed === "true" ? true : trimmed === "false" ? false : trimmed;
    case "repetitions":
      if (trimmed.startsWith("{")) {
        try {
          return JSON.parse(trimmed) as Json;
        } catch {
          return trimmed;
        }
      }
      return Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
    case "map":
    case "object": {
      const entries: JsonObject = {};
      for (const part of trimmed.split(/[\n,]+/)) {
        const pair = part.trim();
        if (!pair) continue;
        const at = pair.indexOf("=");
        entries[at < 0 ? pair : pair.slice(0, at).trim()] = at < 0 ? "" : pair.slice(at + 1).trim();
      }
      return entries;
    }
    default:
      return trimmed;
  }
}

export function textOf(field: SpecField, value: Json): string {
  if (value === null) return "";
  if (typeof value !== "object") return String(value);
  if (field.type === "map" || field.type === "object") {
    return Object.entries(value as JsonObject)
      .map(([k, v]) => `${k}=${String(v)}`)
      .join(", ");
  }
  return JSON.stringify(value);
}

// A row of the table is stated in words: "mode is training or accuracy", "input.kind is not synthetic".
// A sentence that is not understood applies: the controller has the last word.
export function applies(field: SpecField, fields: SpecField[], values: FormValues, depth = 0): boolean {
  if (!field.applies_when || depth > 8) return true;
  return field.applies_when.split(/\s+and\s+/).every((clause) => {
    const said = /^([\w.]+) is (not )?(.+)$/.exec(clause.trim());
    if (!said) return true;
    const [, path = "", not, list = ""] = said;
    const governing = fields.find((f) => f.path === path);
    if (!governing) return true;
    if (!applies(governing, fields, values, depth + 1)) return false;
    const value = values[path] ?? textOf(governing, governing.default_value);
    return list.split(/\s*,\s*|\s+or\s+/).includes(value) !== Boolean(not);
  });
}

// One value is all that this version runs: shown, not asked.
export function onlyValue(field: SpecField): string | null {
  if (field.available === false) return "not in this version";
  const only = field.values_now.length === 1 ? field.values_now[0]! : null;
  const isValue = only !== null && (field.values.includes(only) || field.type === "boolean" || only === textOf(field, field.default_value));
  return isValue && field.path !== "model" ? only : null;
}

export function specOf(fields: SpecField[], values: FormValues): JsonObject {
  const spec: JsonObject = {};
  for (const field of fields) {
    const text = values[field.path];
    if (text === undefined || text.trim() === "" || !applies(field, fields, values)) continue;
    setAt(spec, field.path, parseValue(field, text));
  }
  return spec;
}

export function valuesOf(fields: SpecField[], spec: JsonObject): FormValues {
  const values: FormValues = {};
  for (const field of fields) {
    const value = valueAt(spec, field.path);
    if (value !== undefined && value !== null) values[field.path] = textOf(field, value);
  }
  return values;
}

// The field that shows a problem: its own, or the nearest one above it ("repetitions.max" belongs to
// "repetitions"). Null: no field of the form, shown on top.
export function fieldFor(problem: ProblemField, fields: SpecField[]): string | null {
  let path = problem.field.replace(/\[\d+\]/g, "");
  while (path) {
    if (fields.some((f) => f.path === path)) return path;
    path = path.includes(".") ? path.slice(0, path.lastIndexOf(".")) : "";
  }
  return null;
}

export interface Section {
  title: string;
  open: boolean;
  prefixes: string[]; // paths, or groups that end in a dot
}
export const sections: Section[] = [
  { title: "What", open: true, prefixes: ["model", "mode", "precision", "batch_size", "image_size"] },
  { title: "How long", open: true, prefixes: ["steps.", "repetitions"] },
  { title: "Where", open: true, prefixes: ["resources."] },
  { title: "Inference", open: true, prefixes: ["inference."] },
  { title: "Exchange of gradients", open: true, prefixes: ["variable_update", "all_reduce.", "parameter_server."] },
  { title: "Input", open: true, prefixes: ["input."] },
  { title: "Optimizer and data", open: false, prefixes: ["optimizer.", "classes", "seed", "loss_scale"] },
  { title: "Name, limits and the rest", open: false, prefixes: [] }, // everything else
];

export function sectionOf(path: string): Section {
  const found = sections.find((s) => s.prefixes.some((p) => (p.endsWith(".") ? path.startsWith(p) : p === path)));
  return found ?? sections[sections.length - 1]!;
}

// The same job for the command line: one option a field, named by its path.
export function commandLine(fields: SpecField[], spec: JsonObject, controller: string): string {
  const options: string[] = [];
  for (const field of fields) {
    const value = valueAt(spec, field.path);
    if (value === undefined || value === null) continue;
    if (field.type === "map") {
      for (const [k, v] of Object.entries(value as JsonObject)) options.push(`--${field.path} ${shellQuote(`${k}=${String(v)}`)}`);
    } else {
      options.push(`--${field.path} ${shellQuote(typeof value === "object" ? JSON.stringify(value) : String(value))}`);
    }
  }
  return [`rackmark --controller ${shellQuote(controller)} submit --watch`, ...options].join(" \\\n  ");
}
