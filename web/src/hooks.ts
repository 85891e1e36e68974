// What pages share of fetching: load, keep what is shown while loading again, heal with the connection.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";
import { clockNow } from "./clock";
import { type LiveEvents, onEvent, onReconnect } from "./live";

export interface Loaded<T> {
  data: T | null;
  error: ApiError | null;
  loading: boolean;
  reload: () => void;
  change: (update: (data: T) => T) => void; // folds a live event in; nothing happens before the first answer
}

export const asApiError = (error: unknown): ApiError =>
  error instanceof ApiError ? error : new ApiError("The page failed", error instanceof Error ? error.message : String(error), null, []);

// Loads when `key` changes and again when the event stream comes back. Old data of the same key stays on
// screen until the new arrives.
export function useLoad<T>(key: string | null, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, setState] = useState<{ key: string | null; data: T | null; error: ApiError | null; loading: boolean }>({
    key,
    data: null,
    error: null,
    loading: key !== null,
  });
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    if (key === null) {
      setState({ key, data: null, error: null, loading: false });
      return;
    }
    const abort = new AbortController();
    let again = 0;
    setState((s) => ({ key, data: s.key === key ? s.data : null, error: s.key === key ? s.error : null, loading: true }));
    latest.current(abort.signal).then(
      (data) => !abort.signal.aborted && setState({ key, data, error: null, loading: false }),
      (error: unknown) => {
        if (abort.signal.aborted) return;
        const problem = asApiError(error);
        setState((s) => ({ ...s, error: problem, loading: false }));
        if (problem.status === null || problem.status >= 500) again = window.setTimeout(() => setTurn((t) => t + 1), 3000);
      },
    );
    return () => {
      abort.abort();
      window.clearTimeout(again);
    };
  }, [key, turn]);
  useEffect(() => onReconnect(() => setTurn((t) => t + 1)), []);
  const reload = useCallback(() => setTurn((t) => t + 1), []);
  const change = useCallback((update: (data: T) => T) => setState((s) => (s.data === null ? s : { ...s, data: update(s.data) })), []);
  return { data: state.key === key ? state.data : null, error: state.error, loading: state.loading, reload, change };
}

// Calls within `afterMs` of each other act once, that long after the first.
export function useSoon(act: () => void, afterMs: number): () => void {
  const latest = useRef(act);
  latest.current = act;
  const timer = useRef(0);
  useEffect(() => () => window.clearTimeout(timer.current), []);
  return useCallback(() => {
    timer.current ||= window.setTimeout(() => {
      timer.current = 0;
      latest.current();
    }, afterMs);
  }, [afterMs]);
}

// Loads again soon after an event that `wanted` takes.
export function useReloadOn<K extends keyof LiveEvents>(kind: K, wanted: (event: LiveEvents[K]) => boolean, reload: () => void, afterMs: number) {
  const latest = useRef(wanted);
  latest.current = wanted;
  const soon = useSoon(reload, afterMs);
  useEffect(() => onEvent(kind, (event) => latest.current(event) && soon()), [kind, soon]);
}

// The controller's time, for ages and running durations.
export function useNow(everyMs = 1000): Date {
  const [now, setNow] = useState(() => clockNow());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(clockNow()), everyMs);
    return () => window.clearInterval(timer);
  }, [everyMs]);
  return now;
}

export function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const watch = () => setMatches(list.matches);
    list.addEventListener("change", watch);
    watch();
    return () => list.removeEventListener("change", watch);
  }, [query]);
  return matches;
}

const typing = (target: EventTarget | null) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) && (target as HTMLInputElement).type !== "checkbox";

// Single keys of a page; they rest while somebody types.
export function useKeys(keys: Record<string, (event: KeyboardEvent) => void>) {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
      const act = latest.current[event.key];
      if (!act) return;
      event.preventDefault();
      act(event);
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, []);
}
