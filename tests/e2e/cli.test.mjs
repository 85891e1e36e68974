// The command line as people and scripts use it: texts, files and exit statuses.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { binDir, smallJob, sourceDir, startFleet } from "../support/fleet.mjs";

let fleet;
before(async () => (fleet = await startFleet({ agents: 1 })));
after(() => fleet?.stop());

// {code, out, err} of `rackmark ARGS`
const rackmark = (args, { url = fleet.url, stdin } = {}) =>
  new Promise((done) => {
    const child = execFile(path.join(binDir, "rackmark"), args, { env: { ...process.env, RACKMARK_CONTROLLER: url }, timeout: 300_000 }, (error, out, err) =>
      done({ code: error ? (error.code ?? error.signal) : 0, out, err }),
    );
    if (stdin !== undefined) child.stdin.end(stdin);
  });
const worker = (args) =>
  new Promise((done) =>
    execFile(path.join(binDir, "rackmark-worker"), args, { timeout: 300_000 }, (error, out, err) => done({ code: error ? (error.code ?? error.signal) : 0, out, err })),
  );

test("submit a file, watch it, and exit 0 with the headline", async () => {
  const file = path.join(fleet.dir, "spec.json");
  await writeFile(file, JSON.stringify(smallJob()));
  const { code, out, err } = await rackmark(["submit", "-f", file, "--watch"]);
  assert.equal(code, 0, out + err);
  assert.match(out, /\d+(\.\d+)? img\/s/);
  assert.match(out, /n=1/);
});

test("the founding command line is one worker with a colocated server, labelled so", async () => {
  const flags = "--num_gpus=1 --model=resnet50 --variable_update=parameter_server";
  const { code, out, err } = await rackmark(["submit", "--json", "--tf", `${flags} --batch_size=2 --num_warmup_batches=1 --num_batches=3 --device=cpu`]);
  assert.equal(code, 0, err);
  const job = await fleet.waitForJob(JSON.parse(out).id);
  assert.equal(job.state, "succeeded", JSON.stringify(job.runs));
  assert.equal(job.variable_update, "parameter_server");
  assert.equal(job.runs[0].result.variable_update, "parameter_server");
  assert.match(job.runs[0].result.exchange, /parameter_server \(1 worker, colocated server\)/);
  // the line alone, as it was written in the founding report
  const dry = await rackmark(["submit", "--dry-run", "--json", "--tf", flags]);
  assert.equal(dry.code, 0, dry.err);
  const spec = JSON.parse(dry.out).spec_resolved;
  assert.deepEqual([spec.model, spec.variable_update, spec.resources.workers_per_agent, spec.steps.measured], ["resnet50", "parameter_server", 1, 100]);
});

test("a dedicated server is one more process, and the answer says where a step's time went", async () => {
  const { code, out, err } = await rackmark([
    "submit", "--model", "cifar10", "--batch_size", "8", "--steps.warmup", "1", "--steps.measured", "6", "--optimizer.learning_rate", "0.001",
    "--variable_update", "parameter_server", "--parameter_server.placement", "dedicated", "--resources.workers_per_agent", "1", "--resources.threads_per_worker", "1", "--watch",
  ]);
  assert.equal(code, 0, out + err);
  assert.match(out, /exchange: parameter_server \(1 worker, dedicated server\)/);
  assert.match(out, /exposed communication/);
});

test("an unknown tf flag is refused by name, exit 2", async () => {
  const { code, err } = await rackmark(["submit", "--tf", "--model=resnet50 --frobnicate=3"]);
  assert.equal(code, 2);
  assert.match(err, /frobnicate/);
});

test("a wrong spec: exit 2 and one clear line per field", async () => {
  const { code, err } = await rackmark(["submit", "-f", "-"], { stdin: '{"model":"resnet5","batch_size":0}' });
  assert.equal(code, 2, err);
  assert.match(err, /model.*resnet50/);
  assert.match(err, /batch_size.*0/);
});

test("an unreachable controller: exit 7 and the address", async () => {
  const { code, err } = await rackmark(["jobs"], { url: "http://127.0.0.1:9" });
  assert.equal(code, 7);
  assert.match(err, /127\.0\.0\.1:9/);
  assert.equal(err.trim().split("\n").length, 1);
});

test("out of memory is exit 3, cancelled is exit 4", async () => {
  const oom = await rackmark(["submit", "--model", "resnet50", "--batch_size", "65536", "--watch"]);
  assert.equal(oom.code, 3, oom.out + oom.err);
  const long = JSON.parse((await rackmark(["submit", "--json", "--model", "resnet50", "--batch_size", "2", "--steps.measured", "5000"])).out);
  const watching = rackmark(["watch", String(long.id)]);
  assert.equal((await rackmark(["cancel", String(long.id)])).code, 0);
  assert.equal((await watching).code, 4);
});

