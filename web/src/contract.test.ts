// The contract written by hand against the API's own description.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

interface Schema {
  properties?: Record<string, { type?: string | string[]; anyOf?: { type?: string }[] }>;
}
const schemas = JSON.parse(readFileSync("../tests/golden/api_v1.json", "utf8")).components.schemas as Record<string, Schema>;
// Queries, events of the stream, and shapes that are generic here.
const notInTheApi = ["Page", "JobQuery", "ResultQuery", "StepsEvent", "TelemetryEvent", "LogsEvent"];
const namedOtherwise: Record<string, string> = { ProblemBody: "Problem" };

const interfaces = [...readFileSync("src/contract.ts", "utf8").matchAll(/^export interface (\w+)(?:<T>)? \{\n([\s\S]*?)\n\}/gm)].map(([, name, body]) => ({
  name: name!,
  members: [...body!.matchAll(/^ {2}(\w+)\??: ([\s\S]*?);(?: \/\/.*)?$/gm)].map(([, member, type]) => ({ member: member!, type: type! })),
}));

test("every shape has the members of the API's, and null where the API may say null", () => {
  const wrong: string[] = [];
  for (const { name, members } of interfaces) {
    if (notInTheApi.includes(name)) continue;
    const schema = schemas[namedOtherwise[name] ?? name];
    if (!schema?.properties) {
      wrong.push(`${name} is no shape of the API`);
      continue;
    }
    const here = members.map((m) => m.member);
    for (const member of Object.keys(schema.properties)) if (!here.includes(member)) wrong.push(`${name}.${member} is missing here`);
    for (const { member, type } of members) {
      const there = schema.properties[member];
      if (!there) wrong.push(`${name}.${member} is not in the API`);
      const nullable = [there?.type ?? []].flat().includes("null") || (there?.anyOf ?? []).some((t) => t.type === "null");
      const takesNull = /\bnull$/.test(type);
      if (there && nullable !== takesNull && !/\bJson\b/.test(type)) wrong.push(`${name}.${member} is ${nullable ? "" : "not "}null in the API`);
    }
  }
  assert.deepEqual(wrong, []);
  assert.ok(interfaces.length > 40);
});
