// Which is faster, by how much, and how sure that is.
import { useMemo } from "preact/hooks";
import { api } from "../api";
import { Chart } from "../components/chart";
import { type TableData } from "../components/copy";
import { Mark } from "../components/marks";
import { Empty, Loading, Problem } from "../components/notices";
import { dotOption, intervalNote } from "../components/options";
import { Term } from "../components/tip";
import { Missing } from "../components/values";
import {
  choices,
  conditions,
  differences,
  inSpec,
  jobSide,
  type Narrow,
  narrowKeys,
  ratioText,
  resolveSpec,
  sentence,
  type Side,
  sidesByClass,
  sidesByLabel,
  type SpecKey,
  specKeys,
  specOf,
  unlike,
  valueOf,
  verdictOf,
  type What,
  whyLeftOut,
} from "../compare";
import type { JobView, ResultQuery, ResultView } from "../contract";
import { modelTitle, plural, spread, words } from "../format";
import { useLoad } from "../hooks";
import { ratioOf } from "../intervals";
import { type Metric, metricNamed, metricsOf, throughput } from "../metrics";
import { setQuery, usePlace } from "../router";
import { useTheme } from "../theme";

const labels: Record<keyof SpecKey | Narrow, string> = {
  model: "Model",
  mode: "Mode",
  precision: "Precision",
  batch_size: "Batch",
  variable_update: "Variable update",
  input_kind: "Input",
  image_size: "Image size",
  agents: "Agents",
  ranks: "Workers",
  fusion: "Fusion",
};
const optionText = (key: keyof SpecKey | Narrow, value: string): string => (key === "model" ? modelTitle(value) : value === "" ? "none" : words(value));

// `cell`: the results of what is chosen.
function Chooser({ results, spec, query, cell }: { results: ResultView[]; spec: SpecKey | null; query: URLSearchParams; cell: ResultView[] }) {
  // The other choices stay where something was measured with them; else the newest result decides.
  const choose = (key: keyof SpecKey, value: string) => {
    const rest = spec ?? {};
    const kept = results.some((r) => specKeys.every((k) => (k === key ? String(valueOf(r, k)) === value : spec === null || valueOf(r, k) === spec[k])));
    const narrow = Object.fromEntries(narrowKeys.map((k) => [k, null]));
    setQuery({ ...narrow, ...Object.fromEntries(specKeys.map((k) => [k, k === key ? value : kept ? String((rest as Partial<SpecKey>)[k] ?? "") : ""])) }, "push");
  };
  const narrows = narrowKeys.filter((key) => query.has(key) || choices(cell, {}, key).length > 1);
  return (
    <form class="filters" aria-label="What is compared" onSubmit={(e) => e.preventDefault()}>
      {specKeys.map((key) => {
        const current = spec ? String(spec[key]) : (query.get(key) ?? "");
        const options = choices(results, {}, key);
        return (
          <label class="filter">
            <span>{labels[key]}</span>
            <select value={current} onChange={(e) => choose(key, e.currentTarget.value)}>
              {!spec && <option value={current}>{current || "any"}</option>}
              {options.map(([value, count]) => (
                <option value={value}>
                  {optionText(key, value)} ({count})
                </option>
              ))}
            </select>
          </label>
        );
      })}
      {narrows.map((key) => (
        <label class={`filter ${query.has(key) ? "on" : ""}`}>
          <span>{labels[key]}</span>
          <select value={query.get(key) ?? ""} onChange={(e) => setQuery({ [key]: e.currentTarget.value || null }, "push")}>
            <option value="">the newest</option>
            {choices(cell, {}, key).map(([value, count]) => (
              <option value={value}>
                {optionText(key, value)} ({count})
              </option>
            ))}
          </select>
        </label>
      ))}
    </form>
  );
}

const noSpread = (metric: Metric): string => (metric.ofSteps ? "one step: no spread" : "one run: no spread");

