// One event stream for the whole page. It says how the connection is, opens itself again when it is
// lost, and tells everybody who shows something to fetch it again, since live-only events of the gap
// (steps, telemetry, logs) are not repeated.
import { eventsPath } from "./api";
import type { AgentView, JobView, LogsEvent, RunView, StepsEvent, TelemetryEvent } from "./contract";

export type Connection = "connecting" | "live" | "lost";

export interface LiveEvents {
  job: JobView; // without runs and specs
  run: RunView; // without spec, transitions and result
  agent: AgentView; // without inventory
  steps: StepsEvent;
  telemetry: TelemetryEvent;
  logs: LogsEvent;
}
type Listener<K extends keyof LiveEvents> = (event: LiveEvents[K]) => void;

const kinds: (keyof LiveEvents)[] = ["job", "run", "agent", "steps", "telemetry", "logs"];
const listeners: { [K in keyof LiveEvents]: Set<Listener<K>> } = {
  job: new Set(),
  run: new Set(),
  agent: new Set(),
  steps: new Set(),
  telemetry: new Set(),
  logs: new Set(),
};
const refreshers = new Set<() => void>();
const watchers = new Set<(state: Connection, since: Date) => void>();

let source: EventSource | null = null;
let state: Connection = "connecting";
let since = new Date();
let wasLive = false;
let retryMs = 500;
let heardAt = 0;
// The controller sends at least a ping every 15 s: a stream that says nothing for longer than this is dead,
// even if its connection has not noticed.
const silentMs = 40_000;

function become(next: Connection) {
  if (next === state) return;
  state = next;
  since = new Date();
  for (const watch of watchers) watch(state, since);
}

function deliver<K extends keyof LiveEvents>(kind: K, message: MessageEvent<string>) {
  heardAt = Date.now();
  const event = JSON.parse(message.data) as LiveEvents[K];
  for (const listener of listeners[kind]) listener(event);
}

function open() {
  source?.close();
  // A stream opened anew cannot send Last-Event-ID as a header; every page fetches again instead.
  source = new EventSource(eventsPath);
  heardAt = Date.now();
  source.onopen = () => {
    heardAt = Date.now();
    retryMs = 500;
    become("live");
    if (wasLive) for (const refresh of [...refreshers]) refresh();
    wasLive = true;
  };
  source.onerror = () => {
    become("lost");
    // The browser tries again by itself only while the stream is not closed (not after an HTTP error).
    if (source?.readyState === EventSource.CLOSED) {
      window.setTimeout(open, retryMs);
      retryMs = Math.min(retryMs * 2, 8000);
    }
  };
  // The log no longer reaches back to where this stream was: fetch instead.
  source.addEventListener("gap", () => {
    for (const refresh of [...refreshers]) refresh();
  });
  source.addEventListener("ping", () => (heardAt = Date.now()));
  for (const kind of kinds) source.addEventListener(kind, (m) => deliver(kind, m as MessageEvent<string>));
}

const hiddenForMs = 60_000;

export function startLive() {
  let sleeping = 0;
  open();
  window.setInterval(() => {
    if (!source || source.readyState === EventSource.CLOSED || Date.now() - heardAt < silentMs) return;
    become("lost");
    open();
  }, 5000);
  // Browsers allow six connections to one address: a tab that nobody looks at gives its own back. A
  // laptop that wakes up has a dead stream that has not noticed yet.
  document.addEventListener("visibilitychange", () => {
    window.clearTimeout(sleeping);
    if (document.visibilityState === "hidden") {
      sleeping = window.setTimeout(() => {
        source?.close();
        become("connecting");
      }, hiddenForMs);
    } else if (source?.readyState === EventSource.CLOSED) {
      open();
    }
  });
}

// All give a function that ends the subscription.
export function onEvent<K extends keyof LiveEvents>(kind: K, listener: Listener<K>): () => void {
  listeners[kind].add(listener);
  return () => void listeners[kind].delete(listener);
}
// For kinds of which many ranks send many: those that `wanted` takes, put together for `everyMs`.
export function onBatch<K extends keyof LiveEvents>(kind: K, everyMs: number, wanted: (event: LiveEvents[K]) => boolean, listener: (events: LiveEvents[K][]) => void): () => void {
  let waiting: LiveEvents[K][] = [];
  let timer = 0;
  const flush = () => {
    const events = waiting;
    waiting = [];
    timer = 0;
    listener(events);
  };
  const stop = onEvent(kind, (event) => {
    if (!wanted(event)) return;
    waiting.push(event);
    timer ||= window.setTimeout(flush, everyMs);
  });
  return () => {
    stop();
    window.clearTimeout(timer);
  };
}
export function onReconnect(refresh: () => void): () => void {
  refreshers.add(refresh);
  return () => void refreshers.delete(refresh);
}
export function onConnection(watch: (state: Connection, since: Date) => void): () => void {
  watchers.add(watch);
  watch(state, since);
  return () => void watchers.delete(watch);
}
