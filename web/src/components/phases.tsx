// The way of a run through its phases, each with its duration; the current one counts.
import type { JobView, RunView } from "../contract";
import { isOver } from "../contract";
import { duration, secondsBetween, words } from "../format";
import { useNow } from "../hooks";
import { Mark } from "./marks";

export interface PhaseTime {
  name: string;
  seconds: number;
  current: boolean;
}

// From the transitions of one run, with the wait in the queue in front. Pure.
export function phasesOf(job: JobView, run: RunView | null, now: Date): PhaseTime[] {
  const phases: PhaseTime[] = [];
  const first = run?.transitions[0]?.at ?? run?.created_at;
  const queuedUntil = run && run.id === job.runs[0]?.id ? first : run ? null : (job.ended_at ?? now.toISOString());
  if (queuedUntil) phases.push({ name: "queued", seconds: secondsBetween(job.created_at, queuedUntil), current: job.state === "queued" });
  run?.transitions.forEach((t, i) => {
    if (isOver(t.state)) return;
    const next = run.transitions[i + 1]?.at;
    phases.push({ name: t.state, seconds: secondsBetween(t.at, next ?? run.ended_at ?? now), current: !next && !isOver(run.state) });
  });
  return phases;
}

export function Phases({ job, run }: { job: JobView; run: RunView | null }) {
  const now = useNow();
  const p = run?.progress;
  const live = run && !isOver(run.state) && p && p.steps_planned;
  return (
    <div class="phases">
      <span class="state-now" aria-live="polite" data-testid="state">
        <Mark state={isOver(job.state) ? (job.outcome ?? job.state) : job.state} />
        {job.cancel_requested && !isOver(job.state) && <span class="muted"> cancelling</span>}
      </span>
      <ol aria-label="Phases">
        {phasesOf(job, run, now).map((phase) => (
          <li class={phase.current ? "current" : ""} aria-current={phase.current ? "step" : undefined}>
            {words(phase.name)} <span class="num">{duration(phase.seconds)}</span>
          </li>
        ))}
      </ol>
      {live && (
        <label class="progress">
          <span>
            {words(p.phase)} {p.steps_done} of {p.steps_planned}
          </span>
          <progress max={p.steps_planned!} value={p.steps_done} />
        </label>
      )}
    </div>
  );
}
