// A scaling group: how far more agents make a job faster, where the time goes, what the model predicts.
import { useMemo, useState } from "preact/hooks";
import { api, type ApiError } from "../api";
import { Chart } from "../components/chart";
import { Mark } from "../components/marks";
import { Loading, Problem } from "../components/notices";
import { efficiencyOption, splitOption } from "../components/options";
import { SpecChips } from "../components/spec_chips";
import { Term, Tip } from "../components/tip";
import { HeadlineValue, Missing, Time } from "../components/values";
import { type GroupView, isOver, type ScalingPoint, type ScalingView } from "../contract";
import { milliseconds, number, percent, plural, rate } from "../format";
import { asApiError, useLoad, useReloadOn } from "../hooks";
import { predictionText, ranPoints, scalingSentence, scalingTable, signedPercent, splitRows } from "../scaling";
import { useTheme } from "../theme";
import type { PageProps } from "./index";

const barsShown = 64;

// The sentence above says it whole; here its beginning, and all of it on hover.
function Reason({ why }: { why: string }) {
  const [short, ...rest] = why.split(": ");
  return rest.length ? (
    <Tip text={why}>
      <Missing why={short!} />
    </Tip>
  ) : (
    <Missing why={why} />
  );
}

function Throughput({ point }: { point: ScalingPoint }) {
  if (point.images_per_second === null) return <Missing why={point.job_id === null ? "not run" : point.why} />;
  return <HeadlineValue headline={{ images_per_second: point.images_per_second, spread: { value: point.spread, kind: point.spread_kind }, runs: point.runs }} />;
}

function Exposed({ point }: { point: ScalingPoint }) {
  if (point.exposed_communication_ms === null) return <Missing why={point.job_id === null ? "not run" : "no result"} />;
  return (
    <>
      {milliseconds(point.exposed_communication_ms)} <span class="muted">{point.exposed_communication_share !== null && percent(point.exposed_communication_share)}</span>
    </>
  );
}

function PointRow({ point }: { point: ScalingPoint }) {
  const beyond = point.job_id === null;
  const relative = (value: number | null, text: (v: number) => string) => (value === null ? <Reason why={beyond ? "not run" : point.why || "no result"} /> : text(value));
  return (
    <tr data-agents={point.agents} class={beyond ? "beyond" : ""}>
      <th scope="row" data-label="Agents">
        {point.agents}
      </th>
      <td data-label="Job">
        {beyond ? (
          <span class="muted">predicted only</span>
        ) : (
          <>
            <a href={`/jobs/${point.job_id}`}>{point.job_id}</a> {point.state && <Mark state={point.state} />}
          </>
        )}
      </td>
      <td data-label="Throughput" class="num">
        <Throughput point={point} />
      </td>
      <td data-label="Speed-up" class="num">
        {relative(point.speed_up, (v) => `${number(v)}×`)}
      </td>
      <td data-label="Efficiency" class="num">
        {relative(point.efficiency, percent)}
      </td>
      <td data-label="Exposed communication" class="num">
        <Exposed point={point} />
      </td>
      <td data-label="Of the ceiling" class="num">
        {point.share_of_ceiling === null ? <Reason why={beyond ? "not run" : point.ceiling_why || "no result"} /> : percent(point.share_of_ceiling)}
        {point.ceiling_job_id !== null && (
          <>
            {" "}
            <a href={`/jobs/${point.ceiling_job_id}`} aria-label={`Job ${point.ceiling_job_id}, the ceiling on ${plural(point.agents, "agent")}`}>
              {point.ceiling_job_id}
            </a>
          </>
        )}
      </td>
      <td data-label="Predicted" class="num">
        {point.predicted_images_per_second === null ? (
          <Missing why={point.prediction_why} />
        ) : (
          <>
            {rate(point.predicted_images_per_second)} img/s <span class="muted">{percent(point.predicted_efficiency!)}</span>
          </>
        )}
      </td>
      <td data-label="Error" class="num">
        {point.prediction_error === null ? <Reason why={beyond ? "not run" : point.predicted_images_per_second === null ? "no prediction" : point.why || "no result"} /> : signedPercent(point.prediction_error)}
      </td>
    </tr>
  );
}

