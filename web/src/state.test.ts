// What live events do to the state on screen.
import assert from "node:assert/strict";
import { test } from "node:test";
import { dearest } from "./components/profile_table";
import { addLines, findLines, logText, logWindow } from "./components/run_logs";
import { csv, jsonRows } from "./components/copy";
import type { AgentList, AgentView, JobView, LogLineView, ProfileRow, RunView, StepsEvent, StepsView } from "./contract";
import { clockNow, learnClock } from "./clock";
import { appendPage, applyJob, emptyList, filtersFrom, matches, queryOf, showUnseen } from "./job_list";
import { applyAgent, gpuLines } from "./pages/agents";
import { applyRun } from "./pages/job";
import { phasesOf } from "./components/phases";
import { addSteps, hostOfRank, lossSeries, rankTimes, slowestSteps, stepsTable, throughputSeries } from "./steps";

const job = (id: number, more: Partial<JobView> = {}): JobView =>
  ({ id, name: "", labels: {}, agents: [], state: "queued", model: "resnet50", mode: "training", precision: "fp32", device_class: "", runs: [], spec_submitted: { model: "resnet50" }, spec_resolved: {}, ...more }) as unknown as JobView;

test("a job that changes stays where it is, and keeps what its event leaves out", () => {
  const list = appendPage(emptyList, [job(3), job(2), job(1)], "next");
  const next = applyJob(list, { ...job(2, { state: "running" }), spec_submitted: undefined as never, runs: undefined as never }, {}, true);
  assert.deepEqual(next.items.map((j) => [j.id, j.state]), [[3, "queued"], [2, "running"], [1, "queued"]]);
  assert.deepEqual(next.items[1]!.spec_submitted, { model: "resnet50" });
  assert.equal(next.nextCursor, "next");
});

test("a new job is put on top, or held back while somebody reads", () => {
  const list = appendPage(emptyList, [job(3)], null);
  assert.deepEqual(applyJob(list, job(4), {}, true).items.map((j) => j.id), [4, 3]);
  const held = applyJob(list, job(4), {}, false);
  assert.deepEqual(held.items.map((j) => j.id), [3]);
  assert.deepEqual(held.unseen.map((j) => j.id), [4]);
  const moved = applyJob(held, job(4, { state: "running" }), {}, false);
  assert.equal(moved.unseen[0]!.state, "running");
  assert.deepEqual(showUnseen(moved).items.map((j) => j.id), [4, 3]);
  // With a filter an older job may begin to match after a newer one.
  const failed = appendPage(emptyList, [job(20, { state: "failed" }), job(9, { state: "failed" })], "next");
  const late = job(18, { state: "failed" });
  assert.deepEqual(applyJob(failed, late, { state: "failed" }, true).items.map((j) => j.id), [20, 18, 9]);
  assert.deepEqual(showUnseen(applyJob(failed, late, { state: "failed" }, false)).items.map((j) => j.id), [20, 18, 9]);
});

test("an older job of a page that is not loaded is left alone, and so is one the filters exclude", () => {
  const list = appendPage(emptyList, [job(9), job(8)], "next");
  assert.equal(applyJob(list, job(2), {}, true), list);
  assert.equal(applyJob(list, job(10), { state: "failed" }, true), list);
  assert.deepEqual(appendPage(list, [job(8), job(7)], null).items.map((j) => j.id), [9, 8, 7]);
});

test("filters live in the address", () => {
  const filters = filtersFrom(new URLSearchParams("state=active&label=team%3Dvision&within=24h&junk=1"));
  assert.deepEqual(filters, { state: "active", label: "team=vision", within: "24h" });
  assert.deepEqual(queryOf(filters, new Date("2026-11-21T12:00:00Z")), { state: "active", label: "team=vision", since: "2026-11-20T12:00:00.000Z" });
  assert.ok(matches({ state: "active" }, job(1, { state: "running" })));
  assert.ok(!matches({ state: "active" }, job(1, { state: "failed" })));
  assert.ok(matches({ label: "team=vision" }, job(1, { labels: { team: "vision" } })));
  assert.ok(!matches({ label: "team=vision" }, job(1)));
  assert.ok(matches({ name: "NIGHT" }, job(1, { name: "nightly" })));
  assert.ok(!matches({ agent: "a" }, job(1, { agents: ["b"] })));
});

const empty: StepsView = { run_id: 7, images_per_step: 4, steps: 0, warmup_steps: 0, stride: 1, warmup_stride: 1, ranks: [], telemetry: [] };
const event = (first_step: number, ms: number[], more: Partial<StepsEvent> = {}): StepsEvent => ({
  run_id: 7,
  job_id: 1,
  rank: 0,
  phase: "measuring",
  first_step,
  ms,
  loss: ms.map((m) => m / 10),
  input_wait_ms: ms.map(() => 1),
  exposed_communication_ms: ms.map(() => 2),
  server_wait_ms: ms.map(() => 0),
  ...more,
});

