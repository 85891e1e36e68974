// The whole table of faults of runs over several hosts, with the seconds until nothing was left.
//   node tests/faults/run.mjs [TEXT...]     only cases whose name contains one of these
import { whyNoHosts } from "../support/hosts.mjs";
import { Bed, faults } from "./cases.mjs";

const why = whyNoHosts();
if (why) {
  console.error(why);
  process.exit(2);
}
const asked = process.argv.slice(2);
const chosen = faults.filter((f) => asked.length === 0 || asked.some((text) => f.name.includes(text)));
let failed = 0;
const bed = await Bed.make();
try {
  for (const fault of chosen) {
    try {
      const run = await bed.measuring(fault.job);
      const began = Date.now();
      const s = await fault.run(bed, run);
      const total = (Date.now() - began) / 1000;
      await bed.works();
      console.log(`ok    ${fault.name}: over after ${total.toFixed(1)} s${s > 0.2 ? `, nothing left after ${s.toFixed(1)} s more` : ""}`);
    } catch (error) {
      ++failed;
      console.log(`FAIL  ${fault.name}: ${error.message}`);
      await bed.fleet.api("POST", `/api/v1/jobs/${bed.jobId}:cancel`).catch(() => {});
      await bed.gone(60_000).catch((e) => console.log(e.message));
    }
  }
} finally {
  await bed.remove();
}
process.exit(failed ? 1 : 0);
