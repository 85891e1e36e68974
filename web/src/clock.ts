// The controller's clock: ages are told by it, since the viewer's own may be wrong.
let aheadMs = 0; // of the viewer's

// From the Date header of an answer, whole seconds; what lies within them is no difference.
export function learnClock(date: string | null, now = Date.now()) {
  const server = date === null ? NaN : Date.parse(date);
  if (Number.isNaN(server)) return;
  const ahead = server + 500 - now;
  aheadMs = Math.abs(ahead) < 2000 ? 0 : ahead;
}

export const clockNow = (now = Date.now()): Date => new Date(now + aheadMs);
