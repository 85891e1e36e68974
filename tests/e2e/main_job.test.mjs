// The main job: REST -> controller -> agent -> Open MPI worker -> SQLite -> REST, with the real programs.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cp, truncate } from "node:fs/promises";
import path from "node:path";
import { smallJob, sourceDir, startFleet, until } from "../support/fleet.mjs";
import { workersOf } from "../support/processes.mjs";

let fleet;
before(async () => (fleet = await startFleet({ agents: 1 })));
after(() => fleet?.stop());

test("a training job ends with one stored result that its own steps explain", async () => {
  const job = await fleet.waitForJob((await fleet.submit(smallJob({ name: "main job" }))).id);
  assert.equal(job.state, "succeeded", JSON.stringify(job.runs.at(-1)));
  const run = job.runs.at(-1);
  const result = run.result;
  assert.equal(result.steps, 20);
  assert.equal(result.images, 40);
  assert.ok(result.images_per_second > 0);
  assert.ok(Math.abs(result.images / result.window_s / result.images_per_second - 1) < 1e-9);
  assert.equal(job.headline.images_per_second, result.images_per_second);
  assert.equal(job.headline.runs, 1);
  assert.equal(job.headline.spread.kind, "steps");

  const steps = (await fleet.api("GET", `/api/v1/runs/${run.id}/steps`)).body;
  assert.equal(steps.ranks.length, 1);
  const [rank] = steps.ranks;
  assert.equal(rank.ms.length, 20);
  assert.equal(rank.warmup_ms.length, 2);
  assert.ok(rank.loss.every((x) => Number.isFinite(x) && x >= 0) && rank.warmup_loss[0] > 1);
  // the window holds the steps and little else
  const inside = rank.ms.reduce((a, b) => a + b) / 1000;
  assert.ok(inside <= result.window_s * 1.001 && inside > 0.8 * result.window_s, `${inside} s of ${result.window_s} s`);

  const listed = (await fleet.api("GET", `/api/v1/results?job=${job.id}`)).body.items;
  assert.deepEqual(listed.map((r) => r.id), [result.id]);
  assert.match(result.fingerprint, /^[0-9a-f]{64}$/);
  assert.equal(result.backend, "onednn");
  assert.ok(result.environment && Object.keys(result.environment).length > 0);
  // no power counter here: the missing number is null, not 0
  if (result.power_w === null) assert.equal(result.joules_per_image, null);

  const states = run.transitions.map((t) => t.state);
  assert.equal(states[0], "reserved");
  assert.equal(states.at(-1), "succeeded");
  assert.ok(run.transitions.every((t) => t.at && t.actor));
  assert.equal(workersOf(fleet).length, 0);
});

test("the result is in the database: it is there after the controller was killed and started again", async () => {
  const before_ = (await fleet.api("GET", "/api/v1/results")).body.items;
  await fleet.restartController();
  assert.deepEqual((await fleet.api("GET", "/api/v1/results")).body.items, before_);
});

test("real pictures: a tree of JPEG files, one of them broken, trains and names the broken one", async () => {
  const tree = path.join(fleet.dir, "data", "pictures");
  await cp(path.join(sourceDir, "tests/golden/pictures"), tree, { recursive: true });
  await truncate(path.join(tree, "waves/3.jpg"), 300);
  const spec = smallJob({ batch_size: 4, input: { kind: "images", path: tree }, steps: { warmup: 2, measured: 8 } });
  const job = await fleet.waitForJob((await fleet.submit(spec)).id);
  assert.equal(job.state, "succeeded", JSON.stringify(job.runs.at(-1)));
  const { result } = job.runs.at(-1);
  assert.equal(result.pictures_broken, 1);
  assert.deepEqual(result.broken_pictures, ["waves/3.jpg"]);
});

test("pictures outside the agent's data roots are not read", async () => {
  const spec = smallJob({ input: { kind: "images", path: path.join(sourceDir, "tests/golden/pictures") } });
  const job = await fleet.waitForJob((await fleet.submit(spec)).id);
  assert.equal(job.state, "failed");
  assert.equal(job.reason, "input_unavailable");
  assert.equal(job.headline.images_per_second, null);
  assert.equal(job.runs.length, 1, "a wrong path is not tried again");
});

