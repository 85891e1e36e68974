// A job from a form: fields made from the spec's own table, checked by the controller's dry run.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, type ApiError, newKey } from "../api";
import { Command } from "../components/copy";
import { Mark } from "../components/marks";
import { Loading, Problem } from "../components/notices";
import { Tip } from "../components/tip";
import type { DryRun, JsonObject, ProblemField, SpecField } from "../contract";
import { duration, modelTitle, number, plural, shellQuote, words } from "../format";
import { asApiError, useLoad } from "../hooks";
import { go, setQuery, usePlace } from "../router";
import { applies, commandLine, fieldFor, type FormValues, onlyValue, sectionOf, sections, specOf, textOf, valueAt, valuesOf } from "../spec_form";

const label = (path: string): string => words(path.includes(".") ? path.slice(path.indexOf(".") + 1).replaceAll(".", " ") : path);
const title = (field: SpecField, value: string): string => (field.path === "model" ? modelTitle(value) : value);

function defaultText(field: SpecField, resolved: DryRun | null): string {
  const now = resolved ? valueAt(resolved.spec_resolved, field.path) : undefined;
  const decided = now !== undefined && now !== null ? textOf(field, now) : "";
  if (field.default_value !== null) return textOf(field, field.default_value) || decided;
  return field.default_text && decided && field.default_text !== decided ? `${decided} (${field.default_text})` : decided || field.default_text;
}

function limits(field: SpecField): string {
  if (field.minimum === null && field.maximum === null) return "";
  if (field.minimum === null) return `at most ${number(field.maximum!, 1)}`;
  if (field.maximum === null) return `at least ${field.minimum}`;
  const plain = (n: number) => n.toLocaleString("en-US", { maximumFractionDigits: 6 });
  return `${plain(field.minimum)} to ${plain(field.maximum)}`;
}

interface FieldProps {
  field: SpecField;
  value: string | undefined;
  dry: DryRun | null;
  problems: ProblemField[];
  change: (path: string, value: string) => void;
}

function Field({ field, value, dry, problems, change }: FieldProps) {
  const id = `f-${field.path.replaceAll(".", "-")}`;
  const fallback = defaultText(field, dry);
  const required = field.path === "model" || field.default_text === "required";
  const choices = field.type === "boolean" ? ["true", "false"] : field.values;
  const shared = {
    id,
    name: field.path,
    "aria-describedby": `${id}-help${problems.length ? ` ${id}-error` : ""}`,
    "aria-invalid": problems.length > 0,
    "aria-required": required,
  };
  const onInput = (e: Event) => change(field.path, (e.currentTarget as HTMLInputElement).value);
  const runnable = (v: string) => field.values_now.length === 0 || field.values_now.includes(v);
  return (
    <div class={problems.length ? "field wrong" : "field"} data-field={field.path}>
      <label for={id}>
        {label(field.path)}
        {field.unit && !label(field.path).endsWith(field.unit) && field.path !== "steps.measured_seconds" && <span class="unit"> {field.unit}</span>}
      </label>
      {choices.length > 0 ? (
        <select {...shared} value={value ?? ""} onChange={onInput}>
          <option value="">{required ? "choose" : `default: ${fallback}`}</option>
          {choices.map((v) => (
            <option value={v} disabled={!runnable(v)}>
              {title(field, v)}
              {runnable(v) ? "" : " (not in this version)"}
            </option>
          ))}
        </select>
      ) : (
        <input
          {...shared}
          type="text"
          autoComplete="off"
          spellcheck={false}
          inputMode={field.type === "integer" || field.type === "number" ? "decimal" : "text"}
          value={value ?? ""}
          placeholder={field.type === "map" ? "key=value, key=value" : fallback}
          onInput={onInput}
        />
      )}
      <p class="help" id={`${id}-help`}>
        {field.help} {limits(field) && <span class="muted">{limits(field)}</span>}
        {field.type === "integer_or_max" && <span class="muted"> or max</span>}
        {field.type === "number_or_dynamic" && <span class="muted"> or dynamic</span>}
      </p>
      {problems.length > 0 && (
        <p class="error" id={`${id}-error`}>
          {problems.map((p) => (
            <span>
              {p.detail}
              {p.allowed ? `; allowed: ${p.allowed}` : ""}
            </span>
          ))}
        </p>
      )}
    </div>
  );
}