function PointsTable({ view }: { view: ScalingView }) {
  const columns: [string, string | null, boolean][] = [
    ["Agents", null, false],
    ["Job", null, false],
    ["Throughput", "images_per_second", true],
    ["Speed-up", "speed_up", true],
    ["Efficiency", "scaling_efficiency", true],
    ["Exposed communication", "exposed_communication_share", true],
    ["Of the ceiling", "share_of_ceiling", true],
    ["Predicted", "predicted_images_per_second", true],
    ["Error", "prediction_error", true],
  ];
  return (
    <section class="panel" aria-label="Points">
      <table class="rows scaling" data-testid="points">
        <thead>
          <tr>
            {columns.map(([title, term, right]) => (
              <th scope="col" class={right ? "num" : ""}>
                {term ? <Term name={term}>{title}</Term> : title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {view.points.map((point) => (
            <PointRow key={point.agents} point={point} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Charts({ view }: { view: ScalingView }) {
  const theme = useTheme();
  const name = `rackmark-group-${view.group_id}`;
  const rows = splitRows(view);
  const key = JSON.stringify(view.points);
  const measured = ranPoints(view).some((p) => p.efficiency !== null);
  const efficiency = useMemo(() => (measured ? efficiencyOption(view.points, theme) : null), [key, theme]);
  const shown = rows.slice(0, barsShown);
  const split = useMemo(
    () =>
      shown.length
        ? splitOption(
            shown.map((r) => r.time),
            theme,
            shown.map((r) => r.name),
          )
        : null,
    [key, theme],
  );
  const height = Math.max(240, 84 + shown.length * 30);
  return (
    <div class="chart-grid">
      <Chart
        title={<Term name="scaling_efficiency">Efficiency</Term>}
        label="Efficiency over agents"
        name={`${name}-efficiency`}
        summary={predictionText(view)}
        option={efficiency}
        empty="No point has a number yet."
        table={() => scalingTable(view)}
        theme={theme}
        height={Math.min(height, 340)}
      />
      <Chart
        title="Where a step's time goes"
        label="Time split per rank"
        name={`${name}-time-split`}
        summary={`Bars are named by agents and rank.${rows.length > barsShown ? ` The first ${barsShown} of ${rows.length} ranks; the table holds all.` : ""}`}
        option={split}
        empty="No job has a result yet."
        table={() => ({
          columns: ["agents", "rank", "host", "step_ms", "input_wait_ms", "compute_ms", "exposed_communication_ms", "server_wait_ms", "share_last"],
          rows: rows.map(({ agents, time: r }) => [agents, r.rank, r.host, r.step_ms, r.input_wait_ms, r.compute_ms, r.exposed_communication_ms, r.server_wait_ms, r.share_last]),
        })}
        theme={theme}
        height={height}
      />
    </div>
  );
}

// Nothing where all jobs are over.
function CancelButton({ group, done, failed }: { group: GroupView; done: () => void; failed: (error: ApiError | null) => void }) {
  const [busy, setBusy] = useState(false);
  const live = group.members.filter((job) => !isOver(job.state));
  if (live.length === 0) return null;
  const asked = live.every((job) => job.cancel_requested);
  const cancel = async () => {
    setBusy(true);
    failed(null);
    try {
      await api.cancelGroup(group.id);
      done();
    } catch (error) {
      failed(asApiError(error));
    }
    setBusy(false);
  };
  return (
    <button type="button" disabled={busy || asked} onClick={() => void cancel()}>
      {asked ? "Cancelling …" : `Cancel ${plural(live.length, "job")}`}
    </button>
  );
}

export function ScalingPage({ params }: PageProps) {
  const id = Number(params.id);
  const loaded = useLoad<{ group: GroupView; scaling: ScalingView }>(`group ${id}`, async (signal) => {
    const [group, scaling] = await Promise.all([api.group(id, signal), api.scaling(id, signal)]);
    return { group, scaling };
  });
  const [problem, setProblem] = useState<ApiError | null>(null);
  useReloadOn("job", (event) => event.group_id === id, loaded.reload, 150);
  if (!loaded.data) return loaded.error ? <Problem error={loaded.error}><p><a href="/groups">All scaling groups</a></p></Problem> : <Loading what={`group ${id}`} />;
  const { group, scaling } = loaded.data;
  const first = group.members[0];
  return (
    <>
      <div class="page-head job-head">
        <div>
          <h1>
            Scaling {group.id}
            {group.name ? <span class="job-name"> {group.name}</span> : null}
          </h1>
          <p class="muted">
            {first && <SpecChips spec={first} />} on {group.agents.join(", ")} agents, submitted <Time at={group.created_at} />
          </p>
        </div>
        <span class="state-now" data-testid="state">
          <Mark state={group.state} />
        </span>
        <div class="actions" role="group" aria-label="Group actions">
          <CancelButton group={group} done={loaded.reload} failed={setProblem} />
        </div>
      </div>
      {(problem ?? loaded.error) && <Problem error={(problem ?? loaded.error)!} />}
      <p class="sentence" aria-live="polite">
        {scalingSentence(scaling)}
      </p>
      <Charts view={scaling} />
      <PointsTable view={scaling} />
    </>
  );
}
