// The GPUs of a run put together. Pure.
import type { GpuUse, ResultView } from "./contract";

export const gpusOf = (result: ResultView): GpuUse[] => result.rank_times.flatMap((r) => (r.gpu ? [r.gpu] : []));

export interface OverGpus {
  value: number;
  told: number; // how many of the GPUs say it
}

// Null where none says it. A sum, too, is only over those that say.
export function overGpus(gpus: GpuUse[], pick: (g: GpuUse) => number | null, how: "mean" | "most" | "sum"): OverGpus | null {
  const values = gpus.map(pick).filter((v): v is number => v !== null);
  if (!values.length) return null;
  const sum = values.reduce((a, b) => a + b, 0);
  return { value: how === "most" ? Math.max(...values) : how === "mean" ? sum / values.length : sum, told: values.length };
}
