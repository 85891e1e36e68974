// The GPUs of a run put together.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { GpuUse } from "./contract";
import { overGpus } from "./gpus";

const gpu = (ecc_uncorrected: number | null, sm_clock_mhz: number | null): GpuUse => ({ ecc_uncorrected, sm_clock_mhz }) as GpuUse;

test("a card that does not say is left out, and said to be", () => {
  const cards = [gpu(1, 1980), gpu(null, 1500), gpu(2, null)];
  assert.deepEqual(overGpus(cards, (g) => g.ecc_uncorrected, "sum"), { value: 3, told: 2 });
  assert.deepEqual(overGpus(cards, (g) => g.sm_clock_mhz, "mean"), { value: 1740, told: 2 });
  assert.equal(overGpus([gpu(null, null)], (g) => g.ecc_uncorrected, "sum"), null);
});
