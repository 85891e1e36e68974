// A fleet inside an allocation: the batch script of deploy/slurm on a cluster of two nodes, real srun, real faults.
import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { gangJob } from "../faults/cases.mjs";
import { Fleet, binDir, sourceDir, until } from "../support/fleet.mjs";
import { startSlurm, whyNoSlurm } from "../support/slurm.mjs";
import { environmentOf, processes } from "../support/processes.mjs";

const script = path.join(sourceDir, "deploy/slurm/rackmark.sbatch");
const spec = (overrides = {}) => gangJob({ ...overrides, resources: { agents: 2, ...overrides.resources } });

// Run by hand, so what is missing is an error and not a skipped test.
describe("Slurm", () => {
  let slurm, fleet;
  before(async () => {
    assert.equal(whyNoSlurm(), "");
    slurm = await startSlurm({ nodes: 2 });
    fleet = new Fleet(slurm.folder, {}); // only its way to speak to a controller
  });
  afterEach(() => slurm.clear());
  after(() => slurm?.stop());

  // Gives Slurm's job with `output()`, what it has written so far.
  function batch(name, ...specs) {
    const file = slurm.in(`${name}.out`);
    const env = {
      RACKMARK_BIN: binDir,
      RACKMARK_RESULTS: slurm.in(name),
      RACKMARK_AGENT_ARGS: "--network 127.0.0.0/8 --rank-ports any",
      OMPI_MCA_mpi_yield_when_idle: "1", // both nodes share the cores of this machine
      TMPDIR: slurm.in("tmp"),
    };
    const export_ = `--export=ALL,${Object.entries(env).map(([k, v]) => `${k}=${v}`).join(",")}`;
    const job = Number(slurm.run("sbatch", "--parsable", export_, `--output=${file}`, script, ...specs));
    return { job, output: () => (existsSync(file) ? readFileSync(file, "utf8") : "") };
  }
  const ofThisCluster = (program) =>
    processes().filter((p) => p.program === program && environmentOf(p.pid, "TMPDIR").startsWith("/dev/shm/rackmark-") && environmentOf(p.pid, "RACKMARK_SPEC").startsWith(slurm.folder));
  const ranks = () => ofThisCluster("rackmark-worker");
  async function nothingLeft() {
    await until(() => ranks().length === 0, { timeoutMs: 5000, what: "all ranks to be gone" });
    await until(() => !slurm.steps().some((s) => s.startsWith("rackmark-run")), { timeoutMs: 10_000, what: "the run's step to be over" });
    const agents = await until(
      async () => {
        const { items } = (await fleet.api("GET", "/api/v1/agents")).body;
        return items.every((a) => a.state === "idle") && items;
      },
      { timeoutMs: 10_000, what: "idle agents" },
    );
    assert.deepEqual(agents.map((a) => a.inventory.slurm.node).sort(), ["node1", "node2"]);
  }
  async function measuring() {
    const { id } = await fleet.submit(spec());
    const run = await until(async () => (await fleet.job(id)).runs.find((r) => r.state === "measuring"), { timeoutMs: 60_000, what: "the run to measure" });
    assert.deepEqual(slurm.steps().filter((s) => s.startsWith("rackmark-run")), [`rackmark-run-${run.id}`]);
    return { id, run };
  }

  test("a fleet that stays: a result, a cancelled job, a killed rank, a killed srun, and nothing left", async () => {
    const { job, output } = batch("fleet");
    await until(() => output().includes("agents are idle"), { timeoutMs: 60_000, what: () => `the fleet: ${output()}` });
    fleet.port = Number(/controller at http:\/\/127.0.0.1:(\d+)/.exec(output())[1]);

    const served = { variable_update: "parameter_server", parameter_server: { placement: "dedicated" }, resources: { workers: 3 } };
    const done = await fleet.waitForJob((await fleet.submit(spec({ ...served, steps: { measured: 10 } }))).id);
    assert.equal(done.state, "succeeded", JSON.stringify(done.runs));
    const [first] = done.runs;
    assert.equal(first.result.images, 3 * 10 * 8);
    assert.deepEqual(first.hosts.map((h) => [h.first_rank, h.ranks, h.servers, h.ended]), [[0, 2, 0, "succeeded"], [2, 1, 1, "succeeded"]]);
    const logs = (await fleet.api("GET", `/api/v1/runs/${first.id}/logs`)).body.lines;
    assert.ok(logs.some((l) => l.text.includes(`one step of Slurm's job ${job}`)), JSON.stringify(logs));
    await nothingLeft();

    const endless = await measuring();
    await fleet.api("POST", `/api/v1/jobs/${endless.id}:cancel`);
    assert.equal((await fleet.waitForJob(endless.id, { timeoutMs: 30_000 })).state, "cancelled");
    await nothingLeft();

    const killed = await measuring();
    const victim = ranks().find((p) => environmentOf(p.pid, "SLURM_PROCID") === "1");
    process.kill(victim.pid, "SIGKILL");
    const failed = await fleet.waitForJob(killed.id, { timeoutMs: 30_000 });
    assert.equal(failed.reason, "worker_crashed", failed.detail);
    assert.match(failed.detail, new RegExp(`rank 1 on agent ${killed.run.hosts[1].agent} ended on signal 9`));
    await nothingLeft();

    const orphaned = await measuring();
    const step = `--job-name=rackmark-run-${orphaned.run.id}`;
    const sruns = processes().filter((p) => p.program === "srun" && p.argv.includes(step) && environmentOf(p.pid, "SLURM_CONF") === slurm.conf);
    const srun = sruns.find((p) => !sruns.some((other) => other.pid === p.ppid)); // it has a child of the same name
    process.kill(srun.pid, "SIGKILL");
    const alone = await fleet.waitForJob(orphaned.id, { timeoutMs: 30_000 });
    assert.equal(alone.reason, "worker_crashed", alone.detail);
    assert.match(alone.detail, /srun ended on signal 9/);
    await nothingLeft();

    slurm.run("scancel", "--batch", "--signal=TERM", String(job));
    await until(() => slurm.jobState(job) === "COMPLETED" && slurm.run("squeue", "--noheader") === "", { timeoutMs: 30_000, what: () => `the allocation to be over: ${output()}` });
    const mine = processes().filter((p) => p.program.startsWith("rackmark-") && environmentOf(p.pid, "SLURM_CONF") === slurm.conf);
    assert.deepEqual(mine.map((p) => p.argv.join(" ")), []);
    assert.deepEqual(readdirSync(slurm.in("tmp")).filter((f) => f.startsWith("rackmark-")), [], "folders of agents and controller");
    assert.ok(existsSync(slurm.in("fleet/rackmark.db")), output());
  });

  test("a job file: the batch job ends with its result", async () => {
    await mkdir(slurm.in("jobs"));
    await writeFile(slurm.in("jobs/tiny.json"), JSON.stringify(spec({ steps: { measured: 5 } })));
    const { job, output } = batch("tiny", slurm.in("jobs/tiny.json"));
    await until(() => ["COMPLETED", "FAILED"].includes(slurm.jobState(job)), { timeoutMs: 90_000, everyMs: 200, what: () => `the batch job: ${output()}` });
    assert.equal(slurm.exitCode(job), "0", output());
    assert.match(output(), /succeeded/);
    assert.ok(existsSync(slurm.in("tiny/rackmark.db")), output());
  });
});
