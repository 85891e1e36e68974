// Every fault is made by really killing or stopping something, and ends in the right outcome with no
// process left.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { sleep, smallJob, startFleet, until } from "../support/fleet.mjs";
import { processesOf, workersOf } from "../support/processes.mjs";

let fleet;
afterEach(async () => {
  await fleet?.stop();
  fleet = undefined;
});

const longJob = (overrides = {}) => smallJob({ ...overrides, steps: { warmup: 2, measured: 150 } });

async function measuring(jobId) {
  return until(
    async () => (await fleet.job(jobId)).runs.find((r) => r.state === "measuring" && r.progress.steps_done > 3),
    { timeoutMs: 180_000, what: "the run to measure" },
  );
}
async function gone(find, withinMs, what) {
  const started = Date.now();
  await until(() => find().length === 0, { timeoutMs: withinMs, everyMs: 25, what: () => `${what} to be gone: ${JSON.stringify(find())}` });
  return Date.now() - started;
}
const signal = (list, name) => {
  assert.ok(list.length > 0, "nothing to send the signal to");
  for (const p of list) process.kill(p.pid, name);
};

test("kill -9 of the controller in the middle of a job: the job ends and its result is stored once", async () => {
  fleet = await startFleet({ agents: 1, leaseS: 10 });
  const { id } = await fleet.submit(longJob());
  await measuring(id);
  await fleet.restartController({ downMs: 1500 });
  const job = await fleet.waitForJob(id);
  assert.equal(job.state, "succeeded", JSON.stringify(job.runs));
  assert.equal(job.runs.length, 1);
  assert.equal((await fleet.api("GET", `/api/v1/results?job=${id}`)).body.items.length, 1);
  const steps = (await fleet.api("GET", `/api/v1/runs/${job.runs[0].id}/steps`)).body.ranks[0];
  assert.equal(steps.ms.length, 150, "no step is lost and none is there twice");
});

test("kill -9 of the controller again and again, ten times at odd moments", async () => {
  fleet = await startFleet({ agents: 1, leaseS: 30 });
  const ids = [];
  for (let i = 0; i < 3; ++i) ids.push((await fleet.submit(smallJob({ name: `job ${i}` }))).id);
  for (let i = 0; i < 10; ++i) {
    await sleep(150 + ((i * 7919) % 700));
    await fleet.restartController();
  }
  for (const id of ids) {
    const job = await fleet.waitForJob(id);
    assert.equal(job.state, "succeeded", JSON.stringify(job.runs));
    assert.equal(job.runs.length, 1);
    assert.equal((await fleet.api("GET", `/api/v1/results?job=${id}`)).body.items.length, 1);
  }
});

test("kill -9 of the agent: workers gone within 5 s, the run ends lost and is retried once elsewhere", async () => {
  fleet = await startFleet({ agents: 2, leaseS: 4 });
  const { id } = await fleet.submit(longJob());
  const run = await measuring(id);
  assert.equal(workersOf(fleet).length, 1);
  const agent = fleet.agents.find((a) => a.agentName === run.agent);
  await agent.kill();
  const ms = await gone(() => workersOf(fleet), 5000, "the workers");
  assert.ok(ms < 5000);
  const job = await fleet.waitForJob(id);
  assert.equal(job.state, "succeeded", JSON.stringify(job.runs));
  assert.deepEqual(job.runs.map((r) => [r.state, r.attempt]), [["lost", 1], ["succeeded", 2]]);
  assert.equal(job.runs[0].reason, "agent_lost");
  assert.notEqual(job.runs[1].agent, job.runs[0].agent);
  const lostAfterS = (Date.parse(job.runs[0].ended_at) - Date.parse(run.started_at ?? job.created_at)) / 1000;
  assert.ok(lostAfterS >= 4, `lost only after the lease, was ${lostAfterS} s`);
});

