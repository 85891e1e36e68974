// Seconds from placing a job over 3 hosts to its first step, without what a rank needs itself to set up
// its network (setup_s of its summary): the median of 5. Root; on a quiet machine.
//   node tests/bench/launch_time.mjs
import { Bed, gangJob } from "../faults/cases.mjs";

const bed = await Bed.make();
try {
  for (const variable_update of ["all_reduce", "independent"]) {
    const seconds = [];
    for (let i = 0; i < 5; ++i) {
      const { id } = await bed.fleet.submit(gangJob({ variable_update, steps: { measured: 5 } }));
      const job = await bed.fleet.waitForJob(id);
      if (job.state !== "succeeded") throw new Error(job.detail);
      const [run] = job.runs;
      const at = (state) => Date.parse(run.transitions.find((t) => t.state === state).at) / 1000;
      seconds.push(at("warmup") - at("reserved") - run.result.setup_s);
      console.log(`${variable_update}: ${(at("warmup") - at("reserved")).toFixed(3)} s, of which ${run.result.setup_s.toFixed(3)} s are the slowest rank's own`);
    }
    seconds.sort((a, b) => a - b);
    console.log(`${variable_update}: launch to first step, median of 5: ${seconds[2].toFixed(3)} s (${seconds[0].toFixed(3)} to ${seconds[4].toFixed(3)})`);
  }
} finally {
  await bed.remove();
}
