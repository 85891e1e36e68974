// What can go wrong with a run over several hosts, each made by really doing it, with the outcome that
// it must have. After each, nothing of the run is left on any host and every host takes work again.
//
// A case: {name, ci, retries?, job?, leaseS?, async run(bed, {run, hostOf})}, where `run` is the live
// run and the job's end is returned by bed.end(). `ci`: among those that every test run does.
import assert from "node:assert/strict";
import { sleep, until } from "../support/fleet.mjs";
import { makeHosts, scratchFolders } from "../support/hosts.mjs";
import { startFleet } from "../support/fleet.mjs";
import { environmentOf, isDaemon, isLauncher } from "../support/processes.mjs";

export const gangJob = (overrides = {}) => ({
  model: "cifar10",
  batch_size: 8,
  variable_update: "all_reduce",
  retries: 0,
  stall_s: 60,
  ...overrides,
  steps: { warmup: 2, measured: 1_000_000, ...overrides.steps },
  resources: { agents: 3, ...(overrides.resources?.workers ? {} : { workers_per_agent: 1 }), threads_per_worker: 1, ...overrides.resources },
});
// 5 workers on 3 hosts: 2 + 2 + 1.
export const unevenJob = (overrides = {}) => gangJob({ ...overrides, resources: { workers: 5, ...overrides.resources } });

const isAgent = (p) => p.program === "rackmark-agent" && p.argv[1] !== "guard";
const kill = (list, name) => {
  assert.ok(list.length > 0, `nothing to send ${name} to`);
  for (const p of list) process.kill(p.pid, name);
};

// Three hosts with an agent each, and a controller that all can reach.
export class Bed {
  marks = new Set(); // by which its agents' scratch folders are known

  // `cutLimitS`: within which nothing may be left after a cut; the lease alone takes 5/4 of itself.
  static async make({ count = 3, leaseS = 12, cutLimitS = 20, agentArgs = [] } = {}) {
    const bed = new Bed();
    bed.cutLimitMs = cutLimitS * 1000;
    bed.hosts = makeHosts(count);
    try {
      bed.fleet = await startFleet({
        agents: 0,
        leaseS,
        listen: "0.0.0.0",
        agentUrl: (port) => bed.hosts.url(port),
        controllerArgs: ["--allow-remote"],
        agentArgs,
        env: { OMPI_MCA_mpi_yield_when_idle: "1" }, // all hosts share the cores of this machine
      });
      for (let i = 0; i < count; ++i) {
        await bed.fleet.startAgent({ name: bed.hosts.names[i], enter: bed.hosts.enter(i), args: ["--label", `n=${i}`] });
      }
    } catch (error) {
      await bed.remove();
      throw error;
    }
    return bed;
  }
  async remove() {
    await this.fleet?.stop();
    this.hosts.remove();
  }

  agent(name) {
    return this.fleet.agents.find((a) => a.agentName === name);
  }
  index(name) {
    return this.hosts.names.indexOf(name);
  }
  // Everything on this host but its agent: guards, mpirun, remote shells, daemons, ranks.
  ofRun(name) {
    return this.hosts.processes(this.index(name)).filter((p) => !isAgent(p));
  }
  ranks(name) {
    return this.ofRun(name).filter((p) => p.program === "rackmark-worker");
  }
  daemons(name) {
    return this.ofRun(name).filter(isDaemon);
  }
  left() {
    return this.hosts.names.flatMap((name) => this.ofRun(name).map((p) => `${name}: ${p.argv.slice(0, 3).join(" ")}`));
  }
  async gone(withinMs) {
    const started = Date.now();
    await until(() => this.left().length === 0, { timeoutMs: withinMs, everyMs: 50, what: () => `everything to be gone, left: ${this.left()}` });
    return (Date.now() - started) / 1000;
  }

