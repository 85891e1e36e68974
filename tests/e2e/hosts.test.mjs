// Runs over several hosts: real mpirun, real daemons, a network and a host name of its own for each.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { Bed, faults, gangJob, unevenJob } from "../faults/cases.mjs";
import { binDir, startFleet, until } from "../support/fleet.mjs";
import { scratchFolders, whyNoHosts } from "../support/hosts.mjs";
import { environmentOf, isDaemon, processes } from "../support/processes.mjs";

describe("hosts with a network each", { skip: whyNoHosts() || false }, () => {
  let bed;
  before(async () => {
    bed = await Bed.make({ cutLimitS: 30 }); // other tests run at the same time
  });
  after(() => bed?.remove());

  test("a job over 3 hosts: every rank is where the run says, and all of them count", async () => {
    const { id } = await bed.fleet.submit(gangJob({ steps: { measured: 20 } }));
    const job = await bed.fleet.waitForJob(id);
    assert.equal(job.state, "succeeded", JSON.stringify(job.runs));
    const [run] = job.runs;
    assert.equal(run.network, bed.hosts.network(), "not the bridge that every host has to itself");
    assert.deepEqual(run.hosts.map((h) => [h.agent, h.first_rank, h.ranks, h.ended]), [
      ["node1", 0, 1, "succeeded"],
      ["node2", 1, 1, "succeeded"],
      ["node3", 2, 1, "succeeded"],
    ]);
    assert.deepEqual(job.agents, ["node1", "node2", "node3"]);
    assert.equal(run.result.ranks, 3);
    assert.equal(run.result.images, 3 * 20 * 8);
    assert.deepEqual(run.result.rank_times.map((t) => t.host), ["node1", "node2", "node3"]);
    const steps = (await bed.fleet.api("GET", `/api/v1/runs/${run.id}/steps`)).body.ranks;
    assert.deepEqual(steps.map((r) => r.ms.length), [20, 20, 20]);
    assert.deepEqual(bed.left(), []);
  });

  const server = (overrides) => ({ variable_update: "parameter_server", parameter_server: overrides });
  for (const [name, overrides, servers, label] of [
    ["all-reduce", {}, [0, 0, 0], /^all_reduce/],
    ["a colocated parameter server", server({ servers: 2 }), [0, 0, 0], /5 workers, 2 colocated servers\)/],
    ["an asynchronous parameter server", server({ consistency: "async" }), [0, 0, 0], /5 workers, colocated server, async\)/],
    ["two dedicated parameter servers", server({ servers: 2, placement: "dedicated", consistency: "bounded", staleness: 2 }), [1, 0, 1], /5 workers, 2 dedicated servers, bounded 2/],
  ]) {
    test(`5 ranks over 3 hosts: ${name}`, async () => {
      const job = await bed.fleet.waitForJob((await bed.fleet.submit(unevenJob({ ...overrides, steps: { measured: 20 } }))).id);
      assert.equal(job.state, "succeeded", JSON.stringify(job.runs));
      const [{ hosts, result }] = job.runs;
      assert.deepEqual(hosts.map((h) => [h.first_rank, h.ranks]), [[0, 2], [2, 2], [4, 1]]);
      assert.deepEqual(hosts.map((h) => h.servers), servers);
      assert.equal(result.variable_update, job.variable_update);
      assert.match(result.exchange, label);
      assert.deepEqual([result.ranks, result.images], [5, 5 * 20 * 8], "servers make no images");
      assert.deepEqual(result.rank_times.map((t) => t.host), ["node1", "node1", "node2", "node2", "node3"]);
      assert.deepEqual(bed.left(), []);
    });
  }

  test("a job that wants more hosts than there are says so; one that must wait names what it waits for", async () => {
    const many = await bed.fleet.submit(gangJob({ resources: { agents: 4 } }));
    assert.match((await bed.fleet.job(many.id)).waiting.detail, /needs 4 agents, 3 match: node1, node2, node3/);
    await bed.fleet.api("POST", `/api/v1/jobs/${many.id}:cancel`);
    const run = await bed.measuring({ resources: { agents: 2 } });
    const all = await bed.fleet.submit(gangJob({ steps: { measured: 3 } }));
    assert.match((await bed.fleet.job(all.id)).waiting.detail, new RegExp(`behind job ${bed.jobId} on agent ${run.hosts[0].agent}`));
    await bed.fleet.api("POST", `/api/v1/jobs/${bed.jobId}:cancel`);
    assert.equal((await bed.fleet.waitForJob(all.id)).state, "succeeded");
  });

  for (const fault of faults.filter((f) => f.ci)) {
    test(fault.name, async () => {
      const run = await bed.measuring(fault.job);
      await fault.run(bed, run);
    });
  }

  test("after all that every host takes work", () => bed.works());
});

