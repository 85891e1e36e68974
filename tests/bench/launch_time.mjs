// Seconds from placing a job of 5 ranks over 3 hosts to its first step: in all, and without what the
// slowest rank needs from its start to its first step (setup_s of the result: the MPI library, the
// network's plan, the weights). Medians of 5. Root; on a quiet machine.
//   node tests/bench/launch_time.mjs
import { Bed, unevenJob } from "../faults/cases.mjs";

const variants = {
  all_reduce: {},
  "parameter_server, colocated": { variable_update: "parameter_server" },
  "parameter_server, dedicated": { variable_update: "parameter_server", parameter_server: { placement: "dedicated" } },
};
const text = (all) => {
  const sorted = all.toSorted((a, b) => a - b);
  return `${sorted[2].toFixed(3)} s (${sorted[0].toFixed(3)} to ${sorted[4].toFixed(3)})`;
};

const bed = await Bed.make();
try {
  for (const [name, overrides] of Object.entries(variants)) {
    const whole = [], launch = [];
    for (let i = 0; i < 5; ++i) {
      const { id } = await bed.fleet.submit(unevenJob({ ...overrides, steps: { measured: 5 } }));
      const job = await bed.fleet.waitForJob(id);
      if (job.state !== "succeeded") throw new Error(job.detail);
      const [run] = job.runs;
      const at = (state) => Date.parse(run.transitions.find((t) => t.state === state).at) / 1000;
      whole.push(at("warmup") - at("reserved"));
      launch.push(whole.at(-1) - run.result.setup_s);
    }
    console.log(`${name}: placing to first step ${text(whole)}, without set-up ${text(launch)}`);
  }
} finally {
  await bed.remove();
}