test("two ranks on one host exchange gradients", async () => {
  const spec = smallJob({
    variable_update: "all_reduce",
    resources: { workers_per_agent: 2, threads_per_worker: 1 },
    steps: { warmup: 1, measured: 6 },
  });
  const job = await fleet.waitForJob((await fleet.submit(spec)).id);
  assert.equal(job.state, "succeeded", JSON.stringify(job.runs.at(-1)));
  const { result } = job.runs.at(-1);
  assert.equal(result.ranks, 2);
  assert.equal(result.images, 2 * 2 * 6);
  assert.equal(result.rank_times.length, 2);
  const shares = result.rank_times.reduce((sum, r) => sum + r.share_last, 0);
  assert.ok(Math.abs(shares - 1) < 1e-9);
});

test("a batch that does not fit is an answer of its own, with the bytes", async () => {
  const job = await fleet.waitForJob((await fleet.submit({ model: "resnet50", batch_size: 65536 })).id);
  assert.equal(job.state, "failed");
  assert.equal(job.outcome, "out_of_memory");
  assert.equal(job.runs.length, 1, "out of memory is never tried again");
  const { memory } = job.runs[0];
  assert.equal(memory.model, "resnet50");
  assert.equal(memory.batch_size, 65536);
  assert.ok(memory.bytes_wanted > memory.bytes_free && memory.bytes_free > 0);
  assert.match(memory.limited_by, /^(cgroup v[12]|MemAvailable)$/);
  assert.equal(job.headline.images_per_second, null);
});

test("inference: latencies of every batch of both instances, no loss", async () => {
  const spec = smallJob({ mode: "inference", batch_size: 1, inference: { instances: 2 }, steps: { warmup: 2, measured: 30 } });
  const job = await fleet.waitForJob((await fleet.submit(spec)).id);
  assert.equal(job.state, "succeeded", JSON.stringify(job.runs.at(-1)));
  assert.equal(job.variable_update, "");
  const result = job.runs.at(-1).result;
  assert.equal(result.ranks, 2);
  assert.equal(result.images, 60);
  assert.equal(result.first_loss, null);
  assert.equal(job.runs.at(-1).progress.loss, null);
  const { instances, latency, agreement } = result.inference;
  assert.deepEqual([instances, latency.count, agreement], [2, 60, null]);
  assert.ok(0 < latency.p50_ms && latency.p50_ms <= latency.p90_ms && latency.p99_ms <= latency.max_ms);
  assert.ok(Math.abs(result.images / result.window_s / result.images_per_second - 1) < 1e-9);
  // the shortest possible window is that of an instance whose batches follow each other without a gap
  assert.ok(result.window_s * 1000 >= 15 * latency.p50_ms);
  const steps = (await fleet.api("GET", `/api/v1/runs/${job.runs.at(-1).id}/steps`)).body;
  assert.deepEqual(steps.ranks.map((r) => r.ms.length), [30, 30]);
});

test("int8 inference says how far it agrees with fp32; training in int8 is refused by name", async () => {
  const spec = smallJob({ mode: "inference", precision: "int8", batch_size: 4, steps: { warmup: 1, measured: 5 } });
  const job = await fleet.waitForJob((await fleet.submit(spec)).id);
  assert.equal(job.state, "succeeded", JSON.stringify(job.runs.at(-1)));
  const { agreement, latency, notes } = job.runs.at(-1).result.inference;
  assert.equal(latency.count, 5);
  assert.ok(agreement.pictures >= 32 && agreement.top1 >= 0 && agreement.top1 <= 1);
  assert.ok(agreement.cosine >= agreement.cosine_floor && agreement.cosine <= 1);
  assert.match(notes["int8 layers"], /^52 of 54; fp32: conv1, fc$/);

  const refused = await fleet.api("POST", "/api/v1/jobs", smallJob({ precision: "int8" }));
  assert.equal(refused.status, 422);
  assert.deepEqual(refused.body.errors.map((e) => e.field), ["precision"]);
});