const execFileAsync = promisify(execFile);

// `rackmark scale` on 1 and 2 agents: what it prints is what was measured, timed and predicted.
async function scales(fleet) {
  const { stdout } = await execFileAsync(path.join(binDir, "rackmark"), [
    "scale", "--controller", fleet.url, "--agents", "1,2", "--model", "cifar10", "--batch_size", "8", "--optimizer.learning_rate", "0.001", "--retries", "0",
    "--steps.warmup", "2", "--steps.measured", "10", "--resources.workers_per_agent", "1", "--resources.threads_per_worker", "1", "--watch", "--json",
  ]);
  const { points, link, median_error } = JSON.parse(stdout);
  assert.deepEqual(points.map((p) => [p.agents, p.ranks, p.job_id !== null]), [[1, 1, true], [2, 2, true], [4, 4, false], [8, 8, false], [16, 16, false]]);
  for (const p of points.slice(0, 2)) {
    assert.ok(p.images_per_second > 0 && p.ceiling_images_per_second > 0, `${p.agents}: ${p.why} ${p.ceiling_why}`);
    assert.equal(p.rank_times.length, p.agents);
  }
  const two = points[1];
  assert.ok(Math.abs(two.efficiency - two.images_per_second / points[0].images_per_second / 2) < 1e-9);
  assert.ok(two.exposed_communication_ms > 0, "gradients of one bucket are never hidden");
  assert.ok(Math.abs(two.prediction_error - (two.predicted_images_per_second / two.images_per_second - 1)) < 1e-9);
  assert.equal(median_error, Math.abs(two.prediction_error));
  assert.equal(link.job_id, two.job_id);
  assert.ok(link.all_reduce_times.length >= 2 && link.all_reduce_times.every((t) => t.ranks === 2 && t.median_s > 0), JSON.stringify(link));
  assert.ok(points[4].predicted_efficiency > 0 && points[4].predicted_efficiency < 1, JSON.stringify(points[4]));
}
// Without root: agents of one machine that pretend to be hosts.
describe("agents of one machine", () => {
  test("a job of 3 workers and a server over 2 agents; kill -9 of a daemon; a scaling group", async () => {
    const fleet = await startFleet({
      agents: 2,
      agentArgs: ["--network", "127.0.0.0/8", "--launch-ports", "any", "--rank-ports", "any"],
      env: { OMPI_MCA_mpi_yield_when_idle: "1" },
    });
    const ofFleet = (which) => processes().filter((p) => which(p) && environmentOf(p.pid, "RACKMARK_SPEC").startsWith(fleet.dir));
    try {
      const served = { variable_update: "parameter_server", parameter_server: { placement: "dedicated" }, resources: { agents: 2, workers: 3 } };
      const job = await fleet.waitForJob((await fleet.submit(gangJob({ ...served, steps: { measured: 10 } }))).id);
      assert.equal(job.state, "succeeded", JSON.stringify(job.runs));
      assert.deepEqual([job.runs[0].result.ranks, job.runs[0].result.images], [3, 3 * 10 * 8]);
      assert.deepEqual(job.runs[0].hosts.map((h) => [h.agent, h.first_rank, h.ranks, h.servers]), [["host-1", 0, 2, 0], ["host-2", 2, 1, 1]]);
      const refused = await fleet.api("POST", "/api/v1/jobs", gangJob({ resources: { agents: 2, workers: 1 } }));
      assert.equal(refused.status, 422);
      assert.match(refused.body.detail, /resources.workers.*2 or more/);
      const spec = { resources: { agents: 2, workers_per_agent: 2 } };

      const { id } = await fleet.submit(gangJob(spec));
      await until(async () => (await fleet.job(id)).runs.find((r) => r.state === "measuring"), { timeoutMs: 120_000, what: "the run to measure" });
      const daemons = ofFleet(isDaemon);
      assert.equal(daemons.length, 2);
      process.kill(daemons.find((d) => environmentOf(d.pid, "RACKMARK_SPEC").includes("host-2")).pid, "SIGKILL");
      const failed = await fleet.waitForJob(id, { timeoutMs: 60_000 });
      assert.equal(failed.reason, "worker_crashed", failed.detail);
      await until(() => ofFleet((p) => isDaemon(p) || p.program === "rackmark-worker").length === 0, { timeoutMs: 5000, what: "all processes to be gone" });
      const { items } = (await fleet.api("GET", "/api/v1/agents")).body;
      assert.deepEqual(items.map((a) => a.state), ["idle", "idle"]);
      await scales(fleet);
    } finally {
      await fleet.stop();
    }
  });
});
