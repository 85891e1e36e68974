// Which is faster, by how much, and how sure that is.
import { useMemo } from "preact/hooks";
import { api } from "../api";
import { Chart } from "../components/chart";
import { type TableData } from "../components/copy";
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
  ratioText,
  resolveSpec,
  sentence,
  type Side,
  sidesByClass,
  type SpecKey,
  specKeys,
} from "../compare";
import type { JobView, ResultView } from "../contract";
import { modelTitle, plural, rate, spread, words } from "../format";
import { useLoad } from "../hooks";
import { ratioOf } from "../intervals";
import { setQuery, usePlace } from "../router";
import { useTheme } from "../theme";

const labels: Record<keyof SpecKey, string> = {
  model: "Model",
  mode: "Mode",
  precision: "Precision",
  batch_size: "Batch",
  variable_update: "Variable update",
  input_kind: "Input",
  image_size: "Image size",
};
const optionText = (key: keyof SpecKey, value: string): string => (key === "model" ? modelTitle(value) : value === "" ? "none" : words(value));

function Chooser({ results, spec, query }: { results: ResultView[]; spec: SpecKey | null; query: URLSearchParams }) {
  // The other choices stay where something was measured with them; else the newest result decides.
  const choose = (key: keyof SpecKey, value: string) => {
    const rest = spec ?? {};
    const kept = results.some((r) => specKeys.every((k) => (k === key ? String(r[k]) === value : spec === null || r[k] === spec[k])));
    setQuery(Object.fromEntries(specKeys.map((k) => [k, k === key ? value : kept ? String((rest as Partial<SpecKey>)[k] ?? "") : ""])), "push");
  };
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
    </form>
  );
}

