// What a run measured, where, and every attempt of the job.
import type { ComponentChildren } from "preact";
import type { AgentView, JobView, Json, LatencyStatistics, ResultView, RunView } from "../contract";
import { flat, notesOf } from "../compare";
import { bytes, duration, milliseconds, number, percent, plural, rate, reasonWords, words } from "../format";
import { gpusOf, overGpus, type OverGpus } from "../gpus";
import { Mark } from "./marks";
import { Term } from "./tip";
import { Elapsed, Missing, Time, VerdictMark } from "./values";

const ms = (value: number | null): ComponentChildren => (value === null ? <Missing why="too few steps" /> : milliseconds(value));
const orWhy = <T,>(value: T | null, show: (v: T) => ComponentChildren, why: string): ComponentChildren => (value === null ? <Missing why={why} /> : show(value));

// Of all GPUs of the run; on cpu the power of its packages. A card that does not say is no card with 0.
function powerRows(result: ResultView): [string, string, ComponentChildren][] {
  const gpus = gpusOf(result);
  if (result.device !== "gpu") return [["power_w", "CPU power", orWhy(result.power_w, (v) => `${number(v)} W`, "not available: no power counter")]];
  if (!gpus.length) return [["power_w", "GPU", <Missing why="not available: no NVML on this host" />]];
  const row = (term: string, label: string, over: OverGpus | null, show: (v: number) => string, why = "not available"): [string, string, ComponentChildren] => [
    term,
    label,
    orWhy(over, (o) => `${show(o.value)}${o.told < gpus.length ? ` (${o.told} of ${gpus.length} GPUs say)` : ""}`, why),
  ];
  const mean = gpus.length > 1 ? ", mean" : "";
  const why = "not available: this GPU counts none";
  return [
    row("gpu_busy_fraction", `GPU utilisation${mean}`, overGpus(gpus, (g) => g.busy_fraction, "mean"), (v) => percent(v)),
    ["peak_gpu_memory_bytes", "peak GPU memory", orWhy(result.peak_gpu_memory_bytes, bytes, "not available")],
    ["power_w", "GPU power", orWhy(result.power_w, (v) => `${number(v)} W`, "not available: no power counter")],
    row("gpu_max_temperature_c", "hottest GPU", overGpus(gpus, (g) => g.max_temperature_c, "most"), (v) => `${number(v)} °C`),
    row("gpu_sm_clock_mhz", `GPU clock${mean}`, overGpus(gpus, (g) => g.sm_clock_mhz, "mean"), (v) => `${number(v)} MHz`),
    row("gpu_ecc_errors", "uncorrected memory errors", overGpus(gpus, (g) => g.ecc_uncorrected, "sum"), String, why),
    row("gpu_ecc_errors", "corrected memory errors", overGpus(gpus, (g) => g.ecc_corrected, "sum"), String, why),
  ];
}

// What the run ran on, as its heading: "8 × NVIDIA H200, cuda", "2 × 16 threads, onednn".
function shapeText(result: ResultView): string {
  const gpus = gpusOf(result);
  const names = [...new Set(gpus.map((g) => g.name))];
  const cards = names.map((name) => `${gpus.filter((g) => g.name === name).length} × ${name}`).join(", ");
  if (result.device === "gpu") return `${cards || plural(result.ranks, "GPU")}, ${result.backend}`;
  return `${result.ranks} × ${plural(result.threads_per_worker, "thread")}, ${result.backend}`;
}