test("steps are appended once, whatever overlaps", () => {
  let s = addSteps({ view: empty, hole: false }, event(0, [10, 20]));
  s = addSteps(s, event(0, [10, 20]));
  s = addSteps(s, event(1, [20, 30]));
  assert.deepEqual(s.view.ranks[0]!.ms, [10, 20, 30]);
  assert.deepEqual(s.view.ranks[0]!.loss, [1, 2, 3]);
  assert.equal(s.hole, false);
  assert.equal(addSteps(s, event(0, [1], { run_id: 8 })), s);
});

test("a gap is noticed and nothing is made up for it", () => {
  const s = addSteps({ view: empty, hole: false }, event(5, [10]));
  assert.equal(s.hole, true);
  assert.equal(s.view.ranks.length, 0);
});

test("throughput is the median over ranks with their range; warm-up is left of zero", () => {
  let s = addSteps({ view: empty, hole: false }, event(0, [40], { phase: "warmup" }));
  s = addSteps(s, event(0, [20], { phase: "warmup", rank: 1 }));
  s = addSteps(s, event(0, [10, 10]));
  s = addSteps(s, event(0, [20], { rank: 1 }));
  const points = throughputSeries(s.view);
  assert.deepEqual(points[0], { step: -1, middle: 150, low: 100, high: 200 });
  assert.deepEqual(points[1], { step: 0, middle: 300, low: 200, high: 400 });
  assert.equal(points.length, 2); // the second measured step has come from one rank only
  assert.deepEqual(slowestSteps(s.view), [20]);
  assert.deepEqual(lossSeries(s.view).map((p) => p.middle), [3, 1.5]);
});

test("a run that came thinned is continued with the steps of its stride, until there are too many", () => {
  const thinned = { ...empty, steps: 7, stride: 3, ranks: [{ rank: 0, ms: [0, 3, 6], loss: [], input_wait_ms: [], exposed_communication_ms: [], server_wait_ms: [], warmup_ms: [], warmup_loss: [] }] };
  let s = addSteps({ view: thinned, hole: false }, event(7, [7, 8]));
  s = addSteps(s, event(9, [9, 10, 11, 12], { loss: [90, 100, 110, 120] }));
  assert.deepEqual(s.view.ranks[0]!.ms, [0, 3, 6, 9, 12]);
  assert.equal(s.hole, false);
  assert.equal(addSteps(s, event(16, [16])).hole, true, "13 to 15 are missing");
  assert.deepEqual(stepsTable(s.view).rows.map((r) => r[2]), [0, 3, 6, 9, 12]);
  assert.equal(throughputSeries(s.view).at(-1)!.step, 12);
  assert.equal(addSteps({ view: empty, hole: false }, event(0, Array(30_000).fill(1))).hole, true, "to be fetched again, thinned");
});

test("many steps are thinned, and their range is kept", () => {
  const ms = Array.from({ length: 5000 }, (_, i) => (i === 4321 ? 100 : 10));
  const points = throughputSeries(addSteps({ view: empty, hole: false }, event(0, ms)).view, 500);
  assert.equal(points.length, 500);
  assert.equal(Math.min(...points.map((p) => p.low)), 40);
});

test("the split of a step adds up", () => {
  const s = addSteps({ view: empty, hole: false }, event(0, [10, 20]));
  const [time] = rankTimes(s.view, () => "h");
  assert.equal(time!.step_ms, 15);
  assert.equal(time!.compute_ms + time!.input_wait_ms + time!.exposed_communication_ms + time!.server_wait_ms, 15);
  assert.equal(time!.share_last, 1);
  const two = addSteps(s, event(0, [10, 20], { rank: 1, exposed_communication_ms: [9, 9] }));
  assert.deepEqual(rankTimes(two.view, () => "h").map((r) => r.share_last), [1, 0], "who waits is not last");
  assert.equal(stepsTable(s.view).rows.length, 2);
});

test("a run event keeps transitions and result; another state asks for the job again", () => {
  const run = { id: 5, state: "starting", transitions: [{ state: "reserved" }], result: null, spec: { batch_size: 16 } } as unknown as RunView;
  const before = job(1, { runs: [run] });
  const same = applyRun(before, { id: 5, state: "starting", progress: { steps_done: 3 } } as unknown as RunView);
  assert.equal(same.stale, false);
  assert.equal(same.job.runs[0]!.progress.steps_done, 3);
  assert.equal(same.job.runs[0]!.transitions.length, 1);
  assert.deepEqual(same.job.runs[0]!.spec, { batch_size: 16 });
  assert.equal(applyRun(before, { id: 5, state: "warmup" } as unknown as RunView).stale, true);
  assert.equal(applyRun(before, { id: 6, state: "reserved" } as unknown as RunView).stale, true);
});

test("phases last until the next one; the current one counts on", () => {
  const at = (s: number) => `2026-11-21T00:00:${String(s).padStart(2, "0")}.000Z`;
  const run = { id: 5, state: "warmup", created_at: at(2), ended_at: null, transitions: [{ state: "reserved", at: at(2) }, { state: "starting", at: at(3) }, { state: "warmup", at: at(5) }] } as unknown as RunView;
  const phases = phasesOf(job(1, { state: "running", created_at: at(0), runs: [run] }), run, new Date(at(9)));
  assert.deepEqual(phases.map((p) => [p.name, p.seconds, p.current]), [["queued", 2, false], ["reserved", 1, false], ["starting", 2, false], ["warmup", 4, true]]);
});

