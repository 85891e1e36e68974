// The REST contract as types: struct members of common/protocol/*.hpp under their own names.
// A missing number is null, never 0.

export type JobState = "queued" | "running" | "succeeded" | "failed" | "cancelled";
export type RunState =
  | "reserved"
  | "starting"
  | "warmup"
  | "measuring"
  | "collecting"
  | "succeeded"
  | "failed"
  | "cancelled"
  | "timeout"
  | "stalled"
  | "out_of_memory"
  | "lost";
export type Verdict = "clean" | "suspect" | "invalid";
export type Labels = Record<string, string>;
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

export interface StepStatistics {
  count: number;
  mean_ms: number | null;
  median_ms: number | null;
  p50_ms: number | null;
  p90_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  max_ms: number | null;
  min_ms: number | null;
  standard_error_ms: number | null;
  jitter_ms: number | null;
  variation: number | null;
  drift: number | null;
}
export interface Headline {
  images_per_second: number | null;
  spread: { value: number | null; kind: string };
  runs: number;
}
export interface Validity {
  verdict: Verdict;
  causes: string[];
  not_checked: string[];
}
export interface Waiting {
  detail: string;
  blocking_job: number | null;
  estimate_s: number | null;
}
export interface DryRun {
  spec_resolved: JsonObject;
  matching_agents: string[];
  waiting: Waiting | null;
  estimate_s: number | null;
}
export interface TransitionView {
  state: RunState;
  actor: string;
  at: string;
  agent_at: string | null;
  reason: string;
  detail: string;
}
export interface RunProgress {
  phase: string;
  steps_done: number;
  steps_planned: number | null;
  images_per_second: number | null;
  loss: number | null;
}
export interface GpuUse {
  uuid: string;
  name: string;
  readings: number;
  energy_j: number | null;
  power_w: number | null;
  busy_fraction: number | null;
  peak_memory_bytes: number | null;
  max_temperature_c: number | null;
  sm_clock_mhz: number | null;
  memory_clock_mhz: number | null;
  sm_clock_change: number | null;
  throttled: Record<string, number> | null; // reason -> share of the readings
  ecc_corrected: number | null;
  ecc_uncorrected: number | null;
}
export interface RankTime {
  rank: number;
  host: string;
  step_ms: number;
  input_wait_ms: number;
  compute_ms: number;
  exposed_communication_ms: number;
  server_wait_ms: number;
  share_last: number;
  staleness: number[];
  skipped_steps: number | null; // measured steps whose gradients overflowed; null without a loss scale
  gpu: GpuUse | null; // null on cpu
}
export interface AllReduceTime {
  ranks: number;
  bytes: number;
  turns: number;
  median_s: number;
}
export interface LatencyStatistics {
  count: number;
  mean_ms: number | null;
  p50_ms: number | null;
  p90_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  max_ms: number | null;
}
export interface Agreement {
  pictures: number;
  top1: number;
  cosine: number;
  cosine_floor: number;
}
export interface InferenceView {
  instances: number;
  latency: LatencyStatistics | null;
  agreement: Agreement | null; // int8 and bf16 only
  notes: Record<string, string>;
}
export interface BatchSearch {
  batch_size: number;
  probes: number;
  bytes_wanted: number;
  bytes_free: number;
  limited_by: string;
}
export interface ProfileRow {
  layer: string;
  pass: string;
  implementation: string;
  ms: number;
  share: number;
  gflops: number | null;
  gbps: number | null;
  plain_loops: boolean;
}
export interface ProfileView {
  run_id: number;
  profile: {
    passes: number;
    sum_ms: number;
    step_ms: number;
    sum_over_step: number;
    window_step_ms: number | null;
    convolution_bound_ms: number | null;
    convolution_bound_share: number | null;
    rows: ProfileRow[];
    rows_left_out: number;
    warnings: string[];
  };
}
export interface ResultView {
  id: number;
  run_id: number;
  job_id: number;
  agent_id: number;
  job_name: string;
  agent: string;
  device_class: string;
  fingerprint: string;
  created_at: string;
  model: string;
  mode: string;
  precision: string;
  device: string;
  variable_update: string; // of the spec; "" in inference
  exchange: string; // how the workers carried it out
  input_kind: string;
  backend: string;
  batch_size: number;
  image_size: number;
  ranks: number;
  threads_per_worker: number;
  repetition: number;
  attempt: number;
  images: number;
  steps: number;
  images_per_second: number;
  window_s: number;
  step: StepStatistics;
  validity: Validity;
  first_loss: number | null;
  final_loss: number | null;
  mfu: number | null;
  matrix_peak_gflops: number | null;
  convolution_bound_share: number | null;
  batch_search: BatchSearch | null;
  setup_s: number | null;
  peak_rss_bytes: number | null;
  peak_gpu_memory_bytes: number | null; // null on cpu
  power_w: number | null;
  joules_per_image: number | null;
  images_per_second_per_watt: number | null;
  pictures_broken: number;
  pictures_left_to_cpu: number | null; // null: the CPU decodes
  broken_pictures: string[];
  rank_times: RankTime[];
  all_reduce_times: AllReduceTime[]; // of the network; empty unless the spec asks for it
  inference: InferenceView | null; // null in other modes
  environment: Json;
}
export interface RunHostView {
  agent_id: number;
  agent: string;
  first_rank: number;
  ranks: number; // workers
  servers: number; // processes that only serve variables
  ended: RunState | null;
  detail: string;
}
export interface RunView {
  id: number;
  job_id: number;
  repetition: number;
  attempt: number;
  state: RunState;
  reason: string;
  detail: string;
  agent_id: number | null;
  agent: string;
  device_class: string;
  hosts: RunHostView[];
  network: string;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  exit_code: number | null;
  memory: Json;
  progress: RunProgress;
  spec: JsonObject; // with what depends on the host
  transitions: TransitionView[];
  result: ResultView | null;
}
export interface JobView {
  id: number;
  controller_uuid: string;
  name: string;
  labels: Labels;
  group_id: number | null;
  rerun_of: number | null;
  state: JobState;
  outcome: RunState | null;
  reason: string;
  detail: string;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  cancel_requested: boolean;
  headline: Headline;
  validity: Validity | null;
  model: string;
  mode: string;
  precision: string;
  device: string;
  variable_update: string;
  batch_size: number;
  agents: string[];
  device_class: string;
  spec_submitted: JsonObject;
  spec_resolved: JsonObject;
  waiting: Waiting | null;
  runs: RunView[];
  transitions: TransitionView[]; // the job's own; empty in lists
}
export interface GroupView {
  id: number;
  kind: string;
  name: string;
  created_at: string;
  state: JobState;
  agents: number[];
  spec: JsonObject;
  members: JobView[]; // empty in lists
}
export interface ScalingPoint {
  agents: number;
  job_id: number | null; // null: more agents than were asked for, predicted only
  state: JobState | null;
  ranks: number | null;
  images_per_second: number | null;
  spread: number | null;
  spread_kind: string;
  runs: number;
  why: string;
  speed_up: number | null;
  efficiency: number | null;
  step_ms: number | null;
  exposed_communication_ms: number | null;
  exposed_communication_share: number | null;
  rank_times: RankTime[];
  ceiling_job_id: number | null;
  ceiling_images_per_second: number | null;
  share_of_ceiling: number | null;
  ceiling_efficiency: number | null;
  ceiling_why: string;
  predicted_images_per_second: number | null;
  predicted_efficiency: number | null;
  predicted_exposed_ms: number | null;
  prediction_error: number | null;
  prediction_why: string;
}
export interface ScalingLink {
  job_id: number;
  agents: number;
  alpha_s: number;
  bytes_per_second: number | null;
  all_reduce_times: AllReduceTime[];
}
export interface ScalingView {
  group_id: number;
  base_agents: number;
  points: ScalingPoint[];
  link: ScalingLink | null;
  link_why: string;
  median_error: number | null;
  largest_error: number | null;
}
export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}
export interface JobQuery {
  state?: string;
  model?: string;
  mode?: string;
  precision?: string;
  device_class?: string;
  agent?: string;
  name?: string;
  label?: string;
  since?: string;
  until?: string;
  cursor?: string;
  limit?: number;
}
export interface ResultQuery {
  model?: string;
  mode?: string;
  precision?: string;
  device_class?: string;
  agent?: string;
  fingerprint?: string;
  input_kind?: string;
  batch_size?: number;
  job?: number;
  since?: string;
  until?: string;
  cursor?: string;
  limit?: number;
}