// One row a card: a mean over all of them hides the one that is slow.
export function GpuTable({ result }: { result: ResultView }) {
  const rows = result.rank_times.flatMap((r) => (r.gpu ? [{ rank: r, gpu: r.gpu }] : []));
  if (!rows.length) return null;
  const columns: [string, string | null][] = [
    ["Utilisation", "gpu_busy_fraction"],
    ["Power", "power_w"],
    ["Hottest", "gpu_max_temperature_c"],
    ["Clock", "gpu_sm_clock_mhz"],
    ["Clock change", "gpu_sm_clock_change"],
    ["Clock limited by", "gpu_throttled"],
    ["Peak memory", "peak_gpu_memory_bytes"],
    ["ECC uncorrected, corrected", "gpu_ecc_errors"],
    ["Step without waits for others", "share_last"],
  ];
  const cell = <T,>(value: T | null, show: (v: T) => ComponentChildren) => orWhy(value, show, "not available");
  const limits = (shares: Record<string, number>) =>
    Object.entries(shares)
      .sort((a, b) => b[1] - a[1])
      .map(([reason, share]) => `${words(reason)} ${percent(share, 0)}`)
      .join(", ") || "nothing";
  return (
    <section class="panel" aria-label="GPUs">
      <div class="panel-head">
        <h3>GPUs</h3>
        <span class="muted">one for each rank, over the measured window</span>
      </div>
      <table class="rows gpus">
        <thead>
          <tr>
            <th scope="col">Rank</th>
            <th scope="col">GPU</th>
            {columns.map(([title, term]) => (
              <th scope="col" class={title === "Clock limited by" ? "" : "num"}>
                {term ? <Term name={term}>{title}</Term> : title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ rank, gpu }) => (
            <tr>
              <th scope="row" data-label="Rank">
                {rank.rank} <span class="muted">{rank.host}</span>
              </th>
              <td data-label="GPU">
                {gpu.name} <span class="muted">{gpu.uuid}</span>
              </td>
              <td data-label="Utilisation" class="num">
                {cell(gpu.busy_fraction, (v) => percent(v))}
              </td>
              <td data-label="Power" class="num">
                {cell(gpu.power_w, (v) => `${number(v)} W`)}
              </td>
              <td data-label="Hottest" class="num">
                {cell(gpu.max_temperature_c, (v) => `${number(v)} °C`)}
              </td>
              <td data-label="Clock" class="num">
                {cell(gpu.sm_clock_mhz, (v) => `${number(v)} MHz`)}
              </td>
              <td data-label="Clock change" class="num">
                {cell(gpu.sm_clock_change, (v) => `${v > 0 ? "+" : ""}${percent(v)}`)}
              </td>
              <td data-label="Clock limited by">{cell(gpu.throttled, limits)}</td>
              <td data-label="Peak memory" class="num">
                {cell(gpu.peak_memory_bytes, bytes)}
              </td>
              <td data-label="ECC uncorrected, corrected" class="num">
                {gpu.ecc_uncorrected === null && gpu.ecc_corrected === null ? (
                  <Missing why="not available" />
                ) : (
                  <>
                    {cell(gpu.ecc_uncorrected, String)}, {cell(gpu.ecc_corrected, String)}
                  </>
                )}
              </td>
              <td data-label="Step without waits for others" class="num">
                {milliseconds(rank.step_ms - rank.exposed_communication_ms - rank.server_wait_ms)} <span class="muted">last in {percent(rank.share_last, 0)}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

export function Measured({ result }: { result: ResultView }) {
  const s = result.step;
  const rows: [string, string, ComponentChildren][] = [
    ["images_per_second", "throughput", `${rate(result.images_per_second)} img/s`],
    ["validity", "verdict of this run", <VerdictMark validity={result.validity} />],
    ["window_s", "measured window", `${duration(result.window_s)}, ${result.steps} steps, ${result.images.toLocaleString("en-US")} images`],
    ["median_ms", "median step", ms(s.median_ms)],
    ["mean_ms", "mean step", s.mean_ms === null ? ms(null) : `${milliseconds(s.mean_ms)} ± ${s.standard_error_ms === null ? "?" : milliseconds(s.standard_error_ms)}`],
    ["p90_ms", "p90", ms(s.p90_ms)],
    ["p95_ms", "p95", ms(s.p95_ms)],
    ["p99_ms", "p99", ms(s.p99_ms)],
    ["max_ms", "slowest step", ms(s.max_ms)],
    ["jitter_ms", "jitter", ms(s.jitter_ms)],
    ["variation", "variation", orWhy(s.variation, (v) => percent(v), "too few steps")],
    ["drift", "drift in the window", orWhy(s.drift, (v) => `${v > 0 ? "+" : ""}${percent(v)}`, "too few steps")],
    ["first_loss", "first loss", orWhy(result.first_loss, (v) => number(v, 4), "not available: no loss in this mode")],
    ["final_loss", "final loss", orWhy(result.final_loss, (v) => number(v, 4), "not available: no loss in this mode")],
    ["mfu", "MFU", orWhy(result.mfu, (v) => percent(v), "not available: this precision is only emulated here, so there is no peak")],
    ["matrix_peak_gflops", "matrix peak", orWhy(result.matrix_peak_gflops, (v) => `${number(v)} GFLOP/s`, "not available")],
    ["setup_s", "set-up", orWhy(result.setup_s, (v) => duration(v), "not available")],
    ["peak_rss_bytes", "peak memory of a rank", orWhy(result.peak_rss_bytes, bytes, "not available")],
    ...powerRows(result),
    ["joules_per_image", "energy per image", orWhy(result.joules_per_image, (v) => `${number(v)} J`, "not available: no power counter")],
    ["images_per_second_per_watt", "throughput per watt", orWhy(result.images_per_second_per_watt, (v) => `${number(v)} img/s/W`, "not available: no power counter")],
  ];
  if (result.inference) rows.splice(0, rows.length, ...rows.filter(([name]) => !name.endsWith("_loss")));
  if (result.convolution_bound_share !== null) {
    rows.push(["convolution_bound_share", "of the convolution bound", percent(result.convolution_bound_share)]);
  }
  const found = result.batch_search;
  if (found) {
    rows.push(["batch_search", "largest batch", `${found.batch_size}, wants ${bytes(found.bytes_wanted)} of ${bytes(found.bytes_free)} (${found.limited_by}); ${found.probes} probes`]);
  }
  for (const [name, text] of Object.entries(notesOf(result))) rows.push(["notes", name, String(text)]);
  if (result.input_kind !== "synthetic") {
    rows.push(["pictures_broken", "broken pictures", result.pictures_broken ? `${result.pictures_broken}: ${result.broken_pictures.join(", ")}` : "none"]);
    if (result.pictures_left_to_cpu !== null) rows.push(["pictures_left_to_cpu", "files that the GPU left to the CPU", String(result.pictures_left_to_cpu)]);
  }
  return (
    <section class="panel" aria-label="Measured numbers">
      <div class="panel-head">
        <h3>Measured</h3>
        <span class="muted">
          {shapeText(result)}
        </span>
      </div>
      <dl class="facts numbers">
        {rows.map(([name, label, value]) => (
          <div>
            <dt>
              <Term name={name}>{label}</Term>
            </dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function LatencyTable({ latency }: { latency: LatencyStatistics }) {
  const cells: [string, number | null][] = [
    ["mean", latency.mean_ms],
    ["p50", latency.p50_ms],
    ["p90", latency.p90_ms],
    ["p95", latency.p95_ms],
    ["p99", latency.p99_ms],
    ["longest", latency.max_ms],
  ];
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Latency, table">
      <table class="plain">
        <thead>
          <tr>
            {cells.map(([name]) => (
              <th scope="col" class="num">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          <tr>
            {cells.map(([, value]) => (
              <td class="num">{ms(value)}</td>
            ))}
          </tr>
        </tbody>
      </table>
    </div>
  );
}

// What a batch took in inference, and how far int8 and bf16 may be trusted.
export function InferenceFacts({ result }: { result: ResultView }) {
  const facts = result.inference;
  if (!facts) return null;
  const { latency, agreement } = facts;
  return (
    <section class="panel" aria-label="Latency">
      <div class="panel-head">
        <h3>
          <Term name="latency">Latency</Term>
        </h3>
        <span class="muted">
          {latency ? `of ${latency.count.toLocaleString("en-US")} batches of ${result.batch_size}` : "not measured: batches overlap (input.overlap)"}, {facts.instances}{" "}
          {facts.instances === 1 ? "instance" : "instances"}
        </span>
      </div>
      {latency && <LatencyTable latency={latency} />}
      {agreement && (
        <dl class="facts">
          <div>
            <dt>
              <Term name="agreement_cosine">{result.precision} and fp32, cosine</Term>
            </dt>
            <dd>
              {number(agreement.cosine, 4)} (at least {number(agreement.cosine_floor, 2)})
            </dd>
          </div>
          <div>
            <dt>
              <Term name="agreement_top1">{result.precision} and fp32, top-1</Term>
            </dt>
            <dd>
              {percent(agreement.top1)} of {agreement.pictures} pictures
            </dd>
          </div>
        </dl>
      )}
    </section>
  );
}

export function Environment({ result, agent }: { result: ResultView | null; agent: AgentView | null }) {
  const source: Json = result ? result.environment : agent ? (agent.inventory as unknown as Json) : null;
  // The worker's hello is kept as it came; its envelope says nothing about the environment.
  const rows = [...flat(source)].filter(([name]) => !/^worker\.(type|v|rank|t_ns|pid)$/.test(name));
  return (
    <section class="panel" aria-label="Environment">
      <div class="panel-head">
        <h3>Environment</h3>
        <span class="muted">{result ? "as recorded with the result" : agent ? "of the host, now" : ""}</span>
      </div>
      {source === null || !rows.length ? (
        <p class="missing pad">Not known before a host has the run.</p>
      ) : (
        <div class="scroll short" tabIndex={0} role="region" aria-label="Environment, table">
          <table class="plain wide-keys">
            <tbody>
              {rows.map(([name, value]) => (
                <tr>
                  <th scope="row">{words(name).replaceAll(".", " › ")}</th>
                  <td>{value}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

export const reasonText = (reason: string, detail: string): string => [reason && reason !== "none" ? reasonWords(reason) : "", detail].filter(Boolean).join(": ");

// Where the run is: an agent, or several with the ranks that each has.
function Places({ run }: { run: RunView }) {
  if (run.hosts.length < 2) return <>{run.agent || <Missing why="none" />}</>;
  const ranks = (first: number, count: number) => (count === 1 ? `rank ${first}` : `ranks ${first} to ${first + count - 1}`);
  const servers = (count: number) => (count === 0 ? "" : count === 1 ? " and a parameter server" : ` and ${count} parameter servers`);
  return (
    <ul class="places" aria-label={`Hosts of run ${run.id}, over ${run.network}`}>
      {run.hosts.map((h) => (
        <li title={h.detail}>
          {h.agent} <span class="muted">{ranks(h.first_rank, h.ranks) + servers(h.servers)}</span>
          {h.ended && h.ended !== run.state && <span class="muted"> ({words(h.ended)})</span>}
        </li>
      ))}
    </ul>
  );
}

export function Attempts({ job, shown, choose }: { job: JobView; shown: RunView | null; choose: (run: number) => void }) {
  if (!job.runs.length) return null;
  return (
    <section class="panel" aria-label="Attempts">
      <div class="panel-head">
        <h3>Attempts</h3>
      </div>
      <table class="rows attempts">
        <thead>
          <tr>
            {["Run", "Repetition", "State", "Host", "Why", "Started"].map((t) => (
              <th scope="col">{t}</th>
            ))}
            <th scope="col" class="num">
              Duration
            </th>
            <th scope="col" class="num">
              Throughput
            </th>
            <th scope="col">
              <Term name="validity">Verdict</Term>
            </th>
          </tr>
        </thead>
        <tbody>
          {[...job.runs].reverse().map((run) => (
            <tr class={run.id === shown?.id ? "here" : ""}>
              <th scope="row" data-label="Run">
                <button type="button" class="link" aria-pressed={run.id === shown?.id} onClick={() => choose(run.id)}>
                  {run.id}
                </button>
              </th>
              <td data-label="Repetition">
                {run.repetition}, attempt {run.attempt}
              </td>
              <td data-label="State">
                <Mark state={run.state} />
              </td>
              <td data-label="Host">
                <Places run={run} />
              </td>
              <td data-label="Why">
                {reasonText(run.reason, run.detail) || <span class="muted">—</span>}
                {run.exit_code ? <span class="muted"> exit status {run.exit_code}</span> : null}
              </td>
              <td data-label="Started">{run.started_at ? <Time at={run.started_at} /> : <Missing why="not started" />}</td>
              <td data-label="Duration" class="num">
                <Elapsed from={run.started_at} to={run.ended_at} />
              </td>
              <td data-label="Throughput" class="num">
                {run.result ? `${rate(run.result.images_per_second)} img/s` : <Missing why={["failed", "succeeded"].includes(run.state) ? reasonWords(run.reason) : words(run.state)} />}
              </td>
              <td data-label="Verdict">
                <VerdictMark validity={run.result?.validity ?? null} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {shown && shown.transitions.length > 0 && (
        <details>
          <summary>Transitions of run {shown.id}</summary>
          <div class="scroll" tabIndex={0} role="region" aria-label="Transitions">
            <table class="plain">
              <thead>
                <tr>
                  {["At", "State", "By", "Why"].map((t) => (
                    <th scope="col">{t}</th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {shown.transitions.map((t) => (
                  <tr>
                    <td>
                      <Time at={t.at} />
                    </td>
                    <td>
                      <Mark state={t.state} />
                    </td>
                    <td>{t.actor}</td>
                    <td>{reasonText(t.reason, t.detail)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </details>
      )}
    </section>
  );
}