function Fixed({ fields }: { fields: SpecField[] }) {
  if (!fields.length) return null;
  return (
    <p class="fixed muted">
      Only one choice in this version:{" "}
      {fields.map((f, i) => (
        <>
          {i > 0 && ", "}
          <Tip text={f.help}>{label(f.path)}</Tip> {onlyValue(f)}
        </>
      ))}
    </p>
  );
}

type Check = { kind: "checking" } | { kind: "ok"; dry: DryRun } | { kind: "refused"; error: ApiError };

// Asks the controller a moment after the last change. The answer to an older spec is dropped.
function useDryRun(spec: JsonObject, ready: boolean): Check {
  const [check, setCheck] = useState<Check>({ kind: "checking" });
  const text = JSON.stringify(spec);
  useEffect(() => {
    if (!ready) return;
    const abort = new AbortController();
    let again = 0;
    const ask = () => {
      api.dryRun(JSON.parse(text) as JsonObject, abort.signal).then(
        (dry) => setCheck({ kind: "ok", dry }),
        (e: unknown) => {
          if (abort.signal.aborted) return;
          const error = asApiError(e);
          setCheck({ kind: "refused", error });
          if (error.status === null) again = window.setTimeout(ask, 2000);
        },
      );
    };
    const timer = window.setTimeout(ask, 250);
    return () => {
      window.clearTimeout(timer);
      window.clearTimeout(again);
      abort.abort();
    };
  }, [text, ready]);
  return check;
}

function Outcome({ check, dry }: { check: Check; dry: DryRun | null }) {
  return (
    <div class="panel pad outcome" role="status" aria-label="Dry run">
      {check.kind === "checking" && <p class="muted">Checking …</p>}
      {check.kind === "refused" && check.error.fields.length > 0 && (
        <p>
          <Mark state="invalid" word="refused" /> {plural(check.error.fields.length, "field")} to change
        </p>
      )}
      {check.kind === "refused" && check.error.fields.length === 0 && (
        <p>
          <Mark state="invalid" word={check.error.title} /> {check.error.detail}
        </p>
      )}
      {check.kind === "ok" && dry && (
        <>
          <p>
            <Mark state="clean" word="accepted" />{" "}
            {dry.matching_agents.length ? (
              <>
                {plural(dry.matching_agents.length, "host")} can run it: {dry.matching_agents.slice(0, 5).join(", ")}
                {dry.matching_agents.length > 5 ? " …" : ""}
              </>
            ) : (
              <>
                no host can run it now: it will wait. <a href="/agents">Add a host</a>
              </>
            )}
          </p>
          <p class="muted">
            {dry.estimate_s !== null ? `A run takes about ${duration(dry.estimate_s)}, from past runs of the same series.` : "No estimate of its duration: nothing like it has run yet."}
            {dry.waiting && ` Would wait: ${dry.waiting.detail}${dry.waiting.estimate_s !== null ? `, about ${duration(dry.waiting.estimate_s)}` : ""}.`}
          </p>
        </>
      )}
    </div>
  );
}

function fromAddress(query: URLSearchParams): JsonObject {
  try {
    const spec = JSON.parse(query.get("spec") ?? "{}") as JsonObject;
    return spec !== null && typeof spec === "object" && !Array.isArray(spec) ? spec : {};
  } catch {
    return {};
  }
}

