// What a benchmark is, at a glance.
import { modelTitle, words } from "../format";

export interface SpecSummary {
  model: string;
  mode: string;
  precision: string;
  batch_size: number;
  variable_update: string;
  device?: string;
}

export function SpecChips({ spec }: { spec: SpecSummary }) {
  return (
    <span class="chips">
      <span class="chip strong">{modelTitle(spec.model)}</span>
      <span class="chip">{words(spec.mode)}</span>
      <span class="chip">{spec.precision}</span>
      <span class="chip">batch {spec.batch_size || "max"}</span>
      {spec.variable_update && <span class="chip">{words(spec.variable_update)}</span>}
      {spec.device === "gpu" && <span class="chip">GPU</span>}
    </span>
  );
}