test("a profile: the time of every layer, in training and in inference", async () => {
  for (const mode of ["training", "inference"]) {
    const spec = { model: "cifar10", mode, batch_size: 8, profile: true, steps: { warmup: 1, measured: 5 }, resources: { threads_per_worker: 1 } };
    const job = await fleet.waitForJob((await fleet.submit(spec)).id);
    assert.equal(job.state, "succeeded", JSON.stringify(job.runs.at(-1)));
    const { body, status } = await fleet.api("GET", `/api/v1/runs/${job.runs.at(-1).id}/profile`);
    assert.equal(status, 200);
    const { rows, sum_ms, passes, convolution_bound_ms } = body.profile;
    assert.ok(passes >= 3 && rows.length >= 8, `${rows.length} rows of ${passes} passes`);
    assert.ok(rows.every((r) => r.layer && r.implementation && r.ms >= 0));
    assert.ok(Math.abs(rows.reduce((sum, r) => sum + r.ms, 0) / sum_ms - 1) < 1e-6);
    assert.ok(convolution_bound_ms > 0);
    assert.equal(rows.some((r) => r.pass.startsWith("backward")), mode === "training");
  }
  const plain = await fleet.waitForJob((await fleet.submit(smallJob({ steps: { warmup: 0, measured: 1 } }))).id);
  assert.equal((await fleet.api("GET", `/api/v1/runs/${plain.runs.at(-1).id}/profile`)).status, 404);
});

test("batch_size max: the batch that is found runs, one more is refused with the bytes", async () => {
  const agent = await fleet.startAgent({ name: "narrow", addressSpaceBytes: 1_600_000_000 });
  for (const kind of [{ mode: "training" }, { mode: "inference", precision: "int8" }]) {
    const spec = (batch_size) => ({
      ...kind,
      model: "catsdogs_original",
      batch_size,
      steps: { warmup: 0, measured: 1 },
      resources: { threads_per_worker: 1, selector: { name: "narrow" } },
    });
    const found = await fleet.waitForJob((await fleet.submit(spec("max"))).id);
    assert.equal(found.state, "succeeded", JSON.stringify(found.runs.at(-1)));
    const { result } = found.runs.at(-1);
    assert.ok(result.batch_size > 1 && result.images === result.batch_size, JSON.stringify(result));
    assert.equal(result.batch_search.batch_size, result.batch_size);
    assert.ok(result.batch_search.bytes_wanted <= result.batch_search.bytes_free);
    const more = await fleet.waitForJob((await fleet.submit(spec(result.batch_size + 1))).id);
    assert.equal(more.outcome, "out_of_memory", JSON.stringify(more.runs.at(-1)));
    const { memory } = more.runs.at(-1);
    assert.equal(memory.batch_size, result.batch_size + 1);
    assert.ok(memory.bytes_wanted > memory.bytes_free, JSON.stringify(memory));
  }
  await agent.stop();
});

test("repetitions are runs of their own and the headline is their median", async () => {
  const job = await fleet.waitForJob((await fleet.submit(smallJob({ repetitions: 3, steps: { warmup: 1, measured: 5 } }))).id);
  assert.equal(job.state, "succeeded");
  assert.deepEqual(job.runs.map((r) => r.repetition), [1, 2, 3]);
  const sorted = job.runs.map((r) => r.result.images_per_second).sort((a, b) => a - b);
  assert.equal(job.headline.images_per_second, sorted[1]);
  assert.equal(job.headline.runs, 3);
  assert.equal(job.headline.spread.kind, "runs");
});

test("a second job waits, says behind whom, and runs then", async () => {
  const first = await fleet.submit(smallJob({ steps: { warmup: 2, measured: 60 } }));
  const second = await fleet.submit(smallJob({ steps: { warmup: 1, measured: 3 } }));
  const waiting = await until(async () => (await fleet.job(second.id)).waiting, { what: "a reason to wait" });
  assert.equal(waiting.blocking_job, first.id);
  assert.ok(waiting.detail.length > 0);
  assert.equal((await fleet.waitForJob(second.id)).state, "succeeded");
  const [a, b] = [await fleet.job(first.id), await fleet.job(second.id)];
  const firstIsDone = a.runs[0].transitions.find((t) => t.state === "collecting").at;
  assert.ok(firstIsDone <= b.runs[0].created_at, "one run at a time on an exclusive host");
});

test("no agent matches: the job says what is missing, and can be cancelled", async () => {
  const job = await fleet.submit(smallJob({ resources: { selector: { fleet: "nowhere" } } }));
  const waiting = await until(async () => (await fleet.job(job.id)).waiting, { what: "a reason to wait" });
  assert.match(waiting.detail, /fleet=nowhere/);
  assert.equal((await fleet.api("POST", `/api/v1/jobs/${job.id}:cancel`)).status, 200);
  const over = await fleet.waitForJob(job.id);
  assert.equal(over.state, "cancelled");
  assert.equal((await fleet.api("POST", `/api/v1/jobs/${job.id}:cancel`)).status, 409, "terminal states never change");
});
