// A GPU agent without a GPU: a stand-in for NVIDIA's driver library says that there is one, so that
// inventory, placement, CUDA_VISIBLE_DEVICES, telemetry, energy and verdict are seen from end to end.
// What computes is nothing (there is no usable CUDA backend here), or under the name of that backend the
// plain loops, or all of its plans with convolutions as plain loops.
import assert from "node:assert/strict";
import { copyFile, cp, mkdir, mkdtemp, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";
import { binDir, sourceDir, startFleet } from "../support/fleet.mjs";

const testsDir = path.join(binDir, "../tests");
const cards = (more = "") =>
  ["GPU-aaaa", "GPU-bbbb"]
    .map((uuid) => `uuid=${uuid} name=Stand-in memory=85899345920 used=4000000000 busy=90 power_mw=300000 energy=1 temperature=64 sm_mhz=1980 memory_mhz=2619 ecc_corrected=0 ${more}`)
    .join("\n");
const job = (more = {}) => ({ model: "cifar10", batch_size: 2, steps: { warmup: 1, measured_seconds: 2.5 }, ...more, resources: { device: "gpu", threads_per_worker: 1, ...more.resources } });

let fleet, driver;
before(async () => {
  fleet = await startFleet({ agents: 0 });
  driver = path.join(fleet.dir, "driver");
  await mkdir(driver);
  await copyFile(path.join(testsDir, "support/libnvidia-ml.so.1"), path.join(driver, "libnvidia-ml.so.1"));
  await writeFile(path.join(driver, "gpus.txt"), cards("reasons=4 ecc_uncorrected=0"));
});
after(() => fleet?.stop());

// The worker and its plug-ins, with this one in the place of the CUDA backend.
async function workerWith(plugin) {
  const folder = await mkdtemp(path.join(fleet.dir, "worker-"));
  for (const name of ["rackmark-worker", "librackmark-mpi.so", "librackmark-backend-onednn.so"]) await cp(path.join(binDir, name), path.join(folder, name));
  await copyFile(path.join(testsDir, "worker", plugin), path.join(folder, "librackmark-backend-cuda.so"));
  return path.join(folder, "rackmark-worker");
}

test("a GPU's job is placed where GPUs are, and never becomes a CPU's", async () => {
  fleet.options.env = { LD_LIBRARY_PATH: driver, CUDA_VISIBLE_DEVICES: "1" };
  await fleet.startAgent({ name: "no-backend" });
  const agent = (await fleet.api("GET", "/api/v1/agents")).body.items.find((a) => a.name === "no-backend");
  const { gpus, versions } = (await fleet.api("GET", `/api/v1/agents/${agent.id}`)).body.inventory;
  assert.deepEqual(gpus, [{ name: "Stand-in", uuid: "GPU-bbbb", driver: "580.65", memory_bytes: 85899345920 }]);
  assert.equal(versions.cuda_driver, "13.0");
  assert.equal(agent.device_class, "gpu 1x Stand-in");

  const failed = await fleet.waitForJob((await fleet.submit(job())).id);
  assert.equal(failed.state, "failed", JSON.stringify(failed.runs.at(-1)));
  assert.equal(failed.reason, "spec_unsupported");
  assert.match(failed.runs.at(-1).detail, /resources\.device gpu: backend 'cuda'.*CUDA_VISIBLE_DEVICES=GPU-bbbb/);
  assert.deepEqual(failed.agents, ["no-backend"]);
  assert.equal(failed.runs.length, 1, "it will not be there the next time either");
});

test("a worker on each GPU; telemetry, energy and the verdict are the GPUs'", async () => {
  await fleet.agents.at(-1).stop();
  fleet.options.env = { LD_LIBRARY_PATH: driver };
  await fleet.startAgent({ name: "gpus", args: ["--worker", await workerWith("plugins/librackmark-backend-testing.so")] });
  const submitted = (await fleet.submit(job({ resources: { selector: { name: "gpus" } } }))).id;
  await fleet.waitForJob(submitted, { states: ["running", "succeeded", "failed"] });
  const done = await fleet.waitForJob(submitted);
  assert.equal(done.state, "succeeded", JSON.stringify(done.runs.at(-1)));
  const { result } = done.runs.at(-1);
  assert.equal(result.ranks, 2);
  assert.deepEqual(result.rank_times.map((r) => r.gpu.uuid), ["GPU-aaaa", "GPU-bbbb"], "each rank has its own");
  // two cards of 300 W whose counters count just that
  assert.ok(Math.abs(result.power_w / 600 - 1) < 0.1, `${result.power_w} W`);
  assert.ok(Math.abs((result.joules_per_image * result.images) / result.window_s / result.power_w - 1) < 1e-6);
  assert.ok(Math.abs(result.images_per_second_per_watt * result.power_w - result.images_per_second) < 1e-6 * result.images_per_second);
  assert.equal(result.peak_gpu_memory_bytes, 4e9);
  const gpu = result.rank_times[0].gpu;
  assert.ok(gpu.readings >= 2 * result.window_s, `${gpu.readings} readings in ${result.window_s} s`);
  assert.deepEqual([gpu.throttled, gpu.ecc_uncorrected, gpu.max_temperature_c], [{ sw_power_cap: 1 }, 0, 64]);
  assert.ok(!result.validity.causes.some((c) => c.includes("GPU")), `the power limit is no cause: ${result.validity.causes}`);

  const { telemetry } = (await fleet.api("GET", `/api/v1/runs/${done.runs.at(-1).id}/steps`)).body;
  const one = telemetry.find((t) => t.rank === 1);
  assert.deepEqual([one.gpu_fraction, one.gpu_memory_bytes, one.power_w, one.temperature_c, one.clock_mhz, one.memory_clock_mhz, one.throttle_reasons], [0.9, 4e9, 300, 64, 1980, 2619, ["sw_power_cap"]]);
});

test("heat and memory errors are causes; a card without a counter has no energy, not 0", async () => {
  await writeFile(path.join(driver, "gpus.txt"), cards("reasons=0x40 ecc_uncorrected=5").replaceAll("power_mw=300000 energy=1 ", ""));
  const done = await fleet.waitForJob((await fleet.submit(job({ resources: { selector: { name: "gpus" }, workers_per_agent: 1 } }))).id);
  assert.equal(done.state, "succeeded", JSON.stringify(done.runs.at(-1)));
  const { result } = done.runs.at(-1);
  assert.deepEqual([result.power_w, result.joules_per_image, result.images_per_second_per_watt], [null, null, null]);
  assert.notEqual(result.validity.verdict, "clean");
  assert.ok(result.validity.causes.some((c) => /the GPU of rank 0 was slowed down by heat.*100\.0 % .*hw_thermal_slowdown/.test(c)), `${result.validity.causes}`);
});

test("int8 on a GPU says which layers it is, and how far it agrees with fp32", async () => {
  await fleet.agents.at(-1).stop();
  await fleet.startAgent({ name: "plans", args: ["--worker", await workerWith("cuda/plugins/librackmark-backend-cuda-on-host.so")] });
  const spec = { mode: "inference", precision: "int8", batch_size: 4, steps: { warmup: 1, measured: 5 } };
  const done = await fleet.waitForJob((await fleet.submit(job({ ...spec, resources: { selector: { name: "plans" }, workers_per_agent: 1 } }))).id);
  assert.equal(done.state, "succeeded", JSON.stringify(done.runs.at(-1)));
  const { agreement, notes } = done.runs.at(-1).result.inference;
  assert.ok(agreement.pictures >= 32 && agreement.cosine > 0.95 && agreement.cosine <= 1, JSON.stringify(agreement));
  assert.equal(notes["int8 layers"], "2 of 5; fp16: fc1, fc2, fc3");
  const { body, status } = await fleet.api("POST", "/api/v1/jobs", job({ precision: "int8" }));
  assert.equal(status, 422);
  assert.deepEqual(body.errors.map((e) => [e.field, e.allowed]), [["precision", "fp32, tf32, bf16, fp16 in training"]]);
});

test("JPEG files are decoded beside the CPU where the job says so; a broken one is the CPU's to name", async () => {
  const tree = path.join(fleet.dir, "data", "pictures");
  await cp(path.join(sourceDir, "tests/golden/pictures"), tree, { recursive: true });
  await truncate(path.join(tree, "waves/3.jpg"), 300);
  await copyFile(path.join(sourceDir, "tests/support/cmyk.jpg"), path.join(tree, "waves/cmyk.jpg"));
  const input = { kind: "images", path: tree, decode_device: "gpu" };
  const done = await fleet.waitForJob((await fleet.submit(job({ input, batch_size: 4, steps: { warmup: 2, measured: 8 }, resources: { selector: { name: "plans" }, workers_per_agent: 1 } }))).id);
  assert.equal(done.state, "succeeded", JSON.stringify(done.runs.at(-1)));
  const { result } = done.runs.at(-1);
  const { environment } = result;
  assert.equal(environment.worker.notes["pictures decoded by"], "whole_decoder 1");
  assert.equal(environment.worker.libraries.whole_decoder, "1");
  assert.deepEqual([result.pictures_left_to_cpu, result.broken_pictures], [1, ["waves/3.jpg"]]);
  const { body, status } = await fleet.api("POST", "/api/v1/jobs", job({ input, resources: { device: "cpu" } }));
  assert.deepEqual([status, body.errors?.[0].field], [422, "input.decode_device"]);
});

test("inference brings the next batch to the GPU while one is answered, unless latency is what is wanted", async () => {
  const tree = path.join(fleet.dir, "data", "whole");
  await cp(path.join(sourceDir, "tests/golden/pictures"), tree, { recursive: true });
  const infer = async (batch_size, overlap) => {
    const spec = { mode: "inference", batch_size, input: { kind: "images", path: tree, ...overlap }, steps: { warmup: 2, measured: 6 } };
    const done = await fleet.waitForJob((await fleet.submit(job({ ...spec, resources: { selector: { name: "plans" }, workers_per_agent: 1 } }))).id);
    assert.equal(done.state, "succeeded", JSON.stringify(done.runs.at(-1)));
    const { images_per_second, inference } = done.runs.at(-1).result;
    assert.ok(images_per_second > 0);
    return [done.spec_resolved.input.overlap, inference.latency?.count ?? null];
  };
  assert.deepEqual(await infer(4, {}), [true, null]);
  assert.deepEqual(await infer(4, { overlap: false }), [false, 6]);
  assert.deepEqual(await infer(1, {}), [false, 6]);
});

test("a profile on a GPU says which share convolutions alone would take, and what they do of the batch norms", async () => {
  const spec = { model: "resnet50", image_size: 64, classes: 10, batch_size: 4, precision: "fp16", loss_scale: 8, profile: true, steps: { warmup: 1, measured: 1 } };
  const fusion = "bn-relu-add+pool+conv-statistics+bn-in-conv";
  const done = await fleet.waitForJob((await fleet.submit(job({ ...spec, fusion, resources: { selector: { name: "plans" }, workers_per_agent: 1 } }))).id);
  assert.equal(done.state, "succeeded", JSON.stringify(done.runs.at(-1)));
  const { environment, convolution_bound_share: share } = done.runs.at(-1).result;
  assert.equal(environment.worker.notes.fusion, fusion);
  assert.equal(environment.worker.notes["bn-in-conv"], "32 of 32 batch norms, where that is faster");
  assert.ok(share > 0.2 && share < 1.5, `${share}`);
  const { body } = await fleet.api("GET", `/api/v1/runs/${done.runs.at(-1).id}/profile`);
  const kernels = body.profile.rows.map((row) => row.implementation);
  assert.equal(kernels.filter((name) => name === "norm_apply").length, 53 - 4 - 1 - 32); // two in one at a projection, one with the pool
  assert.ok(body.profile.convolution_bound_ms > 0);
});
