// The only place that calls the server. Every refusal arrives as an ApiError, whatever went wrong.
import type {
  AgentList,
  AgentView,
  DryRun,
  EnrolmentToken,
  GroupView,
  JobQuery,
  JobView,
  JsonObject,
  LogPage,
  ModelFacts,
  Page,
  ProblemBody,
  ProblemField,
  ProfileView,
  ResultQuery,
  ResultView,
  ScalingView,
  SpecSchema,
  StepsView,
  VersionView,
} from "./contract";
import { learnClock } from "./clock";

export class ApiError extends Error {
  constructor(
    readonly title: string,
    readonly detail: string,
    readonly status: number | null, // null: no answer at all
    readonly fields: ProblemField[],
  ) {
    super(detail || title);
  }
}

type Query = Record<string, string | number | boolean | undefined | null>;

// Members without a value are left out.
export function queryString(query: object): string {
  const pairs = Object.entries(query as Query).filter(([, v]) => v !== undefined && v !== null && v !== "");
  const text = new URLSearchParams(pairs.map(([k, v]) => [k, String(v)])).toString();
  return text ? "?" + text : "";
}

async function problemOf(reply: Response): Promise<ApiError> {
  const isProblem = (reply.headers.get("content-type") ?? "").includes("json");
  const body = isProblem ? ((await reply.json().catch(() => ({}))) as Partial<ProblemBody>) : {};
  return new ApiError(
    body.title || reply.statusText || `Status ${reply.status}`,
    body.detail || (isProblem ? "" : "The answer did not come from a Rackmark controller."),
    reply.status,
    body.errors ?? [],
  );
}

async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal, headers: Record<string, string> = {}): Promise<T> {
  let reply: Response;
  try {
    reply = await fetch(path, {
      method,
      signal,
      cache: "no-store",
      headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("Controller unreachable", "No answer from the controller. Is rackmark-controller running? This page tries again by itself.", null, []);
  }
  learnClock(reply.headers.get("date"));
  if (!reply.ok) throw await problemOf(reply);
  return (await reply.json()) as T;
}

// Random enough for one submission; crypto.randomUUID is missing outside secure contexts.
export function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

const get = <T>(path: string, signal?: AbortSignal) => call<T>("GET", path, undefined, signal);

export const api = {
  version: () => get<VersionView>("/api/v1/version"),
  spec: () => get<SpecSchema>("/api/v1/spec"),
  models: async () => (await get<{ items: ModelFacts[] }>("/api/v1/models")).items,
  jobs: (query: JobQuery, signal?: AbortSignal) => get<Page<JobView>>("/api/v1/jobs" + queryString(query), signal),
  job: (id: number, signal?: AbortSignal) => get<JobView>(`/api/v1/jobs/${id}`, signal),
  dryRun: (spec: JsonObject, signal?: AbortSignal) => call<DryRun>("POST", "/api/v1/jobs?validate=true", spec, signal),
  // The same key and spec again answer the first reply, so a doubtful submission may be repeated.
  submit: (spec: JsonObject, key: string) => call<JobView>("POST", "/api/v1/jobs", spec, undefined, { "idempotency-key": key }),
  cancel: (id: number) => call<JobView>("POST", `/api/v1/jobs/${id}:cancel`, {}),
  rerun: (id: number) => call<JobView>("POST", `/api/v1/jobs/${id}:rerun`, {}, undefined, { "idempotency-key": newKey() }),
  groups: (query: { kind?: string; cursor?: string; limit?: number }, signal?: AbortSignal) => get<Page<GroupView>>("/api/v1/groups" + queryString(query), signal),
  group: (id: number, signal?: AbortSignal) => get<GroupView>(`/api/v1/groups/${id}`, signal),
  cancelGroup: (id: number) => call<GroupView>("POST", `/api/v1/groups/${id}:cancel`, {}),
  scaling: (id: number, signal?: AbortSignal) => get<ScalingView>(`/api/v1/groups/${id}/scaling`, signal),
  steps: (run: number, signal?: AbortSignal) => get<StepsView>(`/api/v1/runs/${run}/steps`, signal),
  profile: (run: number, signal?: AbortSignal) => get<ProfileView>(`/api/v1/runs/${run}/profile`, signal),
  logs: (run: number, query: { after?: number; limit?: number; tail?: number }, signal?: AbortSignal) =>
    get<LogPage>(`/api/v1/runs/${run}/logs` + queryString(query), signal),
  results: (query: ResultQuery, signal?: AbortSignal) => get<Page<ResultView>>("/api/v1/results" + queryString(query), signal),
  agents: (signal?: AbortSignal) => get<AgentList>("/api/v1/agents", signal),
  agent: (id: number) => get<AgentView>(`/api/v1/agents/${id}`),
  retireAgent: (id: number) => call<AgentView>("POST", `/api/v1/agents/${id}:retire`, {}),
  enrolmentToken: () => call<EnrolmentToken>("POST", "/api/v1/enrolment-tokens", { valid_s: 3600 }),
};

export const eventsPath = "/api/v1/events";
