// What was run, what runs, what is wrong: a filtered list that stays current.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type ApiError } from "../api";
import { Command, csv, jsonRows, save, type TableData } from "../components/copy";
import { Mark } from "../components/marks";
import { Empty, Loading, LoadMore, Problem } from "../components/notices";
import { SpecChips } from "../components/spec_chips";
import { Term } from "../components/tip";
import { Elapsed, HeadlineValue, Missing, Time, VerdictMark, whyNoNumber } from "../components/values";
import { type JobView, isOver, jobStates } from "../contract";
import { modelTitle, plural, rate, words } from "../format";
import { asApiError, type Loaded, useKeys, useLoad } from "../hooks";
import {
  appendPage,
  applyJob,
  emptyList,
  type FilterName,
  filtersFrom,
  type JobList,
  type ProgressByJob,
  queryOf,
  showUnseen,
  withinHours,
} from "../job_list";
import { onEvent } from "../live";
import { go, setQuery, usePlace } from "../router";

function SelectChip({ name, label, value, options }: { name: FilterName; label: string; value: string | undefined; options: [string, string][] }) {
  const all = value && !options.some(([v]) => v === value) ? [...options, [value, value] as [string, string]] : options;
  return (
    <label class={value ? "filter on" : "filter"}>
      <span>{label}</span>
      <select value={value ?? ""} onChange={(e) => setQuery({ [name]: e.currentTarget.value })}>
        <option value="">any</option>
        {all.map(([v, text]) => (
          <option value={v}>{text}</option>
        ))}
      </select>
    </label>
  );
}

function TextChip({ name, label, value, placeholder, id }: { name: FilterName; label: string; value: string | undefined; placeholder: string; id?: string }) {
  // What is typed stands; the address follows a moment later, and leads only where somebody else changed it.
  const [text, setText] = useState(value ?? "");
  const sent = useRef(text);
  const timer = useRef(0);
  useEffect(() => {
    if ((value ?? "") === sent.current) return;
    window.clearTimeout(timer.current);
    sent.current = value ?? "";
    setText(sent.current);
  }, [value]);
  useEffect(() => () => window.clearTimeout(timer.current), []);
  const send = (typed: string) => {
    sent.current = typed;
    setQuery({ [name]: typed });
  };
  return (
    <label class={value ? "filter on" : "filter"}>
      <span>{label}</span>
      <input
        id={id}
        type="search"
        value={text}
        placeholder={placeholder}
        onInput={(e) => {
          const typed = e.currentTarget.value;
          setText(typed);
          window.clearTimeout(timer.current);
          timer.current = window.setTimeout(() => send(typed), 250);
        }}
        onKeyDown={(e) => e.key === "Escape" && e.currentTarget.blur()}
      />
    </label>
  );
}

function Live({ job, progress }: { job: JobView; progress: ProgressByJob }) {
  const p = progress[job.id];
  if (job.state !== "running" || !p) return null;
  return (
    <span class="muted">
      {" "}
      {words(p.phase)} {p.steps_done}
      {p.steps_planned !== null ? ` of ${p.steps_planned}` : ""}
      {p.images_per_second !== null ? ` · ${rate(p.images_per_second)} img/s` : ""}
    </span>
  );
}

// What the list shows, as files; a missing number stays empty beside its reason.
function jobsTable(jobs: JobView[]): TableData {
  return {
    columns: ["id", "name", "model", "mode", "precision", "batch_size", "variable_update", "state", "outcome", "reason", "images_per_second", "spread", "spread_kind", "runs", "verdict", "hosts", "device_class", "created_at", "started_at", "ended_at"],
    rows: jobs.map((j) => [j.id, j.name, j.model, j.mode, j.precision, j.batch_size, j.variable_update, j.state, j.outcome, j.reason, j.headline.images_per_second, j.headline.spread.value, j.headline.spread.kind, j.headline.runs, j.validity?.verdict ?? null, j.agents.join(" "), j.device_class, j.created_at, j.started_at, j.ended_at]),
  };
}