test("every rank is on the host that has it", () => {
  const host = (agent: string, first_rank: number) => ({ agent_id: 1, agent, first_rank, ranks: 2, servers: 0, ended: null, detail: "" });
  const run = { agent: "a", hosts: [host("a", 0), host("b", 2)] };
  assert.deepEqual([0, 1, 2, 3, 4].map((rank) => hostOfRank(run, rank)), ["a", "a", "b", "b", "a"]);
});

const line = (number: number, text = "x"): LogLineView => ({ number, text, rank: 0, stream: "stdout", at: "" });
test("log lines come once and in order; a gap is fetched", () => {
  const s = addLines({ lines: [line(1), line(2)], hole: false }, [line(2), line(3)]);
  assert.deepEqual(s.lines.map((l) => l.number), [1, 2, 3]);
  assert.equal(addLines(s, [line(1)]), s);
  assert.equal(addLines(s, [line(9)]).hole, true);
  assert.deepEqual(findLines([line(1, "Step 5"), line(2, "loss")], "step").map((l) => l.number), [1]);
});

test("an agent event keeps the inventory; an unknown agent is fetched", () => {
  const list = { items: [{ id: 1, state: "idle", inventory: { hostname: "h" } }], pack_command: "p" } as unknown as AgentList;
  const known = applyAgent(list, { id: 1, state: "busy" } as unknown as AgentView);
  assert.equal(known.list.items[0]!.state, "busy");
  assert.equal(known.list.items[0]!.inventory.hostname, "h");
  assert.equal(known.unknown, false);
  assert.equal(applyAgent(list, { id: 2 } as unknown as AgentView).unknown, true);
  assert.deepEqual(applyAgent(list, { id: 1, state: "retired" } as unknown as AgentView), { list: { ...list, items: [] }, unknown: false });
});

test("exports quote what needs it and leave missing numbers empty", () => {
  const table = { columns: ["a", "b"], rows: [["x,\"y\"", null], ["plain", 1.5]] as (string | number | null)[][] };
  assert.equal(csv(table), 'a,b\r\n"x,""y""",\r\nplain,1.5\r\n');
  assert.equal(csv({ columns: ["a"], rows: [["=HYPERLINK(1)"], ["-x"], [-1.5]] }), "a\r\n'=HYPERLINK(1)\r\n'-x\r\n-1.5\r\n");
  assert.deepEqual(JSON.parse(jsonRows(table)), [{ a: 'x,"y"', b: null }, { a: "plain", b: 1.5 }]);
});

test("a profile shows the dearest rows first, and equal ones in the order of the step", () => {
  const row = (layer: string, ms: number): ProfileRow => ({ layer, ms, pass: "forward", implementation: "jit", share: 0, gflops: null, gbps: null, plain_loops: false });
  const rows = [row("a", 1), row("b", 5), row("c", 5), row("d", 2)];
  assert.deepEqual(dearest(rows, 3).map((r) => r.layer), ["b", "c", "d"]);
  assert.deepEqual(rows.map((r) => r.layer), ["a", "b", "c", "d"]);
});

test("the GPUs of a host are counted by kind", () => {
  const card = (name: string, driver = "580.65") => ({ name, uuid: "u", driver, memory_bytes: 141 * 2 ** 30 });
  assert.deepEqual(gpuLines([card("H200"), card("H200"), card("T4", "")]), ["2 × H200 · 141\u00a0GiB each · driver 580.65", "1 × T4 · 141\u00a0GiB each · driver not reported"]);
  assert.deepEqual(gpuLines([]), []);
});

test("ages go by the controller's clock", () => {
  const now = Date.parse("2026-11-22T12:00:00.300Z");
  learnClock("Sun, 22 Nov 2026 11:59:59 GMT", now);
  assert.equal(clockNow(now).getTime(), now, "a second is no difference");
  learnClock("Sun, 22 Nov 2026 11:50:00 GMT", now);
  assert.equal(clockNow(now).toISOString(), "2026-11-22T11:50:00.500Z");
  learnClock(null, now);
  learnClock("Sun, 22 Nov 2026 12:00:00 GMT", now);
});

test("a log is read in windows, back from its end", () => {
  const line = (number: number) => ({ number, rank: 0, stream: "stdout", at: "2026-11-22T12:00:00.000Z", text: "x" });
  const lines = Array.from({ length: 10 }, (_, i) => line(i + 1));
  const numbers = (end: number | null) => logWindow(lines, end, 4).map((l) => l.number);
  assert.deepEqual([numbers(null), numbers(6), numbers(2)], [[7, 8, 9, 10], [3, 4, 5, 6], [1, 2]]);
  assert.equal(logText([line(1)]), "2026-11-22T12:00:00.000Z rank 0: x\n");
});
