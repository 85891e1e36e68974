import assert from "node:assert/strict";
import { test } from "node:test";
import type { SpecField } from "./contract";
import { applies, commandLine, fieldFor, onlyValue, parseValue, sectionOf, specOf, textOf, valuesOf } from "./spec_form";

const field = (path: string, more: Partial<SpecField> = {}): SpecField => ({
  path,
  type: "string",
  unit: "",
  default_value: null,
  default_text: "",
  values: [],
  values_now: [],
  minimum: null,
  maximum: null,
  applies_when: "",
  in_fingerprint: true,
  help: "",
  ...more,
});
const fields = [
  field("model"),
  field("mode", { type: "enum", default_value: "training", values: ["training", "inference", "accuracy"], values_now: ["training"] }),
  field("batch_size", { type: "integer_or_max", values_now: ["a number"] }),
  field("variable_update", { type: "enum", default_value: "all_reduce", applies_when: "mode is training or accuracy" }),
  field("parameter_server.servers", { type: "integer", default_value: 1, applies_when: "variable_update is parameter_server", values_now: ["1"] }),
  field("input.kind", { type: "enum", default_value: "synthetic" }),
  field("input.path", { applies_when: "input.kind is not synthetic" }),
  field("steps.measured", { type: "integer", default_value: 100 }),
  field("labels", { type: "map" }),
  field("repetitions", { type: "repetitions", default_value: 1 }),
  field("profile", { type: "boolean", default_value: false, values_now: ["false"] }),
];
const by = (path: string) => fields.find((f) => f.path === path)!;

test("which fields apply is read from the table's own words", () => {
  assert.ok(applies(by("variable_update"), fields, {}));
  assert.ok(!applies(by("variable_update"), fields, { mode: "inference" }));
  assert.ok(applies(by("variable_update"), fields, { mode: "accuracy" }));
  assert.ok(!applies(by("input.path"), fields, {}));
  assert.ok(applies(by("input.path"), fields, { "input.kind": "images" }));
  assert.ok(applies(by("parameter_server.servers"), fields, { variable_update: "parameter_server" }));
  assert.ok(!applies(by("parameter_server.servers"), fields, { variable_update: "parameter_server", mode: "inference" }), "its governing field does not apply");
  assert.ok(applies(field("x", { applies_when: "the moon is full, perhaps" }), fields, {}));
});

test("only what was set and applies is in the spec", () => {
  const spec = specOf(fields, { model: "resnet50", batch_size: "16", "steps.measured": " 20 ", "input.path": "/gone", labels: "team=vision, a=b=c" });
  assert.deepEqual(spec, { model: "resnet50", batch_size: 16, steps: { measured: 20 }, labels: { team: "vision", a: "b=c" } });
});

test("text that is no number goes to the controller as it is, to be refused there", () => {
  assert.equal(parseValue(by("steps.measured"), "many"), "many");
  assert.equal(parseValue(by("batch_size"), "max"), "max");
  assert.equal(parseValue(by("profile"), "true"), true);
  assert.deepEqual(parseValue(by("repetitions"), '{"max": 5}'), { max: 5 });
  assert.equal(parseValue(by("repetitions"), '{"max"'), '{"max"');
  assert.equal(parseValue(by("repetitions"), "3"), 3);
});

test("a spec fills the form and comes back equal", () => {
  const spec = { model: "resnet50", batch_size: "max", steps: { measured: 7 }, labels: { a: "b", c: "d" }, repetitions: { max: 5, min: 1 }, profile: true };
  assert.deepEqual(specOf(fields, valuesOf(fields, spec)), spec);
  assert.equal(textOf(by("labels"), { a: "b", c: "d" }), "a=b, c=d");
});

test("a problem finds its field or the one that holds it", () => {
  const problem = (path: string) => ({ field: path, value: null, allowed: "", detail: "" });
  assert.equal(fieldFor(problem("steps.measured"), fields), "steps.measured");
  assert.equal(fieldFor(problem("repetitions.max"), fields), "repetitions");
  assert.equal(fieldFor(problem("labels.a b"), fields), "labels");
  assert.equal(fieldFor(problem("nonsense"), fields), null);
});

test("a field with one runnable value is stated, not asked", () => {
  assert.equal(onlyValue(by("mode")), "training");
  assert.equal(onlyValue(by("parameter_server.servers")), "1");
  assert.equal(onlyValue(by("profile")), "false");
  assert.equal(onlyValue(by("batch_size")), null);
  assert.equal(onlyValue(field("loss_scale", { available: false })), "not in this version");
  assert.equal(sectionOf("steps.measured").title, "How long");
  assert.equal(sectionOf("retries").title, "Name, limits and the rest");
});

test("the command line has one option a field, quoted for a shell", () => {
  const spec = { model: "resnet50", steps: { measured: 20 }, labels: { team: "a b", x: "y" }, repetitions: { max: 5 } };
  assert.equal(
    commandLine(fields, spec, "http://127.0.0.1:8780"),
    [
      "rackmark --controller http://127.0.0.1:8780 submit --watch",
      "--model resnet50",
      "--steps.measured 20",
      "--labels 'team=a b'",
      "--labels x=y",
      `--repetitions '{"max":5}'`,
    ].join(" \\\n  "),
  );
});
