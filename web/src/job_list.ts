// The list of jobs as the page holds it: filters in the address, pages from the server, live events
// folded in without moving what is being read. Pure.
import { clockNow } from "./clock";
import type { JobQuery, JobView, RunProgress } from "./contract";

export const filterNames = ["state", "model", "mode", "precision", "device_class", "agent", "label", "name", "within"] as const;
export type FilterName = (typeof filterNames)[number];
export type Filters = Partial<Record<FilterName, string>>;

export const withinHours: Record<string, number> = { "1h": 1, "24h": 24, "7d": 168, "30d": 720 };

export function filtersFrom(params: URLSearchParams): Filters {
  const filters: Filters = {};
  for (const name of filterNames) {
    const value = params.get(name);
    if (value) filters[name] = value;
  }
  return filters;
}

export function queryOf(filters: Filters, now: Date = clockNow()): JobQuery {
  const { within, ...rest } = filters;
  const hours = within ? withinHours[within] : undefined;
  return hours === undefined ? rest : { ...rest, since: new Date(now.getTime() - hours * 3_600_000).toISOString() };
}

// Whether a job that has just been submitted belongs on the page. The server decides for good on the
// next fetch; here only what the job itself shows is looked at.
export function matches(filters: Filters, job: JobView): boolean {
  const active = job.state === "queued" || job.state === "running";
  if (filters.state && (filters.state === "active" ? !active : job.state !== filters.state)) return false;
  for (const name of ["model", "mode", "precision", "device_class"] as const) {
    if (filters[name] && job[name] !== filters[name]) return false;
  }
  if (filters.agent && !job.agents.includes(filters.agent)) return false;
  if (filters.name && !job.name.toLowerCase().includes(filters.name.toLowerCase())) return false;
  if (filters.label) {
    const [key, ...value] = filters.label.split("=");
    if (job.labels[key ?? ""] !== value.join("=")) return false;
  }
  return true;
}

export interface JobList {
  items: JobView[]; // newest first
  unseen: JobView[]; // arrived while somebody was reading further down; newest first
  nextCursor: string | null;
}
export const emptyList: JobList = { items: [], unseen: [], nextCursor: null };

// Members that events leave out (runs, specs) stay as they were.
function merged(old: JobView, event: JobView): JobView {
  return {
    ...old,
    ...event,
    spec_submitted: old.spec_submitted,
    spec_resolved: event.spec_resolved ?? old.spec_resolved,
    runs: old.runs,
    transitions: old.transitions,
  };
}

export function applyJob(list: JobList, event: JobView, filters: Filters, atTop: boolean): JobList {
  const replace = (jobs: JobView[]) => jobs.map((j) => (j.id === event.id ? merged(j, event) : j));
  if (list.items.some((j) => j.id === event.id)) return { ...list, items: replace(list.items) };
  if (list.unseen.some((j) => j.id === event.id)) return { ...list, unseen: replace(list.unseen) };
  const oldest = list.items[list.items.length - 1]?.id ?? 0;
  const loaded = event.id > oldest || list.nextCursor === null; // else it is further down, on a page not loaded
  if (!loaded || !matches(filters, event)) return list;
  return atTop ? { ...list, items: newestFirst([event, ...list.items]) } : { ...list, unseen: newestFirst([event, ...list.unseen]) };
}
const newestFirst = (jobs: JobView[]): JobView[] => [...jobs].sort((a, b) => b.id - a.id);

export function appendPage(list: JobList, items: JobView[], nextCursor: string | null): JobList {
  const known = new Set(list.items.map((j) => j.id));
  return { ...list, items: [...list.items, ...items.filter((j) => !known.has(j.id))], nextCursor };
}

export const showUnseen = (list: JobList): JobList => ({ ...list, items: newestFirst([...list.unseen, ...list.items]), unseen: [] });

// "measuring 45 of 100 · 12.3 img/s" is made from this; kept beside the list since jobs carry no progress.
export type ProgressByJob = Record<number, RunProgress>;
