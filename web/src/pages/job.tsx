// One job: is it going well, what came out, and why.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, type ApiError, queryString } from "../api";
import { specOf } from "../compare";
import { save, csv } from "../components/copy";
import { Mark } from "../components/marks";
import { Loading, Problem } from "../components/notices";
import { Phases } from "../components/phases";
import { ProfileTable } from "../components/profile_table";
import { RunCharts } from "../components/run_charts";
import { Attempts, Environment, GpuTable, InferenceFacts, Measured, reasonText } from "../components/run_facts";
import { RunLogs } from "../components/run_logs";
import { SpecChips } from "../components/spec_chips";
import { TelemetryCharts } from "../components/telemetry_charts";
import { Term } from "../components/tip";
import { HeadlineValue, Missing, Time } from "../components/values";
import { isOver, type JobView, type Json, type JsonObject, type RunView, type TelemetryEvent, type Waiting } from "../contract";
import { bytes, duration, number, plural, rate, words } from "../format";
import { asApiError, useLoad, useReloadOn, useSoon } from "../hooks";
import { onBatch, onEvent } from "../live";
import { go, setQuery, usePlace } from "../router";
import { valueAt } from "../spec_form";
import { addSteps, type StepsState, stepsTable } from "../steps";
import { bounded, joined } from "../telemetry";
import type { PageProps } from "./index";

// A run event has no spec, transitions and result: what is known stays until the job is fetched again.
export function applyRun(job: JobView, event: RunView): { job: JobView; stale: boolean } {
  const old = job.runs.find((r) => r.id === event.id);
  if (!old) return { job, stale: true };
  const next = { ...old, ...event, spec: old.spec, transitions: old.transitions, result: old.result };
  return { job: { ...job, runs: job.runs.map((r) => (r.id === event.id ? next : r)) }, stale: old.state !== event.state };
}

function memoryText(memory: Json): string {
  const m = memory as JsonObject | null;
  if (!m || typeof m !== "object" || Array.isArray(m)) return "";
  const size = (name: string) => (typeof m[name] === "number" ? bytes(m[name] as number) : "unknown");
  return `${String(m.model ?? "the model")} at batch ${String(m.batch_size ?? "?")} in ${String(m.precision ?? "?")} wanted ${size("bytes_wanted")}, ${size("bytes_free")} were free${m.limited_by ? ` (${String(m.limited_by)})` : ""}.`;
}

// A job on GPUs may be short of its host's memory, which prepared pictures take.
function memoryAdvice(job: JobView, memory: Json): string {
  const limit = (memory as JsonObject | null)?.limited_by;
  if (job.device !== "gpu" || !limit || String(limit).startsWith("GPU memory")) return "Use a smaller batch or image size.";
  return "The host's memory is short, not the GPU's: use a smaller input.queue_depth, fewer input.decode_threads or no input.cache.";
}

function nextStep(job: JobView, memory: Json): string {
  if (job.outcome === "out_of_memory") return memoryAdvice(job, memory);
  if (job.outcome === "timeout") return "Raise timeout_s, or measure fewer steps.";
  if (job.outcome === "stalled") return "The logs say which rank stopped and in which phase.";
  if (job.outcome === "lost") return "See whether the host is up on the Agents page, then rerun.";
  if (job.reason.startsWith("input_")) return "Check input.path and the pictures in it on that host.";
  return "The logs below say more.";
}

// The sentence from the controller, with the job it names as a link.
function WaitingFor({ waiting }: { waiting: Waiting | null }) {
  if (!waiting?.detail) return <>it is next</>;
  const blocking = waiting.blocking_job;
  const detail = waiting.detail.replace(/\.$/, "");
  if (blocking === null) return <>{detail}</>;
  const link = <a href={`/jobs/${blocking}`}>job {blocking}</a>;
  const [before, ...after] = detail.split(new RegExp(`\\bjob ${blocking}\\b`));
  if (!after.length) return <>{detail} ({link})</>;
  return (
    <>
      {before}
      {link}
      {after.join(`job ${blocking}`)}
    </>
  );
}