function SidesTable({ sides }: { sides: Side[] }) {
  const first = sides.find((s) => s.interval)?.interval ?? null;
  return (
    <div class="panel">
      <table class="rows">
        <thead>
          <tr>
            <th scope="col">Side</th>
            <th scope="col" class="num">
              <Term name="images_per_second">Throughput</Term>
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
            <th scope="col">Jobs</th>
          </tr>
        </thead>
        <tbody>
          {sides.map((s) => {
            const i = s.interval;
            const ratio = i && first && i !== first ? ratioOf(i, first) : null;
            const jobs = [...new Set(s.results.map((r) => r.job_id))];
            return (
              <tr class={ratio && ratio.significant === false ? "not-significant" : ""}>
                <th scope="row" data-label="Side">
                  {s.name}
                </th>
                <td data-label="Throughput" class="num">
                  {i ? `${rate(i.value)} img/s` : <Missing why={s.why} />}
                </td>
                <td data-label="95 % interval" class="num">
                  {i && i.low !== null && i.high !== null ? `${rate(i.low)} to ${rate(i.high)}` : <Missing why={i ? "one step: no spread" : s.why} />}
                </td>
                <td data-label="Spread">
                  {i && i.relative !== null ? `${spread(i.relative)} (n=${i.runs}), ${i.kind === "runs" ? "over runs" : "within the run"}` : <Missing why={i ? "unknown" : s.why} />}
                </td>
                <td data-label="Against the first" class="num">
                  {ratio ? (
                    <>
                      {ratioText(ratio)}
                      {ratio.significant === false && <span class="muted"> not significant</span>}
                    </>
                  ) : i ? (
                    "1"
                  ) : (
                    <Missing why={s.why} />
                  )}
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

function WhatDiffers({ sides }: { sides: Side[] }) {
  const found = differences(sides);
  if (sides.filter((s) => s.results.length).length < 2) return null;
  if (!found.length) return <p class="muted">The sides differ in nothing but hardware, as far as is recorded: settings, threads and versions are equal.</p>;
  return (
    <section class="notice warn" aria-label="What differs">
      <p>
        <strong>The sides differ in more than hardware.</strong> {plural(found.length, "difference")}:
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

function sidesTable(sides: Side[]): TableData {
  return {
    columns: ["side", "images_per_second", "low_95", "high_95", "relative_standard_error", "spread_kind", "runs", "missing_because"],
    rows: sides.map((s) => [s.name, s.interval?.value ?? null, s.interval?.low ?? null, s.interval?.high ?? null, s.interval?.relative ?? null, s.interval?.kind ?? null, s.interval?.runs ?? 0, s.why || null]),
  };
}

function Comparison({ sides, text }: { sides: Side[]; text: string }) {
  const { query } = usePlace();
  const theme = useTheme();
  const ratio = query.get("view") === "ratio";
  const counted = sides.filter((s) => s.interval !== null);
  const option = useMemo(() => {
    const first = counted[0]?.interval;
    if (!first) return null;
    const dots = counted.map((s) => {
      const i = s.interval!;
      const r = ratioOf(i, first);
      const muted = i !== first && r.significant === false;
      if (!ratio) return { name: s.name, value: i.value, low: i.low, high: i.high, muted, note: intervalNote(i) };
      return i === first
        ? { name: s.name, value: 1, low: null, high: null, muted: false, note: "the first side" }
        : { name: s.name, value: r.value, low: r.low, high: r.high, muted, note: ratioText(r) + (muted ? ", not significant" : "") };
    });
    return dotOption(dots, theme, ratio);
  }, [JSON.stringify(sidesTable(sides)), ratio, theme]);
  const kinds = [...new Set(counted.map((s) => s.interval!.kind))];
  const whiskers =
    kinds.length === 2
      ? "Whiskers: 95 %, from the standard error over runs, or within the run where a side has one run only (see the table)"
      : kinds[0] === "runs"
        ? "Whiskers: 95 %, from the standard error over runs"
        : "Whiskers: 95 %, from the steps within the one run; they do not show how runs differ from each other";
  return (
    <>
      <p class="sentence" aria-live="polite">
        {text}
      </p>
      <div class="toggle" role="group" aria-label="Show">
        <button type="button" aria-pressed={!ratio} onClick={() => setQuery({ view: null })}>
          Absolute
        </button>
        <button type="button" aria-pressed={ratio} onClick={() => setQuery({ view: "ratio" })}>
          Ratio
        </button>
      </div>
      <Chart
        title={<Term name="images_per_second">{ratio ? "Ratio of images per second" : "Images per second"}</Term>}
        label="Comparison"
        summary={`${whiskers}. Grey: not significantly different from the first side.`}
        name="compare"
        option={option}
        empty="No side has a number yet."
        table={() => sidesTable(sides)}
        theme={theme}
        height={Math.max(120, 58 + counted.length * 38)}
      />
      <SidesTable sides={sides} />
      <WhatDiffers sides={sides} />
    </>
  );
}

function ByJobs({ ids }: { ids: number[] }) {
  const loaded = useLoad<{ job: JobView; results: ResultView[] }[]>("compare " + ids.join(), (signal) =>
    Promise.all(ids.map(async (id) => ({ job: await api.job(id, signal), results: (await api.results({ job: id, limit: 1000 }, signal)).items }))),
  );
  if (loaded.error && !loaded.data) return <Problem error={loaded.error} />;
  if (!loaded.data) return <Loading what="results" />;
  const sides = loaded.data.map(({ job, results }) => jobSide(job, results));
  const first = loaded.data[0]?.job;
  const same = first && loaded.data.every(({ job }) => job.model === first.model && job.mode === first.mode);
  const equal = same && loaded.data.every(({ job }) => job.batch_size === first.batch_size && job.precision === first.precision);
  const what = same ? { model: first.model, mode: first.mode, conditions: equal ? `batch ${first.batch_size}, ${first.precision}` : "" } : null;
  return (
    <>
      <p class="muted">
        Jobs {ids.join(", ")}, each as a side. <a href="/compare">Compare device classes instead</a>
      </p>
      <Comparison sides={sides} text={sentence(sides, what)} />
    </>
  );
}

function ByClass({ query }: { query: URLSearchParams }) {
  const all = useLoad("results", async (signal) => (await api.results({ limit: 1000 }, signal)).items);
  const wanted = Object.fromEntries(specKeys.flatMap((k) => (query.has(k) ? [[k, query.get(k)!]] : []))) as Partial<Record<keyof SpecKey, string>>;
  const spec = all.data ? resolveSpec(all.data, wanted) : null;
  // The chosen cell is asked for by itself: it may hold more than the newest thousand results of everything.
  const cell = useLoad(spec ? "cell " + JSON.stringify(spec) : null, async (signal) => {
    const page = await api.results({ model: spec!.model, mode: spec!.mode, precision: spec!.precision, batch_size: spec!.batch_size, input_kind: spec!.input_kind, limit: 1000 }, signal);
    return page.items.filter((r) => inSpec(r, spec!));
  });
  if (all.error && !all.data) return <Problem error={all.error} />;
  if (!all.data) return <Loading what="results" />;
  if (!all.data.length) {
    return (
      <Empty title="No result yet">
        <p>
          A comparison needs at least one finished job. <a href="/jobs/new">Submit one</a>, or see <a href="/jobs">what is running</a>.
        </p>
      </Empty>
    );
  }
  const sides = sidesByClass(cell.data ?? []);
  return (
    <>
      <Chooser results={all.data} spec={spec} query={query} />
      {!spec && (
        <Empty title="Nothing was measured with this combination">
          <p>
            Change one of the choices above, or <a href="/compare">start with the newest result</a>.
          </p>
        </Empty>
      )}
      {cell.error && <Problem error={cell.error} />}
      {spec && cell.data && <Comparison sides={sides} text={sentence(sides, { model: spec.model, mode: spec.mode, conditions: conditions(spec) })} />}
    </>
  );
}

export function ComparePage() {
  const { query } = usePlace();
  const ids = (query.get("jobs") ?? "").split(",").filter((t) => /^\d+$/.test(t)).map(Number).slice(0, 50);
  return (
    <>
      <div class="page-head">
        <h1>Compare</h1>
      </div>
      {ids.length ? <ByJobs ids={ids} /> : <ByClass query={query} />}
    </>
  );
}