function SidesTable({ sides, metric }: { sides: Side[]; metric: Metric }) {
  const alike = unlike(sides).length === 0;
  const first = sides.find((s) => s.interval)?.interval ?? null;
  return (
    <div class="panel">
      <table class="rows">
        <thead>
          <tr>
            <th scope="col">Side</th>
            <th scope="col" class="num">
              <Term name={metric.term}>{metric.short}</Term>
            </th>
            <th scope="col" class="num">
              95 % interval
            </th>
            <th scope="col">
              <Term name="spread">Spread</Term>
            </th>
            <th scope="col" class="num">
              Against the first
            </th>
            <th scope="col">
              <Term name="validity">Verdict</Term>
            </th>
            <th scope="col">Jobs</th>
          </tr>
        </thead>
        <tbody>
          {sides.map((s) => {
            const i = s.interval;
            const ratio = alike && i && first && i !== first ? ratioOf(i, first) : null;
            const verdict = verdictOf(s);
            const invalid = i ? s.results.length - i.runs : 0;
            const jobs = [...new Set(s.results.map((r) => r.job_id))];
            return (
              <tr class={ratio && ratio.significant === false ? "not-significant" : ""}>
                <th scope="row" data-label="Side">
                  {s.name}
                </th>
                <td data-label={metric.short} class="num">
                  {i ? metric.show(i.value) : <Missing why={s.why} />}
                </td>
                <td data-label="95 % interval" class="num">
                  {i && i.low !== null && i.high !== null ? `${metric.show(i.low)} to ${metric.show(i.high)}` : <Missing why={i ? noSpread(metric) : s.why} />}
                </td>
                <td data-label="Spread">
                  {i && i.relative !== null ? `${spread(i.relative)} (n=${i.runs}), ${i.kind === "runs" ? "over runs" : "within the run"}` : <Missing why={i ? noSpread(metric) : s.why} />}
                </td>
                <td data-label="Against the first" class="num">
                  {ratio ? (
                    <>
                      {ratioText(ratio)}
                      {ratio.significant === false && <span class="muted"> not significant</span>}
                    </>
                  ) : i === first && i ? (
                    "1"
                  ) : (
                    <Missing why={i ? "not comparable" : s.why} />
                  )}
                </td>
                <td data-label="Verdict">
                  {verdict ? <Mark state={verdict.verdict} /> : <Missing why="no result" />}
                  {verdict && verdict.causes.length > 0 && <span class="muted"> {verdict.causes.join("; ")}</span>}
                  {invalid > 0 && <span class="muted"> {invalid} of {plural(s.results.length, "run")} not counted</span>}
                </td>
                <td data-label="Jobs">
                  {jobs.slice(0, 6).map((id, n) => (
                    <>
                      {n > 0 && ", "}
                      <a href={`/jobs/${id}`}>{id}</a>
                    </>
                  ))}
                  {jobs.length > 6 && ` and ${jobs.length - 6} more`}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

// What measured something else than the side's newest measurement is in no number of it.
function LeftOut({ sides }: { sides: Side[] }) {
  const short = sides.filter((s) => s.others.length > 0);
  if (!short.length) return null;
  return (
    <section class="notice info" aria-label="Left out">
      <p>
        <strong>A side is its newest measurement.</strong> Results of another measurement are no repetitions of it and are left out:
      </p>
      <ul>
        {short.map((s) => {
          const why = whyLeftOut(s).map(words);
          const measurements = new Set(s.others.map((r) => r.fingerprint)).size;
          return (
            <li>
              {s.name}: {plural(s.others.length, "result")} of {plural(measurements, "other measurement")},{" "}
              {why.length ? `different in ${why.join(", ")}` : "different in fields of the spec that results do not repeat (see the jobs)"}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

function WhatDiffers({ sides }: { sides: Side[] }) {
  const found = differences(sides);
  const told = sides.filter((s) => s.results.length).length;
  if (!found.length) return told < 2 ? null : <p class="muted">The sides differ in nothing but hardware, as far as is recorded: settings, threads and versions are equal.</p>;
  return (
    <section class="notice warn" aria-label="What differs">
      <p>
        <strong>{told < 2 ? "The runs of this side differ among themselves." : "The sides differ in more than hardware."}</strong> {plural(found.length, "difference")}:
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Differences">
        <table class="plain">
          <thead>
            <tr>
              <th scope="col">What</th>
              {found[0]!.values.map((v) => (
                <th scope="col">{v.side}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {found.map((d) => (
              <tr>
                <th scope="row">{words(d.what)}</th>
                {d.values.map((v) => (
                  <td>{v.value}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function sidesTable(sides: Side[], metric: Metric): TableData {
  return {
    columns: ["side", metric.name, "low_95", "high_95", "relative_standard_error", "spread_kind", "runs", "verdict", "causes", "missing_because"],
    rows: sides.map((s) => {
      const verdict = verdictOf(s);
      return [s.name, s.interval?.value ?? null, s.interval?.low ?? null, s.interval?.high ?? null, s.interval?.relative ?? null, s.interval?.kind ?? null, s.interval?.runs ?? 0, verdict?.verdict ?? null, verdict?.causes.join("; ") || null, s.why || null];
    }),
  };
}

function Comparison({ sides, what, metric }: { sides: Side[]; what: What | null; metric: Metric }) {
  const { query } = usePlace();
  const theme = useTheme();
  const text = sentence(sides, what, metric);
  const offered = metricsOf(sides.flatMap((s) => s.results));
  const alike = unlike(sides).length === 0;
  const ratio = alike && query.get("view") === "ratio";
  const counted = sides.filter((s) => s.interval !== null);
  const option = useMemo(() => {
    const first = counted[0]?.interval;
    if (!first) return null;
    const dots = counted.map((s) => {
      const i = s.interval!;
      const r = ratioOf(i, first);
      const muted = alike && i !== first && r.significant === false;
      const onAxis = (v: number | null) => (v === null ? null : v / metric.perUnit);
      if (!ratio) return { name: s.name, value: i.value / metric.perUnit, low: onAxis(i.low), high: onAxis(i.high), muted, note: intervalNote(i, metric.show) };
      return i === first
        ? { name: s.name, value: 1, low: null, high: null, muted: false, note: "the first side" }
        : { name: s.name, value: r.value, low: r.low, high: r.high, muted, note: ratioText(r) + (muted ? ", not significant" : "") };
    });
    return dotOption(dots, theme, ratio, metric.unit);
  }, [JSON.stringify(sidesTable(sides, metric)), ratio, theme]);
  const kinds = [...new Set(counted.filter((s) => s.interval!.low !== null).map((s) => s.interval!.kind))];
  const whiskers =
    kinds.length === 0
      ? "No whiskers: one run a side does not tell its spread"
      : kinds.length === 2
        ? "Whiskers: 95 %, from the standard error over runs, or within the run where a side has one run only (see the table)"
        : kinds[0] === "runs"
          ? "Whiskers: 95 %, from the standard error over runs"
          : "Whiskers: 95 %, from the steps within the one run; they do not show how runs differ from each other";
  return (
    <>
      <p class="sentence" aria-live="polite">
        {text}
      </p>
      <div class="toggles">
        <div class="toggle" role="group" aria-label="Show">
          <button type="button" aria-pressed={!ratio} onClick={() => setQuery({ view: null })}>
            Absolute
          </button>
          <button type="button" aria-pressed={ratio} disabled={!alike} title={alike ? undefined : "not comparable"} onClick={() => setQuery({ view: "ratio" })}>
            Ratio
          </button>
        </div>
        {(offered.length > 1 || metric !== throughput) && (
          <div class="toggle" role="group" aria-label="Compare by">
            {(offered.includes(metric) ? offered : [...offered, metric]).map((m) => (
              <button type="button" aria-pressed={m === metric} onClick={() => setQuery({ by: m === throughput ? null : m.name })}>
                {m.short}
              </button>
            ))}
          </div>
        )}
      </div>
      <Chart
        title={<Term name={metric.term}>{ratio ? `Ratio of ${metric.title[0]!.toLowerCase()}${metric.title.slice(1)}` : metric.title}</Term>}
        label="Comparison"
        summary={`${whiskers}. Grey: not significantly different from the first side.`}
        name="compare"
        option={option}
        empty="No side has a number yet."
        table={() => sidesTable(sides, metric)}
        theme={theme}
        height={Math.max(120, 58 + counted.length * 38)}
      />
      <SidesTable sides={sides} metric={metric} />
      <LeftOut sides={sides} />
      <WhatDiffers sides={sides} />
    </>
  );
}

function ByJobs({ ids, metric }: { ids: number[]; metric: Metric }) {
  const loaded = useLoad<{ job: JobView; results: ResultView[] }[]>("compare " + ids.join(), (signal) =>
    Promise.all(ids.map(async (id) => ({ job: await api.job(id, signal), results: (await api.results({ job: id, limit: 1000 }, signal)).items }))),
  );
  if (loaded.error && !loaded.data) return <Problem error={loaded.error} />;
  if (!loaded.data) return <Loading what="results" />;
  const sides = loaded.data.map(({ job, results }) => jobSide(job, results, metric));
  const first = loaded.data[0]?.job;
  const same = first && loaded.data.every(({ job }) => job.model === first.model && job.mode === first.mode);
  const measured = [...new Set(sides.flatMap((s) => s.results.map((r) => conditions(specOf(r)))))];
  const what: What | null = same ? { model: first.model, mode: first.mode, conditions: measured.length === 1 ? measured[0]! : "" } : null;
  return (
    <>
      <p class="muted">
        Jobs {ids.join(", ")}, each as a side. <a href="/compare">Compare device classes instead</a>
      </p>
      <Comparison sides={sides} what={what} metric={metric} />
    </>
  );
}

const newest = 1000;
const asked: (keyof SpecKey & keyof ResultQuery)[] = ["model", "mode", "precision", "batch_size", "input_kind"];

function ByClass({ query, metric }: { query: URLSearchParams; metric: Metric }) {
  const wanted = Object.fromEntries(specKeys.flatMap((k) => (query.has(k) ? [[k, query.get(k)!]] : []))) as Partial<Record<keyof SpecKey, string>>;
  // What the address names is asked for by itself, so that it is found however much was measured since.
  const named = Object.fromEntries(asked.flatMap((k) => (wanted[k] ? [[k, wanted[k]]] : [])));
  const all = useLoad("results", async (signal) => (await api.results({ limit: newest }, signal)).items);
  const own = useLoad(Object.keys(named).length ? "results " + JSON.stringify(named) : null, async (signal) => (await api.results({ ...named, limit: newest }, signal)).items);
  const known = [...new Map([...(own.data ?? []), ...(all.data ?? [])].map((r) => [r.id, r])).values()].sort((a, b) => b.id - a.id);
  const spec = resolveSpec(known, wanted);
  // The chosen cell is asked for by itself: it may hold more than the newest thousand results of everything.
  const cell = useLoad(spec ? "cell " + JSON.stringify(spec) : null, async (signal) => {
    const page = await api.results({ model: spec!.model, mode: spec!.mode, precision: spec!.precision, batch_size: spec!.batch_size, input_kind: spec!.input_kind, limit: 1000 }, signal);
    return page.items.filter((r) => inSpec(r, spec!));
  });
  const agents = useLoad("agents", (signal) => api.agents(signal));
  if (all.error && !all.data) return <Problem error={all.error} />;
  if (!all.data || (!spec && own.loading)) return <Loading what="results" />;
  if (!known.length) {
    return (
      <Empty title="No result yet">
        <p>
          A comparison needs at least one finished job. <a href="/jobs/new">Submit one</a>, or see <a href="/jobs">what is running</a>.
        </p>
      </Empty>
    );
  }
  const results = (cell.data ?? []).filter((r) => narrowKeys.every((k) => !query.has(k) || String(valueOf(r, k)) === query.get(k)));
  const each = query.get("sides") === "each";
  // Fleets: a label of the agents, as they have it now.
  const labels = new Map((agents.data?.items ?? []).map((a) => [a.id, a.labels]));
  const keys = [...new Set([...labels.values()].flatMap((l) => Object.keys(l)))].sort();
  const label = query.get("label");
  const sides = label ? sidesByLabel(results, (r) => labels.get(r.agent_id)?.[label], label, each, metric) : sidesByClass(results, each, metric);
  const several = each || sides.some((s) => s.others.length > 0);
  return (
    <>
      <Chooser results={known} spec={spec} query={query} cell={cell.data ?? []} />
      {!spec && (
        <Empty title={`Nothing was measured with this combination${known.length >= newest ? `, among the newest ${newest.toLocaleString("en-US")} results` : ""}`}>
          <p>
            Change one of the choices above, or <a href="/compare">start with the newest result</a>.
          </p>
        </Empty>
      )}
      {(cell.error ?? own.error) && <Problem error={(cell.error ?? own.error)!} />}
      <div class="toggles">
        {(keys.length > 0 || label) && (
          <label class="filter">
            <span>A side for each</span>
            <select value={label ?? ""} onChange={(e) => setQuery({ label: e.currentTarget.value || null }, "push")}>
              <option value="">device class</option>
              {[...new Set([...keys, ...(label ? [label] : [])])].map((key) => (
                <option value={key}>{key}</option>
              ))}
            </select>
          </label>
        )}
        {several && (
          <div class="toggle" role="group" aria-label="Sides">
            <button type="button" aria-pressed={!each} onClick={() => setQuery({ sides: null })}>
              Newest measurement of each
            </button>
            <button type="button" aria-pressed={each} onClick={() => setQuery({ sides: "each" })}>
              Every measurement
            </button>
          </div>
        )}
      </div>
      {spec && cell.data && <Comparison sides={sides} what={{ model: spec.model, mode: spec.mode, conditions: conditions(spec) }} metric={metric} />}
    </>
  );
}

export function ComparePage() {
  const { query } = usePlace();
  const metric = metricNamed(query.get("by"));
  const ids = (query.get("jobs") ?? "").split(",").filter((t) => /^\d+$/.test(t)).map(Number).slice(0, 50);
  return (
    <>
      <div class="page-head">
        <h1>Compare</h1>
      </div>
      {ids.length ? <ByJobs ids={ids} metric={metric} /> : <ByClass query={query} metric={metric} />}
    </>
  );
}