export function JobsPage() {
  const { query } = usePlace();
  const filters = filtersFrom(query);
  const key = JSON.stringify(filters);
  // What was loaded stays loaded when it is fetched again.
  const jobs: Loaded<JobList> = useLoad<JobList>("jobs " + key, async (signal) => {
    const limit = Math.min(500, Math.max(50, jobs.data?.items.length ?? 0));
    const page = await api.jobs({ ...queryOf(filters), limit }, signal);
    return appendPage(emptyList, page.items, page.next_cursor);
  });
  const models = useLoad("models", () => api.models());
  const agents = useLoad("agents", () => api.agents());
  const [progress, setProgress] = useState<ProgressByJob>({});
  const [selected, setSelected] = useState<Set<number>>(new Set());
  const [row, setRow] = useState(-1);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const [said, setSaid] = useState("");

  useEffect(
    () => onEvent("job", (event) => jobs.change((list) => applyJob(list, event, filters, window.scrollY < 120 && !document.activeElement?.closest("table")))),
    [key],
  );
  useEffect(
    () => onEvent("run", (run) => setProgress((old) => ({ ...old, [run.job_id]: run.progress }))),
    [],
  );

  const items = jobs.data?.items ?? [];
  const chosen = [...selected];
  const toggle = (id: number) =>
    setSelected((old) => {
      const next = new Set(old);
      if (!next.delete(id)) next.add(id);
      return next;
    });
  const compare = () => chosen.length > 0 && go(`/compare?jobs=${chosen.sort((a, b) => a - b).join(",")}`);
  const each = async (what: string, act: (id: number) => Promise<JobView>, ids: number[]) => {
    setProblem(null);
    let done = 0;
    for (const id of ids) {
      try {
        const job = await act(id);
        done += 1;
        jobs.change((list) => applyJob(list, job, filters, true));
      } catch (error) {
        setProblem(asApiError(error));
      }
    }
    setSaid(`${what}: ${plural(done, "job")}`);
  };
  const loadMore = async (cursor: string) => {
    const page = await api.jobs({ ...queryOf(filters), limit: 50, cursor });
    jobs.change((list) => appendPage(list, page.items, page.next_cursor));
  };
  const move = (by: number) => {
    const next = Math.max(0, Math.min(items.length - 1, row + by));
    setRow(next);
    document.querySelector<HTMLElement>(`[data-row="${next}"] a`)?.focus();
  };
  useKeys({
    "/": () => document.getElementById("search")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    x: () => items[row] && toggle(items[row]!.id),
    c: compare,
  });
  const cancellable = chosen.filter((id) => items.some((j) => j.id === id && !isOver(j.state)));
  const any = Object.keys(filters).length > 0;

  return (
    <>
      <div class="page-head">
        <h1>Jobs</h1>
        <a class="button primary" href="/jobs/new">
          New job
        </a>
      </div>
      <form class="filters" role="search" aria-label="Filter jobs" onSubmit={(e) => e.preventDefault()}>
        <TextChip id="search" name="name" label="Name" value={filters.name} placeholder="press / to search" />
        <SelectChip name="state" label="State" value={filters.state} options={[["active", "active"], ...jobStates.map((s): [string, string] => [s, words(s)])]} />
        <SelectChip name="model" label="Model" value={filters.model} options={(models.data ?? []).filter((m) => m.available).map((m) => [m.name, modelTitle(m.name)])} />
        <SelectChip name="mode" label="Mode" value={filters.mode} options={["training", "inference", "accuracy"].map((m) => [m, m])} />
        <SelectChip name="precision" label="Precision" value={filters.precision} options={["fp32", "tf32", "bf16", "fp16", "int8"].map((p) => [p, p])} />
        <SelectChip name="device_class" label="Device class" value={filters.device_class} options={[...new Set((agents.data?.items ?? []).map((a) => a.device_class))].map((c) => [c, c])} />
        <SelectChip name="agent" label="Host" value={filters.agent} options={(agents.data?.items ?? []).map((a) => [a.name, a.name])} />
        <TextChip name="label" label="Label" value={filters.label} placeholder="key=value" />
        <SelectChip name="within" label="Within" value={filters.within} options={Object.keys(withinHours).map((w) => [w, `the last ${w}`])} />
        {any && (
          <button type="button" onClick={() => go("/jobs", "replace")}>
            Clear filters
          </button>
        )}
      </form>
      {(jobs.error ?? problem) && <Problem error={(jobs.error ?? problem)!} />}
      <p class="sr-only" role="status">
        {said}
      </p>
      {chosen.length > 0 && (
        <div class="selection" role="group" aria-label="Selected jobs">
          <span>{plural(chosen.length, "job")} selected</span>
          <button type="button" onClick={compare} title="key c">
            Compare
          </button>
          <button type="button" onClick={() => void each("Submitted again", api.rerun, chosen)}>
            Rerun
          </button>
          <button type="button" disabled={!cancellable.length} onClick={() => void each("Cancel asked", api.cancel, cancellable)}>
            Cancel
          </button>
          <button type="button" class="quiet" onClick={() => setSelected(new Set())}>
            Select none
          </button>
        </div>
      )}
      {jobs.data && jobs.data.unseen.length > 0 && (
        <button type="button" class="unseen" onClick={() => jobs.change(showUnseen)}>
          {plural(jobs.data.unseen.length, "new job")}: show
        </button>
      )}
      {!jobs.data && !jobs.error && <Loading what="jobs" />}
      {jobs.data && items.length === 0 && (any ? (
        <Empty title="No job matches these filters">
          <p>
            <a href="/jobs">Show all jobs</a>
          </p>
        </Empty>
      ) : (
        <Empty title="No job yet">
          <p>
            <a href="/jobs/new">Fill in the form</a>, or submit from a shell:
          </p>
          <Command label="First job" text={`rackmark --controller ${location.origin} submit --watch --model resnet50`} />
        </Empty>
      ))}
      {items.length > 0 && (
        <div class="panel">
          <table class="rows jobs">
            <thead>
              <tr>
                <th scope="col">
                  <span class="sr-only">Select</span>
                </th>
                <th scope="col">Job</th>
                <th scope="col">Benchmark</th>
                <th scope="col">State</th>
                <th scope="col" class="num">
                  <Term name="images_per_second">Throughput</Term>
                </th>
                <th scope="col">
                  <Term name="validity">Verdict</Term>
                </th>
                <th scope="col">Hosts</th>
                <th scope="col">Started</th>
                <th scope="col" class="num">
                  Duration
                </th>
              </tr>
            </thead>
            <tbody>
              {items.map((job, index) => (
                <tr key={job.id} data-row={index} data-job={job.id} class={`${selected.has(job.id) ? "chosen" : ""} ${row === index ? "here" : ""}`}>
                  <td class="pick">
                    <input type="checkbox" aria-label={`Select job ${job.id}`} checked={selected.has(job.id)} onChange={() => toggle(job.id)} />
                  </td>
                  <th scope="row" data-label="Job">
                    <a href={`/jobs/${job.id}`} onFocus={() => setRow(index)}>
                      {job.id}
                      {job.name ? ` ${job.name}` : ""}
                    </a>
                  </th>
                  <td data-label="Benchmark">
                    <SpecChips spec={job} />
                  </td>
                  <td data-label="State">
                    <Mark state={job.outcome && isOver(job.state) ? job.outcome : job.state} />
                    <Live job={job} progress={progress} />
                    {job.cancel_requested && !isOver(job.state) && <span class="muted"> cancelling</span>}
                  </td>
                  <td data-label="Throughput" class="num">
                    {job.headline.images_per_second === null ? <Missing why={whyNoNumber(job)} /> : <HeadlineValue headline={job.headline} />}
                  </td>
                  <td data-label="Verdict">
                    <VerdictMark validity={job.validity} />
                  </td>
                  <td data-label="Hosts" class="host">{job.agents.join(", ") || <Missing why="none yet" />}</td>
                  <td data-label="Started">{job.started_at ? <Time at={job.started_at} /> : <Missing why="not started" />}</td>
                  <td data-label="Duration" class="num">
                    <Elapsed from={job.started_at} to={job.ended_at} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <LoadMore cursor={jobs.data?.nextCursor ?? null} load={loadMore} />
      {items.length > 0 && (
        <div class="foot">
          <p class="keys muted">
            <kbd>/</kbd> search <kbd>j</kbd> <kbd>k</kbd> rows <kbd>x</kbd> select <kbd>c</kbd> compare
          </p>
          <div class="tools" role="group" aria-label="Export the rows shown">
            <button type="button" class="small" aria-label="Export as CSV" onClick={() => save("rackmark-jobs.csv", "text/csv", csv(jobsTable(items)))}>
              CSV
            </button>
            <button type="button" class="small" aria-label="Export as JSON" onClick={() => save("rackmark-jobs.json", "application/json", jsonRows(jobsTable(items)))}>
              JSON
            </button>
          </div>
        </div>
      )}
    </>
  );
}