// The same benchmark on other device classes; a rerun against what it repeats. A result says more than
// the spec: the batch that "max" came to, the agents that took part.
function compareUrl(job: JobView): string {
  if (job.rerun_of !== null) return `/compare?jobs=${job.rerun_of},${job.id}`;
  const result = job.runs.map((r) => r.result).reverse().find((r) => r !== null);
  if (result) return "/compare" + queryString(specOf(result));
  const spec = job.spec_resolved ?? {};
  return (
    "/compare" +
    queryString({
      model: job.model,
      mode: job.mode,
      precision: job.precision,
      batch_size: job.batch_size || null,
      variable_update: job.variable_update,
      input_kind: valueAt(spec, "input.kind"),
      image_size: valueAt(spec, "image_size"),
    })
  );
}

function Outcome({ job, run }: { job: JobView; run: RunView | null }) {
  const { headline, validity } = job;
  if (headline.images_per_second !== null) {
    return (
      <div class="headline-box">
        <p class="headline-line" data-testid="headline">
          <Term name="images_per_second">
            <HeadlineValue headline={headline} large />
          </Term>
        </p>
        {validity?.causes.some((cause) => cause.includes("waiting for pictures")) && (
          <p>
            <strong>Input-bound:</strong> this is the speed of reading and decoding pictures, not the device's own.
          </p>
        )}
        {validity && (
          <p class="verdict">
            <Term name="validity">
              <Mark state={validity.verdict} />
            </Term>
            {validity.causes.length > 0 && <span> {validity.causes.join("; ")}</span>}
            {validity.not_checked.length > 0 && <span class="muted"> Not checked: {validity.not_checked.join(", ")}.</span>}
          </p>
        )}
      </div>
    );
  }
  if (job.state === "queued") {
    return (
      <div class="notice info" role="status">
        <p>
          <strong>Waiting:</strong> <WaitingFor waiting={job.waiting} />.{" "}
          {job.waiting?.estimate_s != null ? `About ${duration(job.waiting.estimate_s)} from now.` : "No estimate: nothing like it has run yet."}
        </p>
      </div>
    );
  }
  if (job.state === "running") {
    const p = run?.progress;
    return (
      <div class="headline-box">
        <p class="headline-line">
          {p?.images_per_second != null ? (
            <span class="headline large provisional">
              <span class="value">{rate(p.images_per_second)}</span> <span class="unit">img/s</span> <span class="spread">now (median of the last 8 steps); the result comes at the end</span>
            </span>
          ) : (
            <Missing why={`No number yet: ${words(run?.state ?? "starting")}.`} />
          )}
        </p>
        {p?.loss != null && <p class="muted">loss {number(p.loss, 4)}</p>}
      </div>
    );
  }
  const memory = job.outcome === "out_of_memory" ? memoryText(run?.memory ?? null) : "";
  return (
    <div class={job.state === "cancelled" ? "notice info" : "notice bad"} role="status" data-testid="reason">
      <p>
        <strong>No number: {words(job.outcome ?? job.state)}.</strong> {reasonText(job.reason, job.detail || run?.detail || "")}
      </p>
      {memory && <p>{memory}</p>}
      {job.state !== "cancelled" && <p class="what-to-do">{nextStep(job, run?.memory ?? null)}</p>}
    </div>
  );
}

// Of which of several runs everything below is.
function RunOnScreen({ job, run }: { job: JobView; run: RunView }) {
  if (job.runs.length < 2) return null;
  const planned = valueAt(job.spec_resolved ?? {}, "repetitions");
  return (
    <h2 class="run-on-screen">
      Run {run.id}, repetition {run.repetition}
      {typeof planned === "number" ? ` of ${planned}` : ""}
      {run.attempt > 1 ? `, attempt ${run.attempt}` : ""} <span class="muted">{job.headline.runs > 1 ? `the number above is of ${plural(job.headline.runs, "run")}; choose another under Attempts` : "choose another under Attempts"}</span>
    </h2>
  );
}

