// What a benchmark is, at a glance.
import type { JsonObject } from "../contract";
import { modelTitle, words } from "../format";

export interface SpecSummary {
  model: string;
  mode: string;
  precision: string;
  batch_size: number;
  variable_update: string;
  device?: string;
  spec_submitted?: JsonObject; // an event carries none
}

export function SpecChips({ spec }: { spec: SpecSummary }) {
  return (
    <span class="chips">
      <span class="chip strong">{modelTitle(spec.model)}</span>
      <span class="chip">{words(spec.mode)}</span>
      <span class="chip">{spec.precision}</span>
      <span class="chip">batch {spec.batch_size || "max"}</span>
      {spec.spec_submitted?.image_size != null && <span class="chip">image size {String(spec.spec_submitted.image_size)}</span>}
      {spec.variable_update && <span class="chip">{words(spec.variable_update)}</span>}
      {spec.device === "gpu" && <span class="chip">GPU</span>}
    </span>
  );
}
