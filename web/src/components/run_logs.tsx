// Lines of a run as they come, with search, drawn a window at a time. Earlier lines are fetched when asked for.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type ApiError } from "../api";
import type { LogLineView } from "../contract";
import { localTime, plural, utcTime } from "../format";
import { asApiError, useLoad } from "../hooks";
import { onEvent } from "../live";
import { save } from "./copy";
import { Problem } from "./notices";

const tail = 1000;
const drawn = 2000;
const fetched = 10_000; // lines of an answer

export interface LogState {
  lines: LogLineView[];
  hole: boolean; // lines between these and the newest event are missing: fetch again
}

// Lines are numbered without holes; an event may repeat what a fetch has brought. Pure.
export function addLines(state: LogState, lines: LogLineView[]): LogState {
  const last = state.lines[state.lines.length - 1]?.number;
  const fresh = last === undefined ? lines : lines.filter((l) => l.number > last);
  if (!fresh.length) return state;
  if (last !== undefined && fresh[0]!.number > last + 1) return { ...state, hole: true };
  return { ...state, lines: [...state.lines, ...fresh] };
}

export function findLines(lines: LogLineView[], text: string): LogLineView[] {
  const wanted = text.trim().toLowerCase();
  return wanted ? lines.filter((l) => l.text.toLowerCase().includes(wanted)) : lines;
}

// The lines to draw: the last `most` up to line `end`; of all where there is none so early.
export function logWindow(lines: LogLineView[], end: number | null, most = drawn): LogLineView[] {
  const upTo = end === null ? lines : lines.filter((l) => l.number <= end);
  return (upTo.length ? upTo : lines).slice(-most);
}

const who = (l: LogLineView): string => (l.rank < 0 ? l.stream : l.stream === "stderr" ? `rank ${l.rank} err` : `rank ${l.rank}`);
export const logText = (lines: LogLineView[]): string => lines.map((l) => `${l.at} ${who(l)}: ${l.text}\n`).join("");

// Everything that is kept, page by page.
async function wholeLog(run: number): Promise<LogLineView[]> {
  const lines: LogLineView[] = [];
  for (;;) {
    const after = lines[lines.length - 1]?.number ?? 0;
    const page = await api.logs(run, { after, limit: fetched });
    lines.push(...page.lines);
    if (!page.lines.length || page.lines[page.lines.length - 1]!.number >= page.last_number) return lines;
  }
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
  const [problem, setProblem] = useState<ApiError | null>(null);
  const [end, setEnd] = useState<number | null>(null); // the last line drawn; null: the newest
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
  }, [lines.length, search, end]);
  const shown = logWindow(found, end);
  const first = lines[0]?.number ?? 0;
  const top = shown[0]?.number ?? first;
  const act = async (what: () => Promise<void>) => {
    setBusy(true);
    setProblem(null);
    await what().catch((error: unknown) => setProblem(asApiError(error)));
    setBusy(false);
  };
  const earlier = () =>
    act(async () => {
      atEnd.current = false;
      if (shown.length && shown[0] !== found[0]) return setEnd(top - 1);
      let older = (await api.logs(run, { after: Math.max(0, first - 1 - fetched), limit: fetched })).lines.filter((l) => l.number < first);
      // Behind the lines that are not kept of a long log: its beginning.
      if (older.length < 2 && first > 1) older = [...(await api.logs(run, { after: 0, limit: drawn })).lines.filter((l) => l.number < first), ...older];
      logs.change((s) => ({ ...s, lines: [...older.filter((l) => l.number < (s.lines[0]?.number ?? Infinity)), ...s.lines] }));
      setEnd(first - 1);
    });
  const later = () => {
    const after = found.filter((l) => l.number > (end ?? Infinity));
    setEnd(after.length > drawn ? after[drawn - 1]!.number : null);
  };
  const saveAll = () => act(async () => save(`rackmark-run-${run}.log`, "text/plain", logText(await wholeLog(run))));
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
          <span class="muted">{wanted ? `${found.length} of ${plural(lines.length, "line")}` : plural(lines.length, "line")}{shown.length < found.length ? `, ${top} to ${shown[shown.length - 1]?.number} shown` : ""}</span>
          {(first > 1 || (shown.length > 0 && shown[0] !== found[0])) && (
            <button type="button" class="small" disabled={busy} onClick={() => void earlier()}>
              Earlier lines
            </button>
          )}
          {end !== null && (
            <button type="button" class="small" onClick={later}>
              Later lines
            </button>
          )}
          {lines.length > 0 && (
            <button type="button" class="small" disabled={busy} onClick={() => void saveAll()}>
              Save log
            </button>
          )}
        </div>
      </div>
      {(problem ?? logs.error) && <Problem error={(problem ?? logs.error)!} />}
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
          {shown.map((l) => (
            <div key={l.number} class={`line stream-${l.stream}`}>
              <time dateTime={l.at} title={utcTime(l.at)}>
                {localTime(l.at)}
              </time>
              <span class="who">{who(l)}</span>
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