// Steps of the run on screen: fetched, then continued by events; fetched again where events left a hole.
function useSteps(run: RunView | null) {
  const steps = useLoad<StepsState>(run ? `steps ${run.id}` : null, async (signal) => ({ view: await api.steps(run!.id, signal), hole: false }));
  const asked = useRef(0);
  useEffect(() => {
    if (!run) return;
    return onBatch("steps", 250, (e) => e.run_id === run.id, (events) => steps.change((s) => events.reduce(addSteps, s)));
  }, [run?.id]);
  // Events before the first answer are dropped, and images per step is known only after the start.
  const behind = steps.data !== null && (steps.data.hole || (steps.data.view.images_per_step === 0 && run !== null && !["reserved", "starting"].includes(run.state)));
  useEffect(() => {
    if (!behind || steps.loading || (run && isOver(run.state) && asked.current > 3)) return;
    const timer = window.setTimeout(() => {
      asked.current += 1;
      steps.reload();
    }, 400);
    return () => window.clearTimeout(timer);
  }, [behind, steps.loading]);
  return steps;
}

// Telemetry has its own pace: charts of steps are not drawn again for it.
function useTelemetry(run: RunView | null, fetched: TelemetryEvent[] | null, over: boolean): TelemetryEvent[] {
  const [live, setLive] = useState<TelemetryEvent[]>([]);
  useEffect(() => {
    if (over) setLive([]); // what was fetched after the end is the whole story
  }, [fetched]);
  useEffect(() => {
    setLive([]);
    if (!run) return;
    return onBatch("telemetry", 1000, (e) => e.run_id === run.id, (events) => setLive((old) => bounded([...old, ...events])));
  }, [run?.id]);
  return useMemo(() => joined(fetched ?? [], live), [fetched, live]);
}

