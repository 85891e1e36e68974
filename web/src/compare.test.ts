import assert from "node:assert/strict";
import { test } from "node:test";
import { choices, conditions, differences, flat, inSpec, resolveSpec, sentence, side, sidesByClass, sidesByLabel, specOf, unlike, verdictOf, whyLeftOut } from "./compare";
import { cutMiddle } from "./components/options";
import type { RankTime, ResultView, StepStatistics } from "./contract";
import { metricNamed, metrics, metricsOf, throughput } from "./metrics";
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
    exchange: "all_reduce",
    fingerprint: "f",
    rank_times: [{ rank: 0, host: "host-1" } as RankTime],
    input_kind: "synthetic",
    image_size: 224,
    backend: "onednn",
    ranks: 1,
    threads_per_worker: 2,
    step: { count: 100, mean_ms: 100, standard_error_ms: 0.5 } as StepStatistics,
    validity: { verdict: "clean", causes: [], not_checked: [] },
    environment: { versions: { onednn: "2.6.3" } },
    inference: null,
    ...more,
  }) as ResultView;
const what = { model: "resnet50", mode: "training", conditions: "batch 16, fp32" };

test("the sentence says how much faster and how sure", () => {
  const sides = sidesByClass([result(10, "slow"), result(20, "fast")]);
  assert.deepEqual(sides.map((s) => s.name), ["fast", "slow"]);
  assert.match(sentence(sides, what), /^fast trains ResNet-50 2\.00× \(1\.97× to 2\.03×\) as fast as slow at batch 16, fp32\. One run a side; runs may differ by more than their steps do, use repetitions\.$/);
  const runs = (rate: number, name: string) => [0.99, 1, 1.01].map((share) => result(rate * share, name));
  assert.match(sentence(sidesByClass([...runs(10, "slow"), ...runs(20, "fast")]), what), /^fast trains ResNet-50 2\.00× .* as fast as slow at batch 16, fp32\.$/);
  assert.match(sentence(sidesByClass([...runs(10, "slow"), result(20, "fast")]), what), / One run only: fast; runs may differ/);
});

test("what is not the same work has no ratio, what is done otherwise is named, and so is a verdict", () => {
  const suspect = { validity: { verdict: "suspect", causes: ["steal time 4 %"] } as unknown as ResultView["validity"] };
  const sides = [side("job 1", [result(64, "a", { image_size: 64 })]), side("job 8", [result(10, "a")]), side("job 9", [], "lost")];
  assert.equal(sentence(sides, null), "Not comparable, the sides differ in image size (64, 224): job 1 64.00 img/s, job 8 10.00 img/s.");
  assert.deepEqual(unlike(sides.slice(1)), []);
  const told = sentence([side("job 1", [result(20, "a", { precision: "bf16", ...suspect })]), side("job 2", [result(10, "a")])], what);
  assert.match(told, /2\.00× .* They differ in precision \(bf16, fp32\)\..* Suspect, see the verdicts below: job 1\.$/);
  assert.deepEqual(verdictOf(side("a", [result(1, "a"), result(1, "a", suspect)])), { verdict: "suspect", causes: ["steal time 4 %"] });
  assert.equal(verdictOf(side("a", [])), null);
  assert.equal(conditions(specOf(result(1, "a"))), "batch 16, image size 224, fp32, all reduce, synthetic input");
});

