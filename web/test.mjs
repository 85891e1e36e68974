// Unit tests: every src/**/*.test.ts, bundled by esbuild, run by node:test.
import * as esbuild from "esbuild";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));

async function testsIn(dir) {
  const found = [];
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    const file = path.join(dir, entry.name);
    if (entry.isDirectory()) found.push(...(await testsIn(file)));
    else if (/\.test\.tsx?$/.test(entry.name)) found.push(file);
  }
  return found;
}

const out = await mkdtemp(path.join(tmpdir(), "rackmark-web-test-"));
try {
  await esbuild.build({
    entryPoints: await testsIn(path.join(here, "src")),
    outdir: out,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node18",
    jsx: "automatic",
    jsxImportSource: "preact",
    sourcemap: "inline",
    logLevel: "warning",
  });
  const files = (await readdir(out, { recursive: false })).filter((f) => f.endsWith(".mjs")).map((f) => path.join(out, f));
  const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit" });
  process.exitCode = run.status ?? 1;
} finally {
  await rm(out, { recursive: true, force: true });
}
