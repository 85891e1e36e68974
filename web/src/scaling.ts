// What a scaling group says, in words and as tables. Pure.
import type { TableData } from "./components/copy";
import { isOver, type RankTime, type ScalingPoint, type ScalingView } from "./contract";
import { number, percent, plural, rate } from "./format";

export const ranPoints = (view: ScalingView): ScalingPoint[] => view.points.filter((p) => p.job_id !== null);

// "+4.2 %": a prediction that was too high.
export const signedPercent = (fraction: number): string => (fraction < 0 ? "−" : "+") + percent(Math.abs(fraction));

function whyNoEfficiency(view: ScalingView): string {
  const why = ranPoints(view).filter((p) => p.why).map((p) => `${plural(p.agents, "agent")}: ${p.why}`);
  const yet = ranPoints(view).some((p) => p.state !== null && !isOver(p.state)) ? " yet" : "";
  return why.length ? `No efficiency${yet}. ${why.join("; ")}.` : `No efficiency${yet}: the curve begins with its second point.`;
}

// The answer in one sentence: the largest number of agents that was measured, then what lies beyond.
export function scalingSentence(view: ScalingView): string {
  const measured = ranPoints(view).filter((p) => p.efficiency !== null && p.agents > view.base_agents);
  const most = measured[measured.length - 1];
  if (!most) return whyNoEfficiency(view);
  const base = view.base_agents === 1 ? "one" : plural(view.base_agents, "agent");
  const exposed = most.exposed_communication_share === null ? "" : `; ${percent(most.exposed_communication_share)} of a step is exposed communication`;
  const far = view.points[view.points.length - 1]!;
  const predicted = far.job_id === null && far.predicted_efficiency !== null ? ` The model predicts ${percent(far.predicted_efficiency, 0)} on ${plural(far.agents, "agent")}.` : "";
  return `${plural(most.agents, "agent")} reach ${percent(most.efficiency!, 0)} of ${Number((most.agents / view.base_agents).toPrecision(3))} × ${base}: ${rate(most.images_per_second!)} img/s${exposed}.${predicted}`;
}

// Where the prediction comes from and how far it is off, or why there is none.
export function predictionText(view: ScalingView): string {
  const far = view.points[view.points.length - 1];
  if (!view.link) return far?.prediction_why || view.link_why ? `No prediction: ${far?.prediction_why || view.link_why}.` : "Without exchange nothing depends on the network.";
  const { link } = view;
  const bandwidth = link.bytes_per_second === null ? "no limit of bandwidth seen" : `${number(link.bytes_per_second * 1e-9)} GB/s`;
  const fitted = `Network: ${number(link.alpha_s * 1e6)} µs a message, ${bandwidth}, fitted to ${plural(link.all_reduce_times.length, "all-reduce")} that job ${link.job_id} timed on ${plural(link.agents, "agent")}.`;
  const off = view.median_error === null ? " No measured point to compare with yet." : ` Error on the measured points: median ${percent(view.median_error)}, largest ${percent(view.largest_error!)}.`;
  return fitted + off;
}

export const scalingTable = (view: ScalingView): TableData => ({
  columns: ["agents", "job", "ranks", "images_per_second", "spread", "spread_kind", "runs", "speed_up", "efficiency", "step_ms", "exposed_communication_ms", "exposed_communication_share", "ceiling_images_per_second", "share_of_ceiling", "predicted_images_per_second", "predicted_efficiency", "prediction_error", "why"],
  rows: view.points.map((p) => [p.agents, p.job_id, p.ranks, p.images_per_second, p.spread, p.spread_kind || null, p.runs, p.speed_up, p.efficiency, p.step_ms, p.exposed_communication_ms, p.exposed_communication_share, p.ceiling_images_per_second, p.share_of_ceiling, p.predicted_images_per_second, p.predicted_efficiency, p.prediction_error, p.why || null]),
});

export interface SplitRow {
  agents: number;
  name: string;
  time: RankTime;
}
export const splitRows = (view: ScalingView): SplitRow[] =>
  view.points.flatMap((p) => p.rank_times.map((time) => ({ agents: p.agents, name: `${p.agents}: rank ${time.rank}`, time })));