export function NewJobPage() {
  const { query } = usePlace();
  const schema = useLoad("spec", () => api.spec());
  const models = useLoad("models", () => api.models());
  const [values, setValues] = useState<FormValues | null>(null);
  const [sending, setSending] = useState(false);
  const [refusal, setRefusal] = useState<ApiError | null>(null);
  const attempt = useRef({ text: "", key: "" });
  const fields = schema.data?.fields ?? [];

  useEffect(() => {
    if (values !== null || !schema.data || !models.data) return;
    const given = fromAddress(query);
    const first = models.data.find((m) => m.available)?.name;
    setValues(valuesOf(schema.data.fields, Object.keys(given).length ? given : first ? { model: first } : {}));
  }, [schema.data, models.data]);

  const spec = useMemo(() => specOf(fields, values ?? {}), [fields, values]);
  const specText = JSON.stringify(spec);
  const check = useDryRun(spec, values !== null);
  const lastDry = useRef<DryRun | null>(null);
  if (check.kind === "ok") lastDry.current = check.dry;
  useEffect(() => {
    if (values === null) return;
    const timer = window.setTimeout(() => setQuery({ spec: specText }), 300); // the address holds the form
    return () => window.clearTimeout(timer);
  }, [specText, values === null]);

  if (schema.error && !schema.data) return <Problem error={schema.error} />;
  if (models.error && !models.data) return <Problem error={models.error} />;
  if (!schema.data || values === null) return <Loading what="the form" />;

  const problems = check.kind === "refused" ? check.error.fields : [];
  const shown = fields.filter((f) => applies(f, fields, values));
  const homeless = problems.filter((p) => {
    const path = fieldFor(p, fields);
    return path === null || !shown.some((f) => f.path === path && onlyValue(f) === null);
  });
  const change = (path: string, value: string) => {
    setRefusal(null);
    setValues((old) => {
      const next = { ...old };
      if (value === "") delete next[path];
      else next[path] = value;
      return next;
    });
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    if (sending) return;
    if (problems.length > 0) {
      const path = problems.map((p) => fieldFor(p, fields)).find((p) => p !== null);
      const box = path && document.getElementById(`f-${path.replaceAll(".", "-")}`);
      box && (box.closest("details")?.setAttribute("open", ""), box.focus());
      return;
    }
    setSending(true);
    setRefusal(null);
    if (attempt.current.text !== specText) attempt.current = { text: specText, key: newKey() };
    try {
      const job = await api.submit(spec, attempt.current.key);
      go(`/jobs/${job.id}`);
    } catch (error) {
      setRefusal(asApiError(error));
      setSending(false);
    }
  };

  const pretty = JSON.stringify(spec, null, 2);
  const here = location.origin;
  const curl = `curl -sS ${here}/api/v1/jobs \\\n  -H 'content-type: application/json' \\\n  -d ${shellQuote(specText)}`;
  const cli = commandLine(fields, spec, here);
  return (
    <>
      <div class="page-head">
        <h1>New job</h1>
      </div>
      <form class="new-job" onSubmit={(e) => void submit(e)} noValidate aria-label="Job spec">
        <div class="form-side">
          {sections.map((section) => {
            const mine = shown.filter((f) => sectionOf(f.path) === section);
            const asked = mine.filter((f) => onlyValue(f) === null);
            const fixed = mine.filter((f) => onlyValue(f) !== null);
            if (!mine.length) return null;
            const wrong = asked.some((f) => problems.some((p) => fieldFor(p, fields) === f.path));
            const touched = asked.some((f) => values[f.path] !== undefined);
            const body = (
              <>
                <div class="fields">
                  {asked.map((f) => (
                    <Field key={f.path} field={f} value={values[f.path]} dry={lastDry.current} problems={problems.filter((p) => fieldFor(p, fields) === f.path)} change={change} />
                  ))}
                </div>
                <Fixed fields={fixed} />
              </>
            );
            return section.open ? (
              <fieldset class="panel">
                <legend>{section.title}</legend>
                {body}
              </fieldset>
            ) : (
              <details class="panel" open={wrong || touched || undefined}>
                <summary>{section.title}</summary>
                {body}
              </details>
            );
          })}
        </div>
        <div class="json-side">
          <Outcome check={check} dry={lastDry.current} />
          {homeless.length > 0 && (
            <div class="notice bad" role="alert">
              <ul>
                {homeless.map((p) => (
                  <li>
                    <code>{p.field}</code> {p.detail}
                    {p.allowed ? `; allowed: ${p.allowed}` : ""}
                  </li>
                ))}
              </ul>
            </div>
          )}
          {refusal && <Problem error={refusal} />}
          <p>
            <button type="submit" class="primary wide" disabled={sending}>
              {sending ? "Submitting …" : "Submit job"}
            </button>
          </p>
          <Command label="Spec" text={pretty} />
          <Command label="As curl" text={curl} />
          <Command label="As command line" text={cli} />
          {lastDry.current && (
            <details class="panel">
              <summary>Resolved, with every default</summary>
              <pre class="pad" tabIndex={0} role="region" aria-label="Resolved spec">
                {JSON.stringify(lastDry.current.spec_resolved, null, 2)}
              </pre>
            </details>
          )}
        </div>
      </form>
    </>
  );
}