test("jobs, show, logs, agents, export and rerun", async () => {
  const list = await rackmark(["jobs"]);
  assert.equal(list.code, 0);
  assert.match(list.out, /resnet50/);
  const jobs = JSON.parse((await rackmark(["jobs", "--json"])).out).items;
  const good = jobs.find((j) => j.state === "succeeded");
  const show = await rackmark(["show", String(good.id)]);
  assert.equal(show.code, 0);
  assert.match(show.out, /img\/s/);
  assert.equal((await rackmark(["show", "999999"])).code !== 0, true);
  assert.equal((await rackmark(["logs", String(good.id)])).code, 0);
  const agents = await rackmark(["agents"]);
  assert.match(agents.out, /host-1/);
  const csv = (await rackmark(["export", "--format", "csv"])).out.trim().split("\n");
  const header = csv[0].split(",");
  assert.ok(header.includes("images_per_second"), csv[0]);
  assert.ok(csv.length >= 2);
  const lines = (await rackmark(["export", "--format", "jsonl"])).out.trim().split("\n").map((l) => JSON.parse(l));
  assert.equal(lines.length, csv.length - 1);
  const rerun = await rackmark(["rerun", String(good.id), "--json"]);
  assert.equal(rerun.code, 0, rerun.err);
  const again = JSON.parse(rerun.out);
  assert.equal(again.rerun_of, good.id);
  const original = await fleet.job(good.id);
  assert.deepEqual((await fleet.waitForJob(again.id)).spec_resolved, original.spec_resolved);
});

test("the worker alone: a spec file runs without any service", async () => {
  const file = path.join(fleet.dir, "alone.json");
  await writeFile(file, JSON.stringify(smallJob({ steps: { warmup: 1, measured: 3 } })));
  const { code, out, err } = await worker(["run", "--spec", file]);
  assert.equal(code, 0, err);
  const events = out.trim().split("\n").map((l) => JSON.parse(l));
  assert.equal(events[0].type, "hello");
  assert.equal(events.at(-1).type, "summary");
  assert.equal(events.at(-1).images, 6);
  await writeFile(file, '{"model":"resnet50","bach_size":3}');
  const bad = await worker(["run", "--spec", file]);
  assert.equal(bad.code, 2);
  assert.match(bad.err, /bach_size/);
  assert.equal(bad.out, "");
});

test("packed pictures: decoded once, then read in random windows, without a decoder", async () => {
  const out = path.join(fleet.dir, "packed");
  const pictures = path.join(sourceDir, "tests/golden/pictures");
  const packing = await worker(["pack", "--pictures", pictures, "--side", "72", "--out", out, "--shard-pictures", "9"]);
  assert.equal(packing.code, 0, packing.err);
  assert.match(packing.out, /^packed \d+ pictures of 4 classes, 72 x 72, \d+ shards/);
  assert.equal((await worker(["pack", "--check", out])).code, 0);
  const twice = await worker(["pack", "--pictures", pictures, "--out", out]);
  assert.deepEqual([twice.code, twice.out], [2, ""]);
  assert.match(twice.err, /nothing is overwritten/);
  assert.equal((await worker(["pack", "--out", out])).code, 2);
  assert.match((await worker(["pack", "--check", out, "--side", "72"])).err, /--(check|side) excludes --(check|side)/);

  const file = path.join(fleet.dir, "packed.json");
  const input = { kind: "packed", path: out, augment: { flip: true, crop: true } };
  const run = async (changes) => {
    await writeFile(file, JSON.stringify(smallJob({ batch_size: 4, steps: { warmup: 1, measured: 5 }, input, ...changes })));
    const { code, out: lines, err } = await worker(["run", "--spec", file]);
    return { code, err, events: lines.trim().split("\n").map((l) => JSON.parse(l)) };
  };
  const losses = async () => {
    const { code, err, events } = await run({});
    assert.equal(code, 0, err);
    assert.equal(events[0].libraries.libjpeg_turbo, undefined);
    assert.equal(events[0].notes["side of pictures"], "72");
    const { pictures_read, pictures_broken, first_loss, final_loss } = events.at(-1);
    assert.ok(pictures_read >= 24 && pictures_broken === 0, JSON.stringify(events.at(-1)));
    return [first_loss, final_loss];
  };
  assert.deepEqual(await losses(), await losses(), "the same windows in two runs");
  const { code, events } = await run({ image_size: 96 });
  assert.equal(code, 1);
  const failure = events.find((e) => e.type === "failure");
  assert.equal(failure.reason, "input_unavailable");
  assert.match(failure.detail, /72 x 72 pixels, smaller than image_size = 96/);
});

test("the worker prints tf_cnn_benchmarks' lines, and exactly one total", async () => {
  const file = path.join(fleet.dir, "tf.json");
  await writeFile(file, JSON.stringify(smallJob({ steps: { warmup: 1, measured: 12 } })));
  const { code, out, err } = await worker(["run", "--spec", file, "--output", "tf"]);
  assert.equal(code, 0, err);
  const lines = out.split("\n");
  assert.equal(lines.filter((l) => /^total images\/sec: \d+\.\d+$/.test(l)).length, 1, out);
  const steps = lines.filter((l) => /^\d+\timages\/sec: \d+\.\d \+\/- \d+\.\d \(jitter = \d+\.\d\)\t\d+\.\d{3}$/.test(l));
  assert.deepEqual(steps.map((l) => Number(l.split("\t")[0])), [1, 10]);
});
