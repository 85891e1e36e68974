// The web view against the real service: submit, watch, read, compare; and what happens when things go wrong.
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { smallJob, startFleet, until } from "../support/fleet.mjs";
import { assertAccessible, assertNoOverflow, closePage, narrow, openPage, screenshot, startBrowser, tabTo, wide } from "./browser.mjs";

const longTimeout = 240_000; // on a host that builds at the same time
const measured = 40; // steps of jobs that are watched
const state = (page) => page.getByTestId("state");
const isDone = (page, what = "succeeded") => state(page).locator(`[data-state=${what}]`).waitFor({ timeout: longTimeout });
const accepted = (page) => page.getByRole("status", { name: "Dry run" }).getByText("accepted").waitFor();

describe("the web view", { timeout: 900_000 }, () => {
  let fleet, browser, first, group;
  before(async () => {
    fleet = await startFleet({
      agents: 1,
      leaseS: 30,
      agentArgs: ["--network", "127.0.0.0/8", "--launch-ports", "any", "--rank-ports", "any"],
      env: { OMPI_MCA_mpi_yield_when_idle: "1" },
    });
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    await fleet?.stop();
  });
  const open = (options = {}) => openPage(browser, { base: fleet.url, ...options });

  test("an empty service says what to do next", async () => {
    const page = await open();
    await page.goto("/");
    await page.getByRole("heading", { name: "No job yet" }).waitFor();
    assert.match(page.url(), /\/jobs$/);
    assert.match(await page.getByRole("region", { name: "First job" }).innerText(), /rackmark .*submit/);
    await page.locator("[data-connection=live]").waitFor();
    await page.goto("/compare");
    await page.getByRole("heading", { name: "No result yet" }).waitFor();
    await page.goto("/no/such/page");
    await page.getByRole("heading", { name: "There is no such page" }).waitFor();
    await page.goto("/jobs/999999");
    await page.getByRole("alert").waitFor();
    await closePage(page);
  });

  test("a job submitted through the form is seen running and its result is read", async () => {
    const page = await open();
    await page.goto("/jobs");
    await page.getByRole("link", { name: "New job" }).first().click();
    await page.getByLabel("Batch size").fill("2");
    await page.getByLabel("Image size").fill("64");
    await page.locator("#f-steps-warmup").fill("2");
    await page.getByLabel("Measured", { exact: false }).first().fill(String(measured));
    await page.getByLabel("Threads per worker").fill("1");
    await accepted(page);
    const shown = JSON.parse(await page.getByRole("region", { name: "Spec", exact: true }).innerText());
    assert.deepEqual(shown, { model: "resnet50", batch_size: 2, image_size: 64, steps: { warmup: 2, measured }, resources: { threads_per_worker: 1 } });
    assert.match(await page.getByRole("region", { name: "As curl" }).innerText(), /curl .*\/api\/v1\/jobs/);
    await page.evaluate(() => {
      window.seen = new Set();
      new MutationObserver(() => {
        const grid = document.querySelector("[data-steps]");
        const live = document.querySelector("[data-testid=state] [data-state=running]");
        if (grid && live) window.seen.add(Number(grid.getAttribute("data-steps")));
      }).observe(document.body, { subtree: true, childList: true, attributes: true });
    });
    await page.getByRole("button", { name: "Submit job" }).click();
    await page.waitForURL(/\/jobs\/\d+$/);
    first = Number(new URL(page.url()).pathname.split("/").pop());
    await page.locator("[data-steps]").waitFor({ timeout: longTimeout });
    await page.getByRole("img", { name: /^Throughput by step: Last [\d.,]+ img\/s/ }).waitFor({ timeout: longTimeout });
    await screenshot(page, "job-live-1280-light");
    await isDone(page);
    const seen = await page.evaluate((all) => [...window.seen].filter((n) => n > 0 && n < all), measured);
    assert.ok(seen.length >= 2, `steps arrived while the job ran: ${seen}`);

    const job = await fleet.job(first);
    const headline = await page.getByTestId("headline").innerText();
    const value = Number(/([\d.,]+)\s*img\/s/.exec(headline)[1].replaceAll(",", ""));
    assert.ok(Math.abs(value / job.headline.images_per_second - 1) < 0.005, `${headline} is ${job.headline.images_per_second}`);
    assert.match(headline, /±[\d.]+\s%.*within the run.*n=1/s);
    await page.locator(`[data-steps='${measured}']`).waitFor();
    // What came in live and what is fetched after the end are the same readings, each once.
    const { telemetry } = (await fleet.api("GET", `/api/v1/runs/${job.runs[0].id}/steps`)).body;
    await page.locator(`[data-telemetry='${telemetry.length}']`).waitFor();
    await page.getByRole("region", { name: "Measured numbers" }).locator("dt", { hasText: /^median step/ }).waitFor();
    assert.match(await page.getByRole("region", { name: "Environment", exact: true }).innerText(), /onednn/i);
    const phases = await page.getByRole("list", { name: "Phases" }).innerText();
    for (const phase of ["queued", "starting", "warmup", "measuring"]) assert.ok(phases.includes(phase), `${phase} in ${phases}`);
    await closePage(page);
  });

  test("a chart has its table and its exports", async () => {
    const page = await open();
    await page.goto(`/jobs/${first}`);
    const chart = page.getByRole("region", { name: "Throughput by step", exact: true });
    await chart.locator("svg").waitFor();
    await chart.getByRole("button", { name: "Table" }).click();
    assert.equal(await chart.locator("tbody tr").count(), measured + 2);
    await chart.getByRole("button", { name: "Table" }).click();
    for (const [kind, starts] of [["CSV", "rank,phase,step"], ["JSON", "["], ["SVG", "<svg"], ["PNG", "\x89PNG"]]) {
      const [download] = await Promise.all([page.waitForEvent("download"), chart.getByRole("button", { name: `as ${kind}` }).click()]);
      const content = await readFile(await download.path(), "latin1");
      assert.ok(content.startsWith(starts), `${kind} starts with ${JSON.stringify(content.slice(0, 20))}`);
      assert.ok(content.length > 500);
    }
    const [all] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "JSON", exact: true }).click()]);
    const saved = JSON.parse(await readFile(await all.path(), "utf8"));
    assert.equal(saved.job.id, first);
    assert.equal(saved.steps.ranks[0].ms.length, measured);
    await closePage(page);
  });

  test("definitions and UTC times come with hover and focus", async () => {
    const page = await open();
    await page.goto(`/jobs/${first}`);
    const term = page.getByRole("region", { name: "Measured numbers" }).locator(".term").filter({ hasText: "jitter" });
    await term.focus();
    await page.getByRole("tooltip").getByText("median distance").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("tooltip").waitFor({ state: "hidden" });
    await term.hover();
    await page.getByRole("tooltip").getByText("median distance").waitFor();
    assert.match(await page.locator("main time").first().getAttribute("title"), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC$/);
    await closePage(page);
  });

  test("errors are shown at their fields, and the rest of the form keeps its values", async () => {
    const page = await open();
    await page.goto("/jobs/new");
    await page.getByLabel("Batch size").fill("0");
    await page.getByLabel("Image size").fill("64");
    await page.locator("#f-steps-warmup").fill("some");
    const batch = page.locator("[data-field=batch_size]");
    await batch.locator(".error").waitFor();
    assert.match(await batch.locator(".error").innerText(), /allowed: .*1 to 65536/);
    assert.equal(await page.getByLabel("Batch size").getAttribute("aria-invalid"), "true");
    await page.locator("[data-field='steps.warmup'] .error").waitFor();
    await page.getByRole("button", { name: "Submit job" }).click();
    assert.equal(await page.evaluate(() => document.activeElement.id), "f-batch_size");
    await assertAccessible(page, "the form with errors");
    await screenshot(page, "new-job-errors-1280-light");
    await page.getByLabel("Batch size").fill("2");
    await page.locator("#f-steps-warmup").fill("2");
    await accepted(page);
    assert.equal(await page.locator(".error").count(), 0);
    // The address holds the form.
    await page.waitForURL((url) => /"batch_size":2\b.*"warmup":2\b/.test(url.searchParams.get("spec") ?? ""));
    await page.reload();
    await accepted(page);
    assert.equal(await page.getByLabel("Image size").inputValue(), "64");
    // Fields follow what they depend on.
    assert.equal(await page.locator("[data-field='input.path']").count(), 0);
    await page.locator("#f-input-kind").selectOption("images");
    await page.locator("[data-field='input.path'] .error").waitFor();
    await closePage(page);
  });

  test("a job can be submitted with the keyboard alone", async () => {
    const page = await open();
    await page.goto("/jobs");
    await page.locator("tr[data-job]").first().waitFor();
    await tabTo(page, "nav a[href='/jobs/new']");
    await page.keyboard.press("Enter");
    await page.getByLabel("Batch size").waitFor();
    await tabTo(page, "#f-batch_size");
    await page.keyboard.type("2");
    await tabTo(page, "#f-image_size");
    await page.keyboard.type("64");
    await tabTo(page, "#f-steps-warmup");
    await page.keyboard.type("2");
    await tabTo(page, "#f-steps-measured");
    await page.keyboard.type("5");
    await tabTo(page, "#f-resources-threads_per_worker");
    await page.keyboard.type("1");
    await accepted(page);
    await tabTo(page, "button[type=submit]");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/jobs\/\d+$/);
    await isDone(page);
    await closePage(page);
  });

  test("the list is live, filtered in its address and driven by keys", async () => {
    const page = await open();
    await page.goto("/jobs");
    await page.locator("[data-connection=live]").waitFor();
    const job = await fleet.submit(smallJob({ name: "from elsewhere" }));
    const row = page.locator(`tr[data-job='${job.id}']`);
    await row.waitFor();
    await row.locator("[data-state=succeeded]").waitFor({ timeout: longTimeout });
    assert.match(await row.innerText(), /img\/s ±[\d.]+\s%.*\(n=1\)/s);
    await page.keyboard.press("/");
    await page.keyboard.type("elsewhere");
    await page.waitForURL(/name=elsewhere/);
    await until(async () => (await page.locator("tr[data-job]").count()) === 1, { what: "one row" });
    await page.keyboard.press("Escape");
    await page.getByLabel("State").selectOption("failed");
    await page.getByRole("heading", { name: "No job matches" }).waitFor();
    await page.getByRole("button", { name: "Clear filters" }).click();
    await page.locator(`tr[data-job='${first}']`).waitFor();
    await page.locator("main").focus();
    for (const key of ["j", "x", "j", "x"]) await page.keyboard.press(key);
    await page.getByText("2 jobs selected").waitFor();
    await page.keyboard.press("c");
    await page.waitForURL(/\/compare\?jobs=\d+,\d+/);
    await page.locator(".sentence").getByText(/Job \d+.*job \d+/).waitFor();
    await closePage(page);
  });

  test("device classes are compared, and the address holds what is compared", async () => {
    const page = await open();
    await page.goto("/compare");
    await page.locator(".sentence").getByText("ResNet-50").waitFor();
    await page.getByRole("img", { name: /^Comparison: Whiskers: 95 %/ }).waitFor();
    const text = await page.locator(".sentence").innerText();
    assert.match(text, /img\/s \(batch 2, image size 64, fp32, all reduce, synthetic input\)/);
    await page.getByRole("button", { name: "Ratio", exact: true }).click();
    await page.waitForURL(/view=ratio/);
    await page.reload();
    await page.getByText("Ratio of images per second").waitFor();

    // From a job to the same benchmark elsewhere.
    await page.goto(`/jobs/${first}`);
    await page.getByRole("group", { name: "Job actions" }).getByRole("link", { name: "Compare" }).click();
    await page.waitForURL(/\/compare\?.*variable_update=all_reduce/);
    await page.locator(".sentence").getByText(/img\/s/).waitFor();
    // Jobs of other lengths are other measurements: they are no repetitions.
    assert.match(await page.getByRole("region", { name: "Left out" }).innerText(), /\d+\sresults? of \d+\sother measurement/);

    // A second class on the same host: two sides, one dot and whisker each.
    const other = await fleet.startAgent({ name: "host-2", args: ["--device-class", "another class"] });
    const job = await fleet.submit(smallJob({ resources: { selector: { name: "host-2" } } }));
    assert.equal((await fleet.waitForJob(job.id, { timeoutMs: longTimeout })).device_class, "another class");
    await other.stop();
    await page.goto("/compare");
    const two = page.locator(".sentence").getByText(/another class/);
    await two.waitFor();
    assert.match(await two.innerText(), /\d× \(\d.* to \d.*×\)/);
    const rows = page.getByRole("row").filter({ hasText: "another class" });
    assert.match(await rows.first().innerText(), /img\/s/);
    const chart = page.getByRole("region", { name: "Comparison", exact: true });
    await until(async () => (await chart.locator("svg circle, svg path[d*='A5 5']").count()) === 2, { what: "two dots" });
    await chart.getByRole("button", { name: "Table" }).click();
    assert.equal(await chart.locator("tbody tr").count(), 2);
    await closePage(page);
  });

  test("a scaling group shows its curve, what every point is made of, and what is missing while it runs", async () => {
    const other = await fleet.startAgent({ name: "host-3" });
    const reply = await fleet.api("POST", "/api/v1/groups", {
      kind: "scale",
      name: "evening",
      agents: [1, 2],
      spec: smallJob({ model: "cifar10", image_size: 24, batch_size: 8, optimizer: { learning_rate: 0.001 }, steps: { measured: 10 }, resources: { workers_per_agent: 1 } }),
    });
    assert.equal(reply.status, 201, JSON.stringify(reply.body));
    const [member] = reply.body.members;
    group = reply.body.id;
    const page = await open();
    await page.goto(`/jobs/${member.id}`);
    await page.getByRole("link", { name: `scaling group ${group}` }).click();
    await page.waitForURL(new RegExp(`/groups/${group}$`));
    await page.getByRole("link", { name: "Scaling", exact: true }).click();
    await page.getByRole("link", { name: `${group} evening` }).click();
    await page.waitForURL(new RegExp(`/groups/${group}$`));
    await isDone(page);
    const row = (agents) => page.locator(`[data-testid=points] tr[data-agents='${agents}']`);
    await row(2).getByText("img/s").first().waitFor();
    assert.match(await row(1).innerText(), /img\/s.*100\.0\s%.*the prediction starts here/s);
    assert.match(await row(2).innerText(), /img\/s.*×.*%.*ms.*img\/s/s);
    assert.match(await row(16).innerText(), /predicted only.*img\/s/s);
    await page.getByText(/2\sagents reach \d+\s% of 2 × one: .* img\/s/).waitFor();
    await page.getByRole("img", { name: /^Efficiency over agents: Network: .* µs a message/ }).waitFor();
    const split = page.getByRole("region", { name: "Time split per rank", exact: true });
    await split.getByRole("button", { name: "Table" }).click();
    assert.equal(await split.locator("tbody tr").count(), 3);
    await other.stop();
    await closePage(page);
  });

  test("a failed job shows its reason and no number", async () => {
    for (const name of ["cat", "dog"]) {
      const folder = path.join(fleet.dir, "data", "broken", name);
      await mkdir(folder, { recursive: true });
      await writeFile(path.join(folder, "a.jpg"), "this is no picture");
    }
    const job = await fleet.submit(smallJob({ input: { kind: "images", path: path.join(fleet.dir, "data", "broken") }, retries: 0 }));
    const done = await fleet.waitForJob(job.id, { timeoutMs: longTimeout });
    assert.equal(done.state, "failed");
    assert.match(done.reason, /^input_/);
    const page = await open();
    await page.goto(`/jobs/${job.id}`);
    const reason = page.getByTestId("reason");
    await reason.waitFor();
    assert.match(await reason.innerText(), new RegExp(`No number: failed\\..*${done.reason.replaceAll("_", " ")}`, "s"));
    assert.equal(await page.getByTestId("headline").count(), 0);
    assert.equal(await page.getByText("img/s").count(), 0);
    await assertAccessible(page, "a failed job");
    await screenshot(page, "job-failed-1280-light");
    await page.goto("/jobs");
    const row = page.locator(`tr[data-job='${job.id}']`);
    await row.locator("[data-state=failed]").waitFor();
    assert.doesNotMatch(await row.innerText(), /img\/s/);
    await closePage(page);
  });

  test("a job is cancelled from its page and submitted again", async () => {
    const job = await fleet.submit(smallJob({ steps: { measured: 100_000 } }));
    const page = await open();
    await page.goto(`/jobs/${job.id}`);
    await state(page).locator("[data-state=running]").waitFor({ timeout: longTimeout });
    await page.getByRole("button", { name: "Cancel" }).click();
    await isDone(page, "cancelled");
    assert.match(await page.getByTestId("reason").innerText(), /No number: cancelled/);
    const many = { kind: "scale", agents: [30, 31], spec: smallJob() }; // more than there are: they wait
    await page.goto(`/groups/${(await fleet.api("POST", "/api/v1/groups", many)).body.id}`);
    await page.getByRole("button", { name: "Cancel 4 jobs" }).click();
    await isDone(page, "cancelled");
    assert.equal(await page.getByRole("button", { name: /^Cancel/ }).count(), 0);
    await page.goto(`/jobs/${first}`);
    await page.getByRole("button", { name: "Rerun" }).click();
    await page.waitForURL((url) => /\/jobs\/\d+$/.test(url.pathname) && !url.pathname.endsWith(`/${first}`));
    await page.getByRole("link", { name: `job ${first}`, exact: true }).waitFor();
    await isDone(page);
    await closePage(page);
  });

  test("a waiting job says behind whom", async () => {
    const resources = { selector: { name: "host-1" } };
    const ahead = await fleet.submit(smallJob({ steps: { measured: 100_000 }, resources }));
    const job = await fleet.submit(smallJob({ resources }));
    const page = await open();
    await page.goto(`/jobs/${job.id}`);
    await state(page).locator("[data-state=queued]").waitFor();
    await page.getByRole("link", { name: `job ${ahead.id}` }).waitFor();
    await fleet.api("POST", `/api/v1/jobs/${ahead.id}:cancel`, {});
    await isDone(page);
    await closePage(page);
  });

  test("a lost connection is shown and heals by itself", async () => {
    const job = await fleet.submit(smallJob({ steps: { measured } }));
    const page = await open();
    await page.goto(`/jobs/${job.id}`);
    await page.locator("[data-connection=live]").waitFor();
    await state(page).locator("[data-state=running]").waitFor({ timeout: longTimeout });
    await fleet.controller.kill();
    await page.locator("[data-connection=lost]").waitFor();
    await page.getByRole("status").getByText(/Connection lost since/).waitFor();
    await screenshot(page, "connection-lost-1280-light");
    await fleet.startController();
    await page.locator("[data-connection=live]").waitFor({ timeout: 30_000 });
    await isDone(page);
    await page.getByTestId("headline").waitFor();
    await page.locator(`[data-steps='${measured}']`).waitFor();
    await closePage(page);
  });

  for (const dark of [false, true]) {
    for (const viewport of [wide, narrow]) {
      const where = `${viewport.width} pixels, ${dark ? "dark" : "light"}`;
      test(`every page fits and is accessible: ${where}`, async () => {
        const failed = (await fleet.api("GET", "/api/v1/jobs?state=failed")).body.items[0];
        const pages = {
          jobs: ["/jobs", "tr[data-job]"],
          "new-job": ["/jobs/new", "[data-state=clean]"],
          job: [`/jobs/${first}`, ".chart svg"],
          "job-without-number": [`/jobs/${failed.id}`, "[data-testid=reason]"],
          groups: ["/groups", "tr[data-group]"],
          scaling: [`/groups/${group}`, ".chart svg"],
          compare: ["/compare", ".chart svg"],
          "compare-jobs": [`/compare?jobs=${first},${failed.id}&view=ratio`, ".chart svg"],
          agents: ["/agents", "table.agents"],
        };
        const page = await open({ viewport, dark });
        for (const [name, [url, there]] of Object.entries(pages)) {
          await page.goto(url);
          await page.locator(there).first().waitFor();
          if (name === "agents") {
            await page.locator("button.disclose").first().click();
            await page.getByText("Add a host").click();
          }
          await assertNoOverflow(page, `${name} at ${where}`);
          await assertAccessible(page, `${name} at ${where}`);
          assert.equal(await page.locator("main h1").count(), 1, `${name} has one main heading`);
          await screenshot(page, `${name}-${viewport.width}-${dark ? "dark" : "light"}`);
        }
        const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        const brightness = background.match(/\d+/g).map(Number).reduce((a, b) => a + b, 0) / 3;
        assert.ok(dark ? brightness < 60 : brightness > 200, `${background} is ${dark ? "dark" : "light"}`);
        await closePage(page);
      });
    }
  }

  test("an agent is enrolled from the command on the Agents page", async () => {
    const page = await open();
    await page.goto("/agents");
    await page.locator("table.agents tbody tr").first().waitFor();
    const row = page.getByRole("row").filter({ has: page.getByRole("button", { name: "host-1", exact: true }) });
    await row.locator("[data-state=idle]").waitFor();
    assert.match(await row.innerText(), /core/);
    await page.getByText("Add a host").click();
    assert.match(await page.getByRole("region", { name: "Pack, carry and start" }).innerText(), /deploy\/pack/);
    await page.getByRole("button", { name: "Make an enrolment token" }).click();
    const command = page.getByRole("region", { name: "On the new host" });
    await until(async () => !/=TOKEN /.test(await command.innerText()), { what: "the token" });
    assert.match(await command.innerText(), new RegExp(`RACKMARK_ENROL_TOKEN=\\S{16,} .*--controller ${fleet.url}`));
    await closePage(page);
  });
});