export interface RankSteps {
  rank: number;
  ms: number[];
  loss: number[];
  input_wait_ms: number[];
  exposed_communication_ms: number[];
  server_wait_ms: number[];
  warmup_ms: number[];
  warmup_loss: number[];
}
export interface StepsView {
  run_id: number;
  images_per_step: number;
  steps: number; // that there are
  warmup_steps: number;
  stride: number; // between two that are here: more than 1 where a long run is thinned
  warmup_stride: number;
  ranks: RankSteps[];
  telemetry: TelemetryEvent[];
}
export interface StepsEvent {
  run_id: number;
  job_id: number;
  rank: number;
  phase: string;
  first_step: number;
  ms: number[];
  loss: number[];
  input_wait_ms: number[];
  exposed_communication_ms: number[];
  server_wait_ms: number[];
}
export interface TelemetryEvent {
  run_id?: number;
  job_id?: number;
  rank: number;
  cpu_fraction: number | null;
  rss_bytes: number | null;
  load_1min: number | null;
  steal_fraction: number | null;
  t_ns: number; // of the host's monotonic clock
  // of the rank's GPU; null where the job computes on cpu, or the card does not say
  gpu_fraction: number | null;
  gpu_memory_bytes: number | null;
  power_w: number | null;
  energy_j: number | null;
  temperature_c: number | null;
  clock_mhz: number | null;
  memory_clock_mhz: number | null;
  throttle_reasons: string[] | null;
  ecc_corrected: number | null;
  ecc_uncorrected: number | null;
}
export interface LogLineView {
  number: number;
  rank: number;
  stream: string;
  at: string;
  text: string;
}
export interface LogPage {
  run_id: number;
  lines: LogLineView[];
  last_number: number;
  complete: boolean;
}
export interface LogsEvent {
  run_id: number;
  job_id: number;
  lines: LogLineView[];
}