export function JobPage({ params }: PageProps) {
  const id = Number(params.id);
  const { query } = usePlace();
  const loaded = useLoad(`job ${id}`, (signal) => api.job(id, signal));
  const [problem, setProblem] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState("");
  const soon = useSoon(loaded.reload, 120);
  // Why a job waits changes with other jobs, and so does the estimate with time.
  const queued = loaded.data?.state === "queued";
  useReloadOn("job", (event) => queued && event.id !== id, loaded.reload, 1000);
  useEffect(() => {
    if (!queued) return;
    const timer = window.setInterval(loaded.reload, 30_000);
    return () => window.clearInterval(timer);
  }, [queued]);
  useEffect(
    () =>
      onEvent("job", (event) => {
        if (event.id !== id) return;
        loaded.change((old) => ({ ...old, ...event, runs: old.runs, transitions: old.transitions, spec_submitted: old.spec_submitted, spec_resolved: old.spec_resolved }));
        soon();
      }),
    [id],
  );
  useEffect(
    () =>
      onEvent("run", (event) => {
        if (event.job_id !== id) return;
        loaded.change((old) => {
          const { job, stale } = applyRun(old, event);
          if (stale) soon();
          return job;
        });
      }),
    [id],
  );

  const job = loaded.data;
  const chosen = Number(query.get("run"));
  const run = job ? (job.runs.find((r) => r.id === chosen) ?? job.runs[job.runs.length - 1] ?? null) : null;
  const steps = useSteps(run);
  const over = run ? isOver(run.state) : false;
  const telemetry = useTelemetry(run, steps.data?.view.telemetry ?? null, over);
  useEffect(() => {
    if (over && steps.data) steps.reload(); // the last events may have come in after the end
  }, [over]);
  const agent = useLoad(run && run.agent_id !== null && !run.result ? `agent ${run.agent_id}` : null, () => api.agent(run!.agent_id!));

  if (!job) return loaded.error ? <Problem error={loaded.error}><p><a href="/jobs">All jobs</a></p></Problem> : <Loading what={`job ${id}`} />;

  const act = async (name: string, what: () => Promise<JobView>, then: (job: JobView) => void) => {
    setBusy(name);
    setProblem(null);
    try {
      then(await what());
    } catch (error) {
      setProblem(asApiError(error));
    }
    setBusy("");
  };
  const file = `rackmark-job-${job.id}`;
  return (
    <>
      <div class="page-head job-head">
        <div>
          <h1>
            Job {job.id}
            {job.name ? <span class="job-name"> {job.name}</span> : null}
          </h1>
          <p class="muted">
            <SpecChips spec={job} /> submitted <Time at={job.created_at} />
            {job.agents.length > 0 && <> · on {job.agents.join(", ")}</>}
            {job.device_class && <> ({job.device_class})</>}
            {job.rerun_of !== null && (
              <>
                {" "}
                · rerun of <a href={`/jobs/${job.rerun_of}`}>job {job.rerun_of}</a>
              </>
            )}
            {job.group_id !== null && (
              <>
                {" "}
                · part of <a href={`/groups/${job.group_id}`}>scaling group {job.group_id}</a>
              </>
            )}
            {Object.entries(job.labels).map(([k, v]) => (
              <a class="chip" href={`/jobs?label=${encodeURIComponent(`${k}=${v}`)}`}>
                {k}={v}
              </a>
            ))}
          </p>
        </div>
        <div class="actions" role="group" aria-label="Job actions">
          {!isOver(job.state) && (
            <button type="button" disabled={busy !== "" || job.cancel_requested} onClick={() => void act("cancel", () => api.cancel(id), soon)}>
              {job.cancel_requested ? "Cancelling …" : "Cancel"}
            </button>
          )}
          <button type="button" disabled={busy !== ""} onClick={() => void act("rerun", () => api.rerun(id), (made) => go(`/jobs/${made.id}`))}>
            Rerun
          </button>
          <a class="button" href={`/jobs/new?spec=${encodeURIComponent(JSON.stringify(job.spec_submitted ?? {}))}`}>
            Edit as new
          </a>
          <a class="button" href={compareUrl(job)}>
            Compare
          </a>
          <button type="button" disabled={!steps.data?.view.ranks.length} onClick={() => save(`${file}-steps.csv`, "text/csv", csv(stepsTable(steps.data!.view)))}>
            CSV
          </button>
          <button type="button" onClick={() => save(`${file}.json`, "application/json", JSON.stringify({ job, steps: steps.data ? { ...steps.data.view, telemetry } : null }, null, 2))}>
            JSON
          </button>
        </div>
      </div>
      {loaded.error && <Problem error={loaded.error} />}
      {problem && <Problem error={problem} />}
      <Phases job={job} run={run} />
      <Outcome job={job} run={run} />
      {run && steps.error && <Problem error={steps.error} />}
      {run && <RunOnScreen job={job} run={run} />}
      {run && steps.data && <RunCharts run={run} steps={steps.data.view} hasLoss={job.mode !== "inference"} />}
      {run && steps.data && <TelemetryCharts run={run} events={telemetry} many={steps.data.view.ranks.length > 1} />}
      {run?.result && <InferenceFacts result={run.result} />}
      {run?.result && <Measured result={run.result} />}
      {run?.result && <GpuTable result={run.result} />}
      {run?.result && job.spec_resolved?.profile === true && <ProfileTable key={`profile ${run.id}`} run={run.id} />}
      <Attempts job={job} shown={run} choose={(r) => setQuery({ run: String(r) })} />
      {run && <RunLogs key={run.id} run={run.id} over={over} />}
      <Environment result={run?.result ?? null} agent={agent.data} />
      <details class="panel">
        <summary>Spec, as submitted and as run</summary>
        <div class="two">
          <pre tabIndex={0} role="region" aria-label="Spec as submitted">
            {JSON.stringify(job.spec_submitted, null, 2)}
          </pre>
          <pre tabIndex={0} role="region" aria-label="Spec as run">
            {JSON.stringify(run?.spec ?? job.spec_resolved, null, 2)}
          </pre>
        </div>
      </details>
    </>
  );
}