  // Submits and waits until every rank measures.
  async measuring(overrides) {
    const { id } = await this.fleet.submit(gangJob(overrides));
    this.jobId = id;
    const measuring = await until(
      async () => {
        const job = await this.fleet.job(id);
        if (["failed", "cancelled", "succeeded"].includes(job.state)) throw new Error(`the job ended: ${job.detail}\n${JSON.stringify(job.runs)}`);
        return job.runs.find((r) => r.state === "measuring" && r.progress.steps_done > 3);
      },
      { timeoutMs: 120_000, what: "the run to measure" },
    );
    for (const rank of this.hosts.names.flatMap((name) => this.ranks(name))) this.marks.add(environmentOf(rank.pid, "RACKMARK_AGENT"));
    return measuring;
  }
  async end(timeoutMs = 60_000) {
    return this.fleet.waitForJob(this.jobId, { timeoutMs });
  }
  // Every host takes work again: one job over all of them succeeds.
  async works() {
    await until(async () => (await this.fleet.api("GET", "/api/v1/agents")).body.items.every((a) => a.state === "idle"), { timeoutMs: 60_000, what: "all agents to be idle" });
    const { id } = await this.fleet.submit(gangJob({ steps: { measured: 5 }, resources: { agents: this.hosts.names.length } }));
    const job = await this.fleet.waitForJob(id, { timeoutMs: 120_000 });
    assert.equal(job.state, "succeeded", JSON.stringify(job.runs));
    assert.ok(this.marks.size > 0, "a run was seen");
    const own = scratchFolders().filter((name) => this.marks.has(name.split("-")[1])); // other fleets may run beside this one
    assert.deepEqual(own, [], "nothing is left in shared memory");
  }
}

const head = (run) => run.hosts[0].agent;
const member = (run) => run.hosts[1].agent;
const last = (run) => run.hosts.at(-1).agent;

async function crashed(bed, pattern) {
  const job = await bed.end();
  assert.equal(job.state, "failed", JSON.stringify(job.runs));
  assert.equal(job.reason, "worker_crashed", job.detail);
  if (pattern) assert.match(job.detail, pattern);
  return job;
}

async function stalled(bed, name, rank) {
  const job = await bed.end(90_000);
  assert.equal(job.outcome, "stalled", JSON.stringify(job.runs));
  assert.match(job.detail, new RegExp(`rank ${rank} on ${name} in phase measuring`), job.detail);
  const logs = (await bed.fleet.api("GET", `/api/v1/runs/${job.runs[0].id}/logs?limit=10000`)).body.lines.map((l) => l.text);
  assert.ok(logs.some((l) => /^thread \d+ .*T \(stopped\)/.test(l)), "its threads are in the log");
  return job;
}

// The agent that is killed is started again afterwards, as its service manager would.
async function agentKilled(bed, name) {
  await bed.agent(name).kill();
  const s = await bed.gone(30_000);
  const job = await bed.end(60_000);
  assert.equal(job.outcome, "lost", JSON.stringify(job.runs));
  assert.match(job.detail, new RegExp(`agent ${name} was silent`));
  await bed.agent(name).start();
  return s;
}