export interface CpuInventory {
  vendor: string;
  model_name: string;
  isa: string;
  family: number;
  model: number;
  stepping: number;
  sockets: number;
  physical_cores: number;
  logical_cpus: number;
  numa_domains: number;
  smt: boolean;
}
export interface Inventory {
  hostname: string;
  os: string;
  kernel: string;
  virtualization: string;
  cpu: CpuInventory;
  memory_bytes: number;
  governor: string | null;
  gpus: { name: string; uuid: string; driver: string; memory_bytes: number }[];
  gpus_cut_at: string; // a UUID that names a part of a card: this and later ones are left out
  addresses: string[];
  network: string;
  versions: Record<string, string>;
  data_roots: string[];
  containment: string;
  free_disk_bytes: number;
  slurm: { cluster: string; node: string; job_id: number } | null; // the allocation around the agent
  notes: string[]; // what of the host does not count, and why
}
export interface AgentView {
  id: number;
  name: string;
  device_class: string;
  labels: Labels;
  state: string;
  state_detail: string;
  run_id: number | null;
  job_id: number | null;
  enrolled_at: string;
  last_seen_at: string | null;
  last_seen_s: number | null;
  inventory: Inventory;
}
export interface AgentList {
  items: AgentView[];
  pack_command: string;
}
export interface EnrolmentToken {
  token: string;
  expires_at: string;
}

export interface SpecField {
  path: string;
  type: string;
  unit: string;
  default_value: Json;
  default_text: string;
  values: string[];
  values_now: string[];
  minimum: number | null;
  maximum: number | null;
  applies_when: string;
  in_fingerprint: boolean;
  help: string;
  available?: boolean; // false: this version refuses the field, whatever its value
}
export interface SpecSchema {
  json_schema: Json;
  fields: SpecField[];
  definitions: Record<string, string>;
}
export interface ModelFacts {
  name: string;
  title: string;
  image_size: number;
  classes: number;
  default_batch: number;
  minimum_image_size: number;
  maximum_image_size: number; // equal to the minimum where the size is fixed
  minimum_training_batch: number;
  two_classes_only: boolean;
  parameters: number;
  forward_gflop_per_image: number;
  training_gflop_per_image: number;
  available: boolean;
}
export interface VersionView {
  version: string;
  controller_uuid: string;
  started_at: string;
  protocol: number;
  schema: number;
}
export interface ProblemField {
  field: string;
  value: Json;
  allowed: string;
  detail: string;
}
export interface ProblemBody {
  type: string;
  title: string;
  status: number;
  detail: string;
  instance: string;
  errors: ProblemField[];
}

export const jobStates: JobState[] = ["queued", "running", "succeeded", "failed", "cancelled"];
export const isOver = (state: JobState | RunState): boolean =>
  !["queued", "running", "reserved", "starting", "warmup", "measuring", "collecting"].includes(state);
