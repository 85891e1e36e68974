import assert from "node:assert/strict";
import { test } from "node:test";
import { choices, differences, flat, resolveSpec, sentence, side, sidesByClass } from "./compare";
import type { ResultView, StepStatistics } from "./contract";
import { match } from "./router";

const result = (images_per_second: number, device_class: string, more: Partial<ResultView> = {}): ResultView =>
  ({
    images_per_second,
    device_class,
    job_id: 1,
    model: "resnet50",
    mode: "training",
    precision: "fp32",
    batch_size: 16,
    variable_update: "all_reduce",
    input_kind: "synthetic",
    image_size: 224,
    backend: "onednn",
    ranks: 1,
    threads_per_worker: 2,
    step: { count: 100, mean_ms: 100, standard_error_ms: 0.5 } as StepStatistics,
    validity: { verdict: "clean", causes: [] },
    environment: { versions: { onednn: "2.6.3" } },
    ...more,
  }) as ResultView;
const what = { model: "resnet50", mode: "training", conditions: "batch 16, fp32" };

test("the sentence says how much faster and how sure", () => {
  const sides = sidesByClass([result(10, "slow"), result(20, "fast")]);
  assert.deepEqual(sides.map((s) => s.name), ["fast", "slow"]);
  assert.match(sentence(sides, what), /^fast trains ResNet-50 2\.00× \(1\.97× to 2\.03×\) as fast as slow at batch 16, fp32\.$/);
});

test("what is not significant is said so", () => {
  assert.match(sentence(sidesByClass([result(10, "a"), result(10.05, "b")]), what), /do not differ significantly at batch 16, fp32: 1\.005× \(0\.9\d+× to 1\.0\d+×\)/);
});

test("a side without a number says why, and nobody wins against it", () => {
  const sides = [side("a", [result(10, "a")]), side("titan", [], "out of memory")];
  assert.equal(sentence(sides, what), "a trains ResNet-50 at 10.00 img/s (batch 16, fp32). titan has no number: out of memory.");
  assert.equal(sentence([side("job 3", [], "lost")], what), "No side has a number: job 3: lost.");
  assert.equal(sentence([side("job 1", [result(10, "a")]), side("job 2", [], "lost")], what), "Job 1 trains ResNet-50 at 10.00 img/s (batch 16, fp32). Job 2 has no number: lost.");
  assert.equal(sentence([], what), "Nothing to compare yet.");
});

test("three sides: the lead over the second and over the last", () => {
  const text = sentence(sidesByClass([result(10, "c"), result(20, "b"), result(40, "a")]), what);
  assert.match(text, /^a trains ResNet-50 2\.00× .* as fast as b at batch 16, fp32; 4\.00× .* as fast as c\.$/);
});

test("differences besides hardware are listed with both values", () => {
  const sides = sidesByClass([result(10, "a"), result(20, "b", { threads_per_worker: 8, environment: { versions: { onednn: "3.4" }, cpu: { model: 1 } } })]);
  assert.deepEqual(
    differences(sides).map((d) => [d.what, d.values.map((v) => v.value)]),
    [
      ["threads per worker", ["8", "2"]],
      ["versions.onednn", ["3.4", "2.6.3"]],
    ],
  );
  assert.deepEqual(differences(sidesByClass([result(10, "a"), result(9, "b")])), []);
});

test("the address may say part of a spec: the newest result that fits fills in the rest", () => {
  const all = [result(10, "a", { batch_size: 32 }), result(10, "a")];
  assert.equal(resolveSpec(all, {})!.batch_size, 32);
  assert.equal(resolveSpec(all, { batch_size: "16" })!.batch_size, 16);
  assert.equal(resolveSpec(all, { batch_size: "64" }), null);
  assert.deepEqual(choices(all, {}, "batch_size").map(([v]) => v), ["16", "32"]);
});

test("nested facts are flattened, null is named", () => {
  assert.deepEqual([...flat({ a: { b: null, c: [1, 2] }, d: true })], [["a.b", "not available"], ["a.c", "1, 2"], ["d", "true"]]);
});

test("addresses", () => {
  assert.deepEqual(match("/jobs/:id", "/jobs/42"), { id: "42" });
  assert.equal(match("/jobs/:id", "/jobs/new"), null);
  assert.deepEqual(match("/jobs", "/jobs/"), {});
});
