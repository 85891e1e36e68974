// A browser for tests: pages that fail on script errors and broken content policy, overflow and
// accessibility checks, screenshots on request.
import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { sourceDir } from "../support/fleet.mjs";

const require = createRequire(path.join(sourceDir, "web/package.json"));
const { chromium } = require("playwright-core");

export const wide = { width: 1280, height: 900 };
export const narrow = { width: 390, height: 844 };

export async function startBrowser() {
  return chromium.launch({
    executablePath: process.env.RACKMARK_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
  });
}

// A page of its own context. `page.problems` lists script errors, refused content and requests to other
// addresses; answers with an error status are part of normal life and not in it.
export async function openPage(browser, { viewport = wide, dark = false, base } = {}) {
  const context = await browser.newContext({ viewport, colorScheme: dark ? "dark" : "light", timezoneId: "Europe/Berlin", baseURL: base, acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(`script: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/Failed to load resource|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE/.test(message.text())) page.problems.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (/^https?:$/.test(url.protocol) && base && url.origin !== base) page.problems.push(`foreign request: ${request.url()}`);
  });
  return page;
}

export async function closePage(page) {
  await page.context().close();
  assert.deepEqual(page.problems, []);
}

export async function assertNoOverflow(page, what) {
  const found = await page.evaluate(() => {
    const limit = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= limit) return [];
    return [...document.querySelectorAll("body *")]
      .filter((e) => e.getBoundingClientRect().right > limit + 1)
      .slice(0, 5)
      .map((e) => `${e.tagName.toLowerCase()}.${e.className} to ${Math.round(e.getBoundingClientRect().right)}`);
  });
  assert.deepEqual(found, [], `${what} is wider than its window`);
}

// axe-core's rules for WCAG 2.1 A and AA, contrast included.
export async function assertAccessible(page, what) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(await readFile(require.resolve("axe-core/axe.min.js"), "utf8"));
  const found = await page.evaluate(async () => {
    const result = await window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], resultTypes: ["violations"] });
    return result.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => `${n.target.join(" ")} (${n.failureSummary?.split("\n")[1]?.trim() ?? ""})`).join(", ")}`);
  });
  assert.deepEqual(found, [], `${what} fails accessibility rules`);
}

export async function screenshot(page, name) {
  const dir = process.env.RACKMARK_SCREENSHOTS;
  if (!dir) return;
  await mkdir(dir, { recursive: true });
  await page.screenshot({ path: path.join(dir, `${name}.png`), fullPage: true });
}

// Moves the focus with the Tab key alone until it is on `selector`.
export async function tabTo(page, selector, { limit = 200 } = {}) {
  for (let i = 0; i < limit; ++i) {
    if (await page.evaluate((s) => document.activeElement?.matches(s) ?? false, selector)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`${selector} cannot be reached with the Tab key`);
}
