// What the steps of a run show: throughput and loss as they come, step times, where the time goes.
import { useMemo } from "preact/hooks";
import { isOver, type RankTime, type RunView, type StepsView } from "../contract";
import { milliseconds, number, percent, plural, rate } from "../format";
import { histogram } from "../intervals";
import { hostOfRank, lossSeries, percentiles, rankTimes, slowestSteps, stepsTable, throughputSeries } from "../steps";
import { useTheme } from "../theme";
import { Chart } from "./chart";
import { bandOption, histogramOption, splitNames, splitOption } from "./options";
import { Term } from "./tip";

function whyEmpty(run: RunView): string {
  if (["reserved", "starting"].includes(run.state)) return "No step yet: the workers are starting.";
  if (["warmup", "measuring", "collecting"].includes(run.state)) return "No step has arrived yet.";
  return "No step has arrived.";
}

function splitSummary(ranks: RankTime[]): string {
  const slowest = ranks.reduce((a, b) => (b.share_last > a.share_last ? b : a), ranks[0]!);
  const step = slowest.step_ms || 1;
  const shares = [slowest.input_wait_ms, slowest.compute_ms, slowest.exposed_communication_ms, slowest.server_wait_ms]
    .map((ms, i) => `${splitNames[i]} ${percent(ms / step)}`)
    .join(", ");
  const who = ranks.length > 1 ? `Slowest most often: rank ${slowest.rank}${slowest.host ? ` on ${slowest.host}` : ""} (last in ${percent(slowest.share_last, 0)} of steps)` : "One rank";
  return `${who}: ${shares}.`;
}

export function RunCharts({ run, steps, hasLoss }: { run: RunView; steps: StepsView; hasLoss: boolean }) {
  const theme = useTheme();
  const name = `job-${run.job_id}-run-${run.id}`;
  const table = () => stepsTable(steps);
  const throughput = useMemo(() => throughputSeries(steps), [steps]);
  const losses = useMemo(() => lossSeries(steps), [steps]);
  const slowest = useMemo(() => slowestSteps(steps), [steps]);
  const times = useMemo(() => run.result?.rank_times ?? rankTimes(steps, (rank) => hostOfRank(run, rank)), [steps, run]);
  const marks = useMemo(() => percentiles(slowest), [slowest]);
  const bins = useMemo(() => histogram(slowest), [slowest]);
  const many = steps.ranks.length > 1;
  const planned = !isOver(run.state) && run.progress.phase === "measuring" ? run.progress.steps_planned : null;
  const lastRate = throughput[throughput.length - 1];
  const lastLoss = losses[losses.length - 1];
  const throughputOption = useMemo(
    () => (throughput.length ? bandOption(throughput, theme, { unit: "img/s", band: many ? "ranks" : null, color: theme.accent, fromZero: true, planned }) : null),
    [throughput, theme, many, planned],
  );
  const lossOption = useMemo(() => (losses.length ? bandOption(losses, theme, { unit: "loss", band: null, color: theme.dark ? "#CC79A7" : "#a8487c", fromZero: false, planned }) : null), [losses, theme, planned]);
  const histogramDrawn = useMemo(() => (bins.length ? histogramOption(bins, marks, theme) : null), [bins, marks, theme]);
  const splitDrawn = useMemo(() => (times.length ? splitOption(times, theme) : null), [times, theme]);
  if (isOver(run.state) && !throughput.length) {
    return (
      <section class="panel" aria-label="Steps">
        <p class="missing pad">This run did no step, so there is nothing to draw.</p>
      </section>
    );
  }
  const stalled = run.state === "stalled" && throughput.length > 0;
  return (
    <div class="chart-grid" data-steps={slowest.length}>
      <Chart
        title={<Term name="images_per_second">Throughput</Term>}
        label="Throughput by step"
        name={`${name}-throughput`}
        summary={
          lastRate
            ? `${stalled ? "Stopped at" : "Last"} ${rate(lastRate.middle)} img/s at step ${Math.floor(lastRate.step)}${many ? `; line: median of ${plural(steps.ranks.length, "rank")}, band: slowest to fastest` : ""}.`
            : ""
        }
        option={throughputOption}
        empty={whyEmpty(run)}
        table={table}
        theme={theme}
      />
      {hasLoss && (
        <Chart
          title="Loss"
          label="Loss by step"
          name={`${name}-loss`}
          summary={lastLoss ? `${number(losses[0]!.middle, 4)} at the first step shown, ${number(lastLoss.middle, 4)} at the last${many ? "; mean over ranks" : ""}.` : ""}
          option={lossOption}
          empty={whyEmpty(run)}
          table={table}
          theme={theme}
        />
      )}
      <Chart
        title={<Term name="step_ms">Step times</Term>}
        label="Histogram of step times"
        name={`${name}-step-times`}
        summary={`${plural(slowest.length, "measured step")}${steps.stride > 1 ? ` (one of ${steps.stride})` : ""}: ${marks.map((m) => `${m.name} ${milliseconds(m.value)}`).join(", ")}.`}
        option={histogramDrawn}
        empty={throughput.length ? "No measured step yet: warming up." : whyEmpty(run)}
        table={() => ({ columns: ["from_ms", "to_ms", "steps"], rows: bins.map((b) => [b.from, b.to, b.count]) })}
        theme={theme}
      />
      <Chart
        title="Where a step's time goes"
        label="Time split per rank"
        name={`${name}-time-split`}
        summary={times.length ? splitSummary(times) : ""}
        option={splitDrawn}
        empty={throughput.length ? "No measured step yet: warming up." : whyEmpty(run)}
        table={() => ({
          columns: ["rank", "host", "step_ms", "input_wait_ms", "compute_ms", "exposed_communication_ms", "server_wait_ms", "share_last"],
          rows: times.map((r) => [r.rank, r.host, r.step_ms, r.input_wait_ms, r.compute_ms, r.exposed_communication_ms, r.server_wait_ms, r.share_last]),
        })}
        theme={theme}
        height={Math.min(520, Math.max(150, 84 + times.length * 34))}
      />
    </div>
  );
}

