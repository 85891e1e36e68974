// Every model in every mode and precision, through REST: what the spec does not refuse by name runs.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startFleet } from "../support/fleet.mjs";

let fleet, fields, models;
before(async () => {
  fleet = await startFleet({ agents: 2 });
  fields = (await fleet.api("GET", "/api/v1/spec")).body.fields;
  models = (await fleet.api("GET", "/api/v1/models")).body.items;
});
after(() => fleet?.stop());

const values = (path) => fields.find((f) => f.path === path).values;

// What this version refuses, and for which member. Everything else must run.
function refusedMember(mode, precision) {
  if (mode === "accuracy") return "mode";
  if (["tf32", "fp16"].includes(precision)) return "precision"; // GPUs only
  if (precision === "int8" && mode === "training") return "precision";
  return null;
}

// As small as the model allows: this shows that it runs, not how fast.
const smallSpec = (model, mode, precision) => ({
  model: model.name,
  mode,
  precision,
  batch_size: 2,
  image_size: model.minimum_image_size,
  steps: { warmup: 1, measured: 2 },
  resources: { threads_per_worker: 1 },
});

test("the models are all there", () => {
  assert.deepEqual(
    models.map((m) => m.name).sort(),
    ["alexnet", "catsdogs_deep", "catsdogs_improved", "catsdogs_original", "cifar10", "googlenet", "inception_v3", "resnet50"],
  );
  assert.ok(models.every((m) => m.available));
});

test("what is refused is refused by the member at fault", async () => {
  for (const mode of values("mode"))
    for (const precision of values("precision")) {
      const member = refusedMember(mode, precision);
      if (member === null) continue;
      const reply = await fleet.api("POST", "/api/v1/jobs", smallSpec(models[0], mode, precision));
      assert.equal(reply.status, 422, `${mode} ${precision}`);
      assert.ok(reply.body.errors.some((e) => e.field === member && e.allowed), JSON.stringify(reply.body));
    }
});

test("everything else runs and has a result", { timeout: 900_000 }, async () => {
  const jobs = [];
  for (const model of models)
    for (const mode of values("mode"))
      for (const precision of values("precision"))
        if (refusedMember(mode, precision) === null) {
          const spec = smallSpec(model, mode, precision);
          jobs.push({ what: `${model.name} ${mode} ${precision}`, mode, precision, id: (await fleet.submit(spec)).id });
        }
  assert.ok(jobs.length >= models.length * 3, `${jobs.length} jobs`);
  for (const { what, mode, precision, id } of jobs) {
    const job = await fleet.waitForJob(id, { timeoutMs: 600_000 });
    assert.equal(job.state, "succeeded", `${what}: ${JSON.stringify(job.runs.at(-1))}`);
    const { result } = job.runs.at(-1);
    assert.ok(result.images === 4 && result.images_per_second > 0, what);
    assert.equal(result.precision, precision, what);
    assert.equal(Number.isFinite(result.first_loss), mode === "training", what);
    assert.equal(result.inference?.agreement?.cosine > 0.5, mode === "inference" && precision !== "fp32", what);
  }
});
