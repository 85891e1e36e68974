// A cluster of Slurm on this machine: munged, slurmctld and one slurmd a node, in a folder of its own, on
// free ports. Needs root and the packages munge, slurmctld, slurmd, slurm-client.
//
//   const slurm = await startSlurm({ nodes: 2 });
//   const job = slurm.run("sbatch", "--parsable", "job.sh");      // any client, against this cluster
//   await slurm.stop();                                           // ends all jobs and daemons
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, openSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { sleep, until } from "./fleet.mjs";

// Why there can be no cluster here; "" when there can.
export function whyNoSlurm() {
  if (process.getuid() !== 0) return "slurmd needs root";
  const missing = ["munged", "slurmctld", "slurmd"].filter((p) => !existsSync(`/usr/sbin/${p}`));
  return missing.length ? `not installed: ${missing.join(", ")}` : "";
}

async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((s) => once(s, "listening")));
  const ports = servers.map((s) => s.address().port);
  await Promise.all(servers.map((s) => once(s.close(), "close")));
  return ports;
}

class Slurm {
  daemons = []; // in the order in which they were started

  constructor(folder, nodes) {
    this.folder = folder;
    this.nodes = Array.from({ length: nodes }, (_, i) => `node${i + 1}`);
    this.conf = path.join(folder, "slurm.conf");
    this.env = { ...process.env, SLURM_CONF: this.conf };
  }
  in(...names) {
    return path.join(this.folder, ...names);
  }

  async build() {
    for (const folder of ["munge", "state", "log", ...this.nodes.flatMap((n) => [`spool/${n}`, `tmp/${n}`])]) {
      await mkdir(this.in(folder), { recursive: true });
    }
    await chmod(this.folder, 0o755);
    await chmod(this.in("munge"), 0o711);
    await writeFile(this.in("munge/key"), randomBytes(1024), { mode: 0o400 });
    await this.configure(await freePorts(this.nodes.length + 1));
    const munge = (what) => this.in("munge", what);
    await this.daemon("munged", "--foreground", "--force", "--key-file", munge("key"), "--socket", munge("socket"),
      "--pid-file", munge("pid"), "--log-file", munge("log"), "--seed-file", munge("seed"));
    await until(() => existsSync(munge("socket")), { what: "munged" });
    await this.daemon("slurmctld", "-D", "-f", this.conf);
    for (const node of this.nodes) await this.daemonOn(node, "slurmd", "-D", "-N", node, "-f", this.conf);
    const states = () => {
      try {
        return this.run("sinfo", "--noheader", "--Node", "--format=%T");
      } catch (error) {
        return error.message.split("\n")[0];
      }
    };
    let last;
    await until(() => /^(idle\n?)+$/.test((last = states())), { timeoutMs: 30_000, everyMs: 200, what: () => `idle nodes, not ${last}; logs in ${this.in("log")}` });
    return this;
  }

  // All nodes are this machine: an own name of the host and a port each.
  async configure([control, ...ports]) {
    await writeFile(
      this.conf,
      `ClusterName=rackmark
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=${control}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=${this.in("munge/socket")}
StateSaveLocation=${this.in("state")}
SlurmdSpoolDir=${this.in("spool/%n")}
TmpFS=${this.in("tmp/%n")}
SlurmctldPidFile=${this.in("slurmctld.pid")}
SlurmdPidFile=${this.in("%n.pid")}
SlurmctldLogFile=${this.in("log/slurmctld")}
SlurmdLogFile=${this.in("log/%n")}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0
ReturnToService=2
MpiDefault=none
KillWait=10
SlurmdTimeout=60
${this.nodes.map((n, i) => `NodeName=${n} NodeAddr=127.0.0.1 Port=${ports[i]} CPUs=2 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=500`).join("\n")}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
`,
    );
  }

  daemon(program, ...args) {
    return this.start(program, `/usr/sbin/${program}`, ...args);
  }
  // Ranks of nodes with one host name would take each other's shared memory for their own.
  daemonOn(node, program, ...args) {
    return this.start(program, "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', node, `/usr/sbin/${program}`, ...args);
  }
  async start(name, ...command) {
    const log = openSync(this.in("log", `${name}.out`), "a");
    const child = spawn(command[0], command.slice(1), { stdio: ["ignore", log, log], env: this.env, detached: true });
    await once(child, "spawn");
    this.daemons.push(child);
  }

  // What a client of Slurm says; throws with what it says when it fails.
  run(program, ...args) {
    return execFileSync(program, args, { env: this.env, stdio: ["ignore", "pipe", "pipe"] }).toString();
  }
  jobState(job) {
    return /JobState=(\w+)/.exec(this.run("scontrol", "show", "job", String(job)))?.[1];
  }
  exitCode(job) {
    return /ExitCode=(\d+):/.exec(this.run("scontrol", "show", "job", String(job)))?.[1];
  }
  // Names of the steps that are there now.
  steps() {
    return this.run("squeue", "--steps", "--noheader", "--format=%j").split("\n").filter(Boolean);
  }

  // Ends all jobs.
  async clear() {
    this.run("scancel", "--quiet", "--user=root");
    await until(() => this.run("squeue", "--noheader") === "", { timeoutMs: 30_000, what: "Slurm's queue to be empty" });
  }
  async stop() {
    try {
      await this.clear();
    } catch (error) {
      console.error(error.message);
    }
    for (const child of this.daemons.reverse()) {
      child.kill("SIGTERM");
      const ended = child.exitCode !== null || child.signalCode !== null || once(child, "exit");
      await Promise.race([ended, sleep(5000)]);
      child.kill("SIGKILL");
    }
    if (process.env.RACKMARK_KEEP) console.error(`kept ${this.folder}`);
    else await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
  log(name) {
    return readFile(this.in("log", name), "utf8");
  }
}

export async function startSlurm({ nodes = 2 } = {}) {
  const slurm = new Slurm(await mkdtemp(path.join(tmpdir(), "rackmark-slurm-")), nodes);
  try {
    return await slurm.build();
  } catch (error) {
    await slurm.stop();
    throw error;
  }
}
