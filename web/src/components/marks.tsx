// States and verdicts as a word with a shape; colour only repeats what both say.
import { words } from "../format";

type Shape = "ring" | "half" | "disc" | "cross" | "slash" | "triangle" | "clock" | "question" | "block";
const paths: Record<Shape, preact.JSX.Element> = {
  ring: <circle cx="6" cy="6" r="4.2" fill="none" stroke="currentColor" stroke-width="1.6" />,
  half: (
    <>
      <circle cx="6" cy="6" r="4.2" fill="none" stroke="currentColor" stroke-width="1.6" />
      <path d="M6 1.8a4.2 4.2 0 0 1 0 8.4z" fill="currentColor" />
    </>
  ),
  disc: <circle cx="6" cy="6" r="5" fill="currentColor" />,
  cross: <path d="M2 2l8 8M10 2l-8 8" stroke="currentColor" stroke-width="2.2" fill="none" />,
  slash: (
    <>
      <circle cx="6" cy="6" r="4.4" fill="none" stroke="currentColor" stroke-width="1.6" />
      <path d="M3 9l6-6" stroke="currentColor" stroke-width="1.6" />
    </>
  ),
  triangle: <path d="M6 1.2l5.2 9.4H0.8z" fill="currentColor" />,
  clock: (
    <>
      <circle cx="6" cy="6" r="4.4" fill="none" stroke="currentColor" stroke-width="1.6" />
      <path d="M6 3.2V6l2 1.4" fill="none" stroke="currentColor" stroke-width="1.4" />
    </>
  ),
  question: <path d="M3.6 4.2a2.4 2.4 0 1 1 3.4 2.2c-.7.3-1 .7-1 1.4M6 9.4v1.6" fill="none" stroke="currentColor" stroke-width="1.7" />,
  block: <path d="M1.5 1.5h9v9h-9z" fill="currentColor" />,
};

const states: Record<string, [Shape, string]> = {
  queued: ["ring", "calm"],
  reserved: ["ring", "calm"],
  idle: ["ring", "good"],
  new: ["ring", "calm"],
  left: ["slash", "calm"],
  running: ["half", "busy"],
  busy: ["half", "busy"],
  starting: ["half", "busy"],
  warmup: ["half", "busy"],
  measuring: ["half", "busy"],
  collecting: ["half", "busy"],
  succeeded: ["disc", "good"],
  clean: ["disc", "good"],
  suspect: ["triangle", "warn"],
  failed: ["cross", "bad"],
  invalid: ["cross", "bad"],
  conflict: ["cross", "bad"],
  cancelled: ["slash", "calm"],
  timeout: ["clock", "bad"],
  stalled: ["clock", "bad"],
  out_of_memory: ["block", "bad"],
  lost: ["question", "bad"],
};

export function Mark({ state, word }: { state: string; word?: string }) {
  const [shape, tone] = states[state] ?? ["ring", "calm"];
  return (
    <span class={`mark tone-${tone}`} data-state={state}>
      <svg class="shape" viewBox="0 0 12 12" aria-hidden="true">
        {paths[shape]}
      </svg>
      <span>{word ?? words(state)}</span>
    </span>
  );
}