export const faults = [
  {
    name: "kill -9 of a rank on another host",
    ci: true,
    async run(bed, run) {
      kill(bed.ranks(member(run)), "SIGKILL");
      await crashed(bed, new RegExp(`rank 1 on agent ${member(run)}.*signal 9`));
      return bed.gone(5000);
    },
  },
  {
    name: "kill -9 of a rank on the head's host",
    async run(bed, run) {
      kill(bed.ranks(head(run)), "SIGKILL");
      await crashed(bed, /rank 0 .*signal 9/);
      return bed.gone(5000);
    },
  },
  {
    name: "kill -9 of a daemon on another host",
    ci: true,
    async run(bed, run) {
      kill(bed.daemons(member(run)), "SIGKILL");
      await crashed(bed, new RegExp(member(run)));
      return bed.gone(5000);
    },
  },
  {
    name: "kill -9 of the daemon on the head's host",
    async run(bed, run) {
      kill(bed.daemons(head(run)), "SIGKILL");
      await crashed(bed);
      return bed.gone(5000);
    },
  },
  {
    name: "kill -9 of mpirun",
    ci: true,
    async run(bed, run) {
      kill(bed.ofRun(head(run)).filter(isLauncher), "SIGKILL");
      await crashed(bed, /mpirun ended on signal 9/);
      return bed.gone(5000);
    },
  },
  {
    name: "kill -9 of a remote shell",
    async run(bed, run) {
      const shells = bed.ofRun(head(run)).filter((p) => p.program === "rackmark-rsh");
      kill(shells.slice(0, 1), "SIGKILL");
      await crashed(bed);
      return bed.gone(5000);
    },
  },
  {
    name: "kill -9 of a guard on another host",
    async run(bed, run) {
      kill(bed.ofRun(member(run)).filter((p) => p.program === "rackmark-agent"), "SIGKILL");
      await crashed(bed);
      return bed.gone(5000);
    },
  },
  { name: "kill -9 of the agent on another host", run: (bed, run) => agentKilled(bed, member(run)) },
  { name: "kill -9 of the head agent", run: (bed, run) => agentKilled(bed, head(run)) },
  {
    name: "SIGSTOP of a rank on another host",
    ci: true,
    job: { stall_s: 6 },
    async run(bed, run) {
      kill(bed.ranks(last(run)), "SIGSTOP");
      await stalled(bed, last(run), run.hosts.at(-1).first_rank);
      return bed.gone(5000);
    },
  },
  {
    name: "SIGSTOP of a rank on the head's host",
    job: { stall_s: 6 },
    async run(bed, run) {
      kill(bed.ranks(head(run)), "SIGSTOP");
      await stalled(bed, head(run), 0);
      return bed.gone(5000);
    },
  },
  {
    name: "silent cut of another host: gone on both sides in time",
    ci: true,
    async run(bed, run) {
      const name = member(run);
      bed.hosts.cut(bed.index(name));
      try {
        const s = await bed.gone(bed.cutLimitMs);
        const job = await bed.end(60_000);
        assert.equal(job.outcome, "lost", JSON.stringify(job.runs));
        assert.match(job.detail, new RegExp(`agent ${name} was silent`));
        return s;
      } finally {
        bed.hosts.join(bed.index(name));
      }
    },
  },
  {
    name: "silent cut of the head's host: gone on both sides in time",
    async run(bed, run) {
      const name = head(run);
      bed.hosts.cut(bed.index(name));
      try {
        const s = await bed.gone(bed.cutLimitMs);
        const job = await bed.end(60_000);
        assert.equal(job.outcome, "lost", JSON.stringify(job.runs));
        return s;
      } finally {
        bed.hosts.join(bed.index(name));
      }
    },
  },
  {
    name: "a cut of 4 s that heals: the job goes on",
    job: { steps: { measured: 1_000_000 } },
    async run(bed, run) {
      bed.hosts.cut(bed.index(last(run)));
      await sleep(4000);
      bed.hosts.join(bed.index(last(run)));
      const steps = (await bed.fleet.job(bed.jobId)).runs[0].progress.steps_done;
      await until(async () => (await bed.fleet.job(bed.jobId)).runs[0].progress.steps_done > steps + 50, { timeoutMs: 60_000, what: "steps after the cut" });
      const job = await bed.fleet.job(bed.jobId);
      assert.equal(job.runs.length, 1);
      assert.equal(job.runs[0].state, "measuring", JSON.stringify(job.runs));
      await bed.fleet.api("POST", `/api/v1/jobs/${bed.jobId}:cancel`);
      assert.equal((await bed.end()).state, "cancelled");
      return bed.gone(10_000);
    },
  },
  ...[0.5, 1, 2].map((share) => ({
    name: `the controller is away for ${share} of the lease: never two live attempts`,
    job: { retries: 1 },
    async run(bed) {
      const lease = bed.fleet.options.leaseS, attempts = share < 0.8 ? 1 : 2;
      const seen = watchAttempts(bed);
      await bed.fleet.controller.kill();
      await sleep(share * lease * 1000);
      await bed.fleet.startController();
      const goesOn = (steps) =>
        until(
          async () => {
            const job = await bed.fleet.job(bed.jobId).catch(() => null);
            const run = job?.runs.at(-1);
            return job?.runs.length === attempts && run.state === "measuring" && run.progress.steps_done > steps && run;
          },
          { timeoutMs: 120_000, what: () => `attempt ${attempts} to make steps` },
        );
      await goesOn(3);
      await sleep(3000); // what was done while the controller was away has been told by now
      await goesOn((await bed.fleet.job(bed.jobId)).runs.at(-1).progress.steps_done + 10);
      await bed.fleet.api("POST", `/api/v1/jobs/${bed.jobId}:cancel`);
      await bed.end();
      assert.equal(await seen.stop(), 1, "runs with live ranks at one time");
      return bed.gone(10_000);
    },
  })),
  {
    name: "cancel: over only when every host is empty",
    async run(bed) {
      await bed.fleet.api("POST", `/api/v1/jobs/${bed.jobId}:cancel`);
      assert.equal((await bed.end()).state, "cancelled");
      assert.deepEqual(bed.left().filter((l) => !l.includes("guard")), []);
      return bed.gone(2000);
    },
  },
];

// The most runs that had live ranks at one time, looked at 20 times a second.
function watchAttempts(bed) {
  let most = 0, on = true;
  const look = async () => {
    while (on) {
      const runs = new Set(bed.hosts.names.flatMap((name) => bed.ranks(name).map((p) => environmentOf(p.pid, "RACKMARK_RUN"))));
      runs.delete("");
      most = Math.max(most, runs.size);
      await sleep(50);
    }
    return most;
  };
  const done = look();
  return {
    stop: () => {
      on = false;
      return done;
    },
  };
}