test("what is not significant is said so", () => {
  assert.match(sentence(sidesByClass([result(10, "a"), result(10.1, "a"), result(10.05, "b"), result(10.06, "b")]), what), /do not differ significantly at batch 16, fp32: 1\.000× \(0\.9\d+× to 1\.0\d+×\)/);
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
  assert.match(text, /^a trains ResNet-50 2\.00× .* as fast as b at batch 16, fp32; 4\.00× .* as fast as c\. One run a side;/);
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

test("a side is one measurement: repetitions are pooled, what measured something else is left out and named", () => {
  const old = { fingerprint: "old", job_id: 7, ranks: 2, environment: { versions: { onednn: "2.6.3" } } };
  const all = [result(21, "a"), result(20, "a"), result(40, "a", old), result(22, "a"), result(5, "b")];
  const [a, b] = sidesByClass(all);
  assert.deepEqual([a!.results.length, a!.others.length, a!.interval!.runs, a!.interval!.value], [3, 1, 3, 21]);
  assert.deepEqual(whyLeftOut(a!), ["workers"]);
  assert.deepEqual([b!.others.length, whyLeftOut(b!)], [0, []]);
  assert.deepEqual(sidesByClass(all, true).map((s) => [s.name, s.interval!.value]), [["a, job 7", 40], ["a, job 1", 21], ["b", 5]]);
  assert.deepEqual(whyLeftOut(side("job 1", [result(10, "a"), result(20, "b", { fingerprint: "of b" })])), ["device class"]);
  const invalid = { fingerprint: "new", validity: { verdict: "invalid" as const, causes: [], not_checked: [] } };
  assert.equal(side("a", [result(99, "a", invalid), result(10, "a")]).interval!.value, 10);
});

test("one agent and several are different measurements, workers of a host are its own affair", () => {
  const rank = (host: string) => ({ host }) as RankTime;
  const two = result(20, "a", { ranks: 2, rank_times: [rank("host-1"), rank("host-2")] });
  const one = result(10, "a", { ranks: 2, rank_times: [rank("host-1"), rank("host-1")] });
  assert.deepEqual([specOf(two).agents, specOf(one).agents], [2, 1]);
  assert.ok(!inSpec(two, specOf(one)) && inSpec(result(1, "b", { ranks: 8 }), specOf(one)));
  assert.deepEqual(choices([two, one], {}, "agents"), [["1", 1], ["2", 1]]);
});

test("runs of one side that differ among themselves are told, and so are drivers", () => {
  const gpus = (driver: string) => ({ environment: { agent: { gpus: [{ name: "H200", driver }, { name: "H200", driver }] } } });
  const one = sidesByClass([result(10, "a", gpus("580.65")), result(11, "a", gpus("575.51"))]);
  assert.deepEqual(differences(one).map((d) => [d.what, d.values.map((v) => v.value)]), [["GPU driver", ["575.51 and 580.65"]]]);
});

test("sides by a label of their agents; one of two device classes is two sides", () => {
  const fleets: Record<number, string> = { 1: "new", 2: "new", 3: "old" };
  const on = (agent_id: number, device_class: string) => result(10 * agent_id, device_class, { agent_id });
  const names = (all: ResultView[]) => sidesByLabel(all, (r) => fleets[r.agent_id], "fleet", false, throughput).map((s) => s.name);
  assert.deepEqual(names([on(3, "c"), on(1, "a"), on(4, "a")]), ["without fleet", "fleet=old", "fleet=new"]);
  assert.deepEqual(names([on(1, "a"), on(2, "b")]), ["fleet=new, b", "fleet=new, a"]);
});

test("sides by latency and per watt: what is better leads, one run tells no spread, nobody has a number without a counter", () => {
  const served = (p50_ms: number) => ({ mode: "inference", inference: { latency: { p50_ms } } }) as Partial<ResultView>;
  const p50 = metricNamed("latency_p50_ms");
  const sides = sidesByClass([result(10, "slow", served(30)), result(20, "fast", served(15))], false, p50);
  const text = "fast runs ResNet-50 at 0.500× the p50 latency of slow at batch 16, fp32, with too few samples to say how sure that is.";
  assert.equal(sentence(sides, { ...what, mode: "inference" }, p50), text);
  assert.deepEqual(sidesByClass([result(10, "a")], false, p50).map((s) => s.why), ["no latency: not inference, or batches overlapped (input.overlap)"]);
  const overlapped = { mode: "inference", inference: { latency: null } } as Partial<ResultView>;
  assert.equal(sidesByClass([result(10, "a", overlapped)], false, p50)[0]!.interval, null);
  const watts = result(20, "a", { images_per_second_per_watt: 4, inference: null, peak_gpu_memory_bytes: null });
  assert.deepEqual(metricsOf([watts]).map((m) => m.short), ["Throughput", "Per watt"]);
  assert.equal(metrics[1]!.show(4), "4.00 img/s/W");
});

test("what a host with GPUs computed on its CPU is no side of its GPUs", () => {
  const environment = { agent: { gpus: [{ driver: "580.65" }] } };
  const sides = sidesByClass([result(10, "h200", { device: "cpu", environment }), result(900, "h200", { device: "gpu", environment, fingerprint: "g" }), result(9, "a", { device: "cpu" })]);
  assert.deepEqual(sides.map((s) => s.name), ["h200", "h200, on its CPU", "a"]);
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

test("long names are cut in the middle", () => {
  assert.deepEqual(["short", "cpu 1x AuthenticAMD-25-1-1 avx2 2c another class"].map((n) => cutMiddle(n, 19)), ["short", "cpu 1x…nother class"]);
});
