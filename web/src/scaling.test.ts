import assert from "node:assert/strict";
import { test } from "node:test";
import type { ScalingPoint, ScalingView } from "./contract";
import { predictionText, scalingSentence, scalingTable, splitRows } from "./scaling";

const point = (agents: number, more: Partial<ScalingPoint> = {}): ScalingPoint => ({
  agents,
  job_id: agents,
  state: "succeeded",
  ranks: agents,
  images_per_second: null,
  spread: null,
  spread_kind: "",
  runs: 0,
  why: "",
  speed_up: null,
  efficiency: null,
  step_ms: null,
  exposed_communication_ms: null,
  exposed_communication_share: null,
  rank_times: [],
  ceiling_job_id: null,
  ceiling_images_per_second: null,
  share_of_ceiling: null,
  ceiling_efficiency: null,
  ceiling_why: "",
  predicted_images_per_second: null,
  predicted_efficiency: null,
  predicted_exposed_ms: null,
  prediction_error: null,
  prediction_why: "",
  ...more,
});
const view = (points: ScalingPoint[], more: Partial<ScalingView> = {}): ScalingView => ({ group_id: 3, base_agents: 1, points, link: null, link_why: "not timed yet", median_error: null, largest_error: null, ...more });

test("the sentence names the largest measured point and what lies beyond", () => {
  const one = point(1, { images_per_second: 100, efficiency: 1 });
  const two = point(2, { images_per_second: 180, efficiency: 0.9, exposed_communication_share: 0.069 });
  const far = point(16, { job_id: null, predicted_efficiency: 0.81 });
  const text = scalingSentence(view([one, two, far])).replaceAll("\u00a0", " ");
  assert.equal(text, "2 agents reach 90 % of 2 × one: 180.0 img/s; 6.9 % of a step is exposed communication. The model predicts 81 % on 16 agents.");
  // 9 of 10 agents' speed, never "of 1 x one".
  for (const agents of [10, 20, 100]) assert.match(scalingSentence(view([one, point(agents, { images_per_second: 900, efficiency: 0.9 })])).replaceAll("\u00a0", " "), new RegExp(`90 % of ${agents} × one`));
  const said = (points: ScalingPoint[]) => scalingSentence(view(points)).replaceAll("\u00a0", " ");
  assert.equal(said([one, point(2, { state: "queued", why: "queued" })]), "No efficiency yet. 2 agents: queued.");
  const other = point(2, { images_per_second: 393.1, why: "not comparable: on device class b, the base point of 1 agent on a" });
  assert.equal(said([one, other]), "No efficiency. 2 agents: not comparable: on device class b, the base point of 1 agent on a.");
});

test("a prediction states its network and its error, or why there is none", () => {
  const far = point(16, { job_id: null, prediction_why: "the model knows all-reduce" });
  assert.equal(predictionText(view([point(1), far])), "No prediction: the model knows all-reduce.");
  const link = { job_id: 6, agents: 2, alpha_s: 52e-6, bytes_per_second: 1.17e9, all_reduce_times: [{ ranks: 2, bytes: 4096, turns: 5, median_s: 1e-4 }] };
  const text = predictionText(view([point(1), far], { link, median_error: 0.03, largest_error: 0.05 })).replaceAll("\u00a0", " ");
  assert.match(text, /52\.0 µs a message, 1\.17 GB\/s, fitted to 1 all-reduce that job 6 timed on 2 agents/);
  assert.match(text, /median 3\.0 %, largest 5\.0 %/);
});

test("tables hold every point and every rank, missing numbers as null", () => {
  const time = { rank: 1, host: "b", step_ms: 10, input_wait_ms: 0, compute_ms: 9, exposed_communication_ms: 1, server_wait_ms: 0, share_last: 0.5, staleness: [], skipped_steps: null, gpu: null };
  const both = view([point(1, { why: "failed: nan loss" }), point(2, { rank_times: [{ ...time, rank: 0 }, time] })]);
  const table = scalingTable(both);
  assert.equal(table.rows.length, 2);
  assert.equal(table.rows[0]![table.columns.indexOf("images_per_second")], null);
  assert.equal(table.rows[0]![table.columns.indexOf("why")], "failed: nan loss");
  assert.deepEqual(splitRows(both).map((r) => r.name), ["2: rank 0", "2: rank 1"]);
});
