// Real processes for tests that need a whole service: one controller and any number of agents, on
// loopback, on free ports, in a temporary folder of their own.
//
//   const fleet = await startFleet({ agents: 1, leaseS: 6 });
//   const job = await fleet.api("POST", "/api/v1/jobs", smallJob());
//   await fleet.waitForJob(job.body.id);
//   await fleet.stop();                       // ends every process and removes the folder
//
// Programs are taken from RACKMARK_BIN (default build/release/bin), the web view from RACKMARK_WEB
// (default the folder web beside bin, else web/dist). RACKMARK_KEEP=1 keeps the folder and its logs.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const sourceDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
export const binDir = path.resolve(process.env.RACKMARK_BIN ?? path.join(sourceDir, "build/release/bin"));
export const webDir = path.resolve(
  process.env.RACKMARK_WEB ??
    [path.join(binDir, "../web"), path.join(sourceDir, "web/dist")].find((d) => existsSync(path.join(d, "index.html"))) ??
    path.join(binDir, "../web"),
);

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Polls `probe` until it gives something other than undefined, null or false; throws with `what`
// (text, or a function that describes the last state) after `timeoutMs`.
export async function until(probe, { timeoutMs = 20_000, everyMs = 50, what = "the condition" } = {}) {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== null && value !== false) return value;
    if (Date.now() > end) throw new Error(`waited ${timeoutMs} ms for ${typeof what === "function" ? what() : what}`);
    await sleep(everyMs);
  }
}

// A ResNet-50 training job that takes seconds on any host; one thread, so that a busy host slows it
// down in proportion and no more.
export function smallJob(overrides = {}) {
  return {
    model: "resnet50",
    batch_size: 2,
    image_size: 64,
    ...overrides,
    steps: { warmup: 2, measured: 20, ...overrides.steps },
    resources: { threads_per_worker: 1, ...overrides.resources },
  };
}

// One child process with its output in a file, so that a full pipe can never stop it.
class Program {
  // `enter`: words to put before the command, such as those that lead into another network.
  constructor(name, file, args, logFile, env, enter = []) {
    Object.assign(this, { name, file, args, logFile, env, enter });
    this.child = null;
  }

  async start() {
    if (!existsSync(this.file)) throw new Error(`${this.file} is missing: build it, or set RACKMARK_BIN`);
    const log = await open(this.logFile, "a");
    const [program, ...args] = [...this.enter, this.file, ...this.args];
    this.child = spawn(program, args, { stdio: ["ignore", log.fd, log.fd], env: { ...process.env, ...this.env } });
    this.exited = once(this.child, "exit").then(([code, signal]) => (this.end = { code, signal }));
    this.end = null;
    await once(this.child, "spawn");
    await log.close();
  }

  get pid() {
    return this.child?.pid;
  }
  get running() {
    return this.child !== null && this.end === null;
  }
  async log() {
    return readFile(this.logFile, "utf8").catch(() => "");
  }

  // SIGKILL, as a crash would.
  async kill() {
    if (!this.running) return;
    this.child.kill("SIGKILL");
    await this.exited;
  }

  // Orderly; SIGKILL after `timeoutMs`. Gives {code, signal}.
  async stop(timeoutMs = 10_000) {
    if (!this.running) return this.end;
    this.child.kill("SIGTERM");
    const late = setTimeout(() => this.child.kill("SIGKILL"), timeoutMs);
    await this.exited;
    clearTimeout(late);
    return this.end;
  }
}

