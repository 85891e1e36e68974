// Lines of a run as they come, with search. Earlier lines are fetched when asked for.
import { useEffect, useRef, useState } from "preact/hooks";
import { api } from "../api";
import type { LogLine } from "../contract";
import { localTime, plural, utcTime } from "../format";
import { asApiError, useLoad } from "../hooks";
import { onEvent } from "../live";
import { Problem } from "./notices";

const tail = 1000;
const drawn = 2000;

export interface LogState {
  lines: LogLine[];
  hole: boolean; // lines between these and the newest event are missing: fetch again
}

// Lines are numbered without holes; an event may repeat what a fetch has brought. Pure.
export function addLines(state: LogState, lines: LogLine[]): LogState {
  const last = state.lines[state.lines.length - 1]?.number;
  const fresh = last === undefined ? lines : lines.filter((l) => l.number > last);
  if (!fresh.length) return state;
  if (last !== undefined && fresh[0]!.number > last + 1) return { ...state, hole: true };
  return { ...state, lines: [...state.lines, ...fresh] };
}

export function findLines(lines: LogLine[], text: string): LogLine[] {
  const wanted = text.trim().toLowerCase();
  return wanted ? lines.filter((l) => l.text.toLowerCase().includes(wanted)) : lines;
}

function Marked({ text, wanted }: { text: string; wanted: string }) {
  const at = wanted ? text.toLowerCase().indexOf(wanted) : -1;
  if (at < 0) return <>{text}</>;
  return (
    <>
      {text.slice(0, at)}
      <mark>{text.slice(at, at + wanted.length)}</mark>
      {text.slice(at + wanted.length)}
    </>
  );
}

export function RunLogs({ run, over }: { run: number; over: boolean }) {
  const logs = useLoad<LogState>(`logs ${run}`, async (signal) => ({ lines: (await api.logs(run, { tail }, signal)).lines, hole: false }));
  const [search, setSearch] = useState("");
  const [busy, setBusy] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  useEffect(() => onEvent("logs", (event) => event.run_id === run && logs.change((s) => addLines(s, event.lines))), [run]);
  useEffect(() => {
    if (!logs.data?.hole) return;
    const timer = window.setTimeout(logs.reload, 500);
    return () => window.clearTimeout(timer);
  }, [logs.data?.hole]);
  const lines = logs.data?.lines ?? [];
  const found = findLines(lines, search);
  useEffect(() => {
    if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines.length, search]);
  const first = lines[0]?.number ?? 0;
  const earlier = async () => {
    setBusy(true);
    try {
      const after = Math.max(0, first - 1 - 10_000);
      const page = await api.logs(run, { after, limit: 10_000 });
      logs.change((s) => ({ ...s, lines: [...page.lines.filter((l) => l.number < (s.lines[0]?.number ?? Infinity)), ...s.lines] }));
    } catch (error) {
      console.warn(asApiError(error).message);
    }
    setBusy(false);
  };
  const wanted = search.trim().toLowerCase();
  return (
    <section class="panel" aria-label="Logs">
      <div class="panel-head">
        <h3>Logs</h3>
        <div class="tools">
          <label class="filter">
            <span>Search</span>
            <input id="log-search" type="search" value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
          </label>
          <span class="muted">{wanted ? `${found.length} of ${plural(lines.length, "line")}` : plural(lines.length, "line")}</span>
          {first > 1 && (
            <button type="button" class="small" disabled={busy} onClick={() => void earlier()}>
              Earlier lines
            </button>
          )}
        </div>
      </div>
      {logs.error && <Problem error={logs.error} />}
      {logs.data && !lines.length && <p class="missing pad">{over ? "Nothing was written." : "Nothing has been written yet."}</p>}
      {lines.length > 0 && (
        <div
          ref={box}
          class="log scroll"
          tabIndex={0}
          role="log"
          aria-label="Log lines"
          aria-live="off"
          onScroll={(e) => (atEnd.current = e.currentTarget.scrollHeight - e.currentTarget.scrollTop - e.currentTarget.clientHeight < 30)}
        >
          {found.slice(-drawn).map((l) => (
            <div key={l.number} class={`line stream-${l.stream}`}>
              <time dateTime={l.at} title={utcTime(l.at)}>
                {localTime(l.at)}
              </time>
              <span class="who">{l.rank < 0 ? l.stream : l.stream === "stderr" ? `rank ${l.rank} err` : `rank ${l.rank}`}</span>
              <span class="text">
                <Marked text={l.text} wanted={wanted} />
              </span>
            </div>
          ))}
        </div>
      )}
    </section>
  );
}
