// Bundles the view: index.html and hashed assets. `npm run build -- --outdir=DIR` (default: dist);
// --watch rebuilds on change, for developing.
import * as esbuild from "esbuild";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

const here = path.dirname(fileURLToPath(import.meta.url));
const args = process.argv.slice(2);
const wanted = args.find((a) => a.startsWith("--outdir="))?.slice("--outdir=".length);
const outdir = wanted ? path.resolve(process.env.INIT_CWD ?? process.cwd(), wanted) : path.join(here, "dist");
const unknown = args.find((a) => !a.startsWith("--outdir=") && a !== "--watch");
if (unknown) {
  console.error(`build: unknown argument ${unknown}; known are --outdir=DIR and --watch`);
  process.exit(2);
}

// The packed form beside each asset: the controller sends it to who takes it.
async function pack(folder) {
  const names = (await readdir(folder)).filter((name) => /\.(js|css)$/.test(name));
  const packed = names.map(async (name) => writeFile(path.join(folder, name + ".gz"), await promisify(gzip)(await readFile(path.join(folder, name)), { level: 9 })));
  await Promise.all(packed);
}

const page = {
  name: "page",
  setup(build) {
    build.onEnd(async (result) => {
      if (result.errors.length) return;
      const outputs = Object.entries(result.metafile.outputs);
      const [script, main] = outputs.find(([, o]) => o.entryPoint?.endsWith("src/main.tsx"));
      const name = (file) => "/assets/" + path.basename(file);
      const template = await readFile(path.join(here, "index.html"), "utf8");
      await writeFile(
        path.join(outdir, "index.html"),
        template.replace("%STYLE%", name(main.cssBundle)).replace("%SCRIPT%", name(script)),
      );
      await copyFile(path.join(here, "icon.svg"), path.join(outdir, "assets/icon.svg"));
      await pack(path.join(outdir, "assets"));
      const bytes = outputs.filter(([f]) => !f.endsWith(".map")).reduce((sum, [, o]) => sum + o.bytes, 0);
      console.log(`web view: ${outdir} (${outputs.length} assets, ${Math.round(bytes / 1024)} KiB)`);
    });
  },
};

await rm(path.join(outdir, "assets"), { recursive: true, force: true });
await mkdir(path.join(outdir, "assets"), { recursive: true });
const options = {
  absWorkingDir: here,
  entryPoints: ["src/main.tsx"],
  outdir: path.join(outdir, "assets"),
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2021"],
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
  metafile: true,
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"' },
  plugins: [page],
  logLevel: "warning",
};
if (args.includes("--watch")) {
  await (await esbuild.context(options)).watch();
} else {
  await esbuild.build(options);
}