export class Fleet {
  constructor(dir, options) {
    this.dir = dir;
    this.options = options;
    this.agents = [];
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  // Starts the controller on a free port, or, the second time, on the port it had: with the same
  // state folder, which is what a restart is.
  async startController() {
    const portFile = path.join(this.dir, "port");
    await rm(portFile, { force: true });
    this.controller = new Program(
      "controller",
      path.join(binDir, "rackmark-controller"),
      [
        "--listen", `${this.options.listen}:${this.port ?? 0}`,
        "--port-file", portFile,
        "--state", path.join(this.dir, "controller"),
        "--web", this.options.web,
        "--lease-s", String(this.options.leaseS),
        ...this.options.controllerArgs,
      ],
      path.join(this.dir, "controller.log"),
      this.options.env,
    );
    await this.controller.start();
    this.port = await until(
      async () => {
        if (!this.controller.running) {
          throw new Error(`the controller ended at once: ${JSON.stringify(this.controller.end)}\n${await this.controller.log()}`);
        }
        const text = await readFile(portFile, "utf8").catch(() => "");
        const port = /(\d+)\s*$/.exec(text)?.[1];
        return port && text.endsWith("\n") ? Number(port) : port && (await sleep(20), Number(port));
      },
      { what: "the controller's port file" },
    );
    await until(() => fetch(`${this.url}/readyz`).then((r) => r.ok).catch(() => false), { what: "the controller to be ready" });
  }

  // Kills the controller (SIGKILL unless `orderly`) and starts it again on the same port and state.
  async restartController({ orderly = false, downMs = 0 } = {}) {
    await (orderly ? this.controller.stop() : this.controller.kill());
    await sleep(downMs);
    await this.startController();
  }

  // Enrols and starts one more agent; gives its Program, with `name` and `stateDir`. With
  // `addressSpaceBytes` it, and all that it starts, may reserve no more memory than that.
  async startAgent({ name = `host-${this.agents.length + 1}`, dataRoot, args = [], enter = [], addressSpaceBytes } = {}) {
    const token = await this.api("POST", "/api/v1/enrolment-tokens", { valid_s: 600 });
    if (token.status !== 201) throw new Error(`no enrolment token: ${token.status} ${JSON.stringify(token.body)}`);
    const tokenFile = path.join(this.dir, `${name}.token`);
    await writeFile(tokenFile, token.body.token + "\n", { mode: 0o600 });
    const stateDir = path.join(this.dir, name);
    const root = dataRoot ?? this.options.dataRoot ?? path.join(this.dir, "data");
    await mkdir(root, { recursive: true });
    const file = path.join(binDir, "rackmark-agent");
    const all = ["--controller", this.options.agentUrl?.(this.port) ?? this.url, "--state", stateDir, "--name", name, "--enrol-token-file", tokenFile, "--data-root", root, ...this.options.agentArgs, ...args];
    const limit = addressSpaceBytes === undefined ? [] : ["/usr/bin/prlimit", `--as=${addressSpaceBytes}`];
    const agent = new Program(
      `agent ${name}`,
      file,
      all,
      path.join(this.dir, `${name}.log`),
      this.options.env,
      [...enter, ...limit],
    );
    agent.agentName = name;
    agent.stateDir = stateDir;
    this.agents.push(agent);
    await agent.start();
    await until(
      async () => {
        if (!agent.running) throw new Error(`agent ${name} ended at once: ${JSON.stringify(agent.end)}\n${await agent.log()}`);
        const list = await this.api("GET", "/api/v1/agents");
        return list.body.items.find((a) => a.name === name && a.state === "idle");
      },
      { what: `agent ${name} to be idle` },
    );
    return agent;
  }

  // Gives {status, headers, body}; body is parsed JSON where it is JSON. Never throws on a status.
  async api(method, path_, body, headers = {}) {
    const reply = await fetch(this.url + path_, {
      method,
      headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
    });
    const text = await reply.text();
    const isJson = (reply.headers.get("content-type") ?? "").includes("json");
    return { status: reply.status, headers: reply.headers, body: isJson ? JSON.parse(text) : text };
  }

  async submit(spec) {
    const reply = await this.api("POST", "/api/v1/jobs", spec);
    if (reply.status !== 201) throw new Error(`refused: ${reply.status} ${JSON.stringify(reply.body)}`);
    return reply.body;
  }

  async job(id) {
    return (await this.api("GET", `/api/v1/jobs/${id}`)).body;
  }

  // Until the job is in one of `states` (default: over). Gives the JobView with its runs. Survives a
  // controller that is away for a while.
  async waitForJob(id, { states = ["succeeded", "failed", "cancelled"], timeoutMs = 300_000 } = {}) {
    let last;
    return until(
      async () => {
        last = await this.job(id).catch(() => last);
        return last && states.includes(last.state) && last;
      },
      { timeoutMs, everyMs: 200, what: () => `job ${id} to be ${states.join(" or ")}; it is ${last?.state} (${last?.detail ?? ""})` },
    );
  }

  async stop() {
    await Promise.all(this.agents.map((a) => a.stop()));
    await this.controller?.stop();
    if (process.env.RACKMARK_KEEP) console.error(`kept ${this.dir}`);
    else await rm(this.dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

export async function startFleet(options = {}) {
  const dir = await mkdtemp(path.join(tmpdir(), "rackmark-test-"));
  const fleet = new Fleet(dir, { agents: 1, leaseS: 10, listen: "127.0.0.1", web: webDir, controllerArgs: [], agentArgs: [], env: {}, ...options });
  try {
    await fleet.startController();
    for (let i = 0; i < fleet.options.agents; ++i) await fleet.startAgent();
  } catch (error) {
    await fleet.stop();
    throw error;
  }
  return fleet;
}