test("an agent that was killed and comes back reports its run as ended, and the job goes on", async () => {
  fleet = await startFleet({ agents: 1, leaseS: 20 });
  const { id } = await fleet.submit(longJob());
  await measuring(id);
  const [agent] = fleet.agents;
  await agent.kill();
  await gone(() => workersOf(fleet), 5000, "the workers");
  await agent.start();
  const job = await fleet.waitForJob(id);
  assert.equal(job.state, "succeeded", JSON.stringify(job.runs));
  assert.equal(job.runs.length, 2);
  assert.equal(job.runs[0].reason, "agent_restarted");
});

test("cancel: the job ends cancelled and no worker process is left", async () => {
  fleet = await startFleet({ agents: 1 });
  const { id } = await fleet.submit(longJob());
  await measuring(id);
  assert.equal((await fleet.api("POST", `/api/v1/jobs/${id}:cancel`)).status, 200);
  const job = await fleet.waitForJob(id, { timeoutMs: 20_000 });
  assert.equal(job.state, "cancelled");
  assert.equal(workersOf(fleet).length, 0, "the job is over only when its processes are");
  assert.equal(processesOf(fleet, "mpirun").length, 0);
  assert.equal(job.headline.images_per_second, null);
  const again = await fleet.waitForJob((await fleet.submit(smallJob())).id);
  assert.equal(again.state, "succeeded", "the host is free again");
});

test("kill -9 of a rank, of mpirun and of the guard: each ends failed with a reason, and nothing is left", async () => {
  fleet = await startFleet({ agents: 1 });
  const guards = () => processesOf(fleet, "rackmark-agent").filter((p) => p.argv[1] === "guard");
  const victims = {
    rank: () => workersOf(fleet),
    mpirun: () => processesOf(fleet, "mpirun"),
    guard: guards,
  };
  for (const [name, find] of Object.entries(victims)) {
    const { id } = await fleet.submit(longJob({ retries: 0, name }));
    await measuring(id);
    signal(find(), "SIGKILL");
    const job = await fleet.waitForJob(id, { timeoutMs: 30_000 });
    assert.equal(job.state, "failed", `${name}: ${JSON.stringify(job.runs)}`);
    assert.equal(job.reason, "worker_crashed", `${name}: ${job.detail}`);
    assert.ok(job.detail.length > 0);
    assert.equal(job.headline.images_per_second, null);
    await gone(() => [...workersOf(fleet), ...processesOf(fleet, "mpirun"), ...guards()], 2000, `after ${name}: everything`);
  }
  assert.equal((await fleet.waitForJob((await fleet.submit(smallJob())).id)).state, "succeeded");
});

test("a frozen rank ends the run as stalled, naming rank, host and phase", async () => {
  fleet = await startFleet({ agents: 1 });
  const { id } = await fleet.submit(longJob({ retries: 0, stall_s: 5 }));
  await measuring(id);
  signal(workersOf(fleet), "SIGSTOP");
  const job = await fleet.waitForJob(id, { timeoutMs: 40_000 });
  assert.equal(job.outcome, "stalled", JSON.stringify(job.runs));
  assert.match(job.detail, /rank 0/);
  assert.match(job.detail, /measuring/);
  assert.equal(workersOf(fleet).length, 0);
});

test("a job that takes longer than its time-out ends as timeout", async () => {
  fleet = await startFleet({ agents: 1 });
  const { id } = await fleet.submit(smallJob({ retries: 0, timeout_s: 3, steps: { warmup: 2, measured: 100000 } }));
  const job = await fleet.waitForJob(id, { timeoutMs: 40_000 });
  assert.equal(job.outcome, "timeout", JSON.stringify(job.runs));
  assert.equal(workersOf(fleet).length, 0);
});

test("SIGTERM of the agent ends its run, tells the controller and leaves nothing", async () => {
  fleet = await startFleet({ agents: 1 });
  const { id } = await fleet.submit(longJob({ retries: 0 }));
  await measuring(id);
  const end = await fleet.agents[0].stop(12_000);
  assert.equal(end.code, 0, JSON.stringify(end));
  assert.equal(workersOf(fleet).length, 0);
  const job = await fleet.waitForJob(id, { timeoutMs: 5000 });
  assert.notEqual(job.state, "succeeded");
});
