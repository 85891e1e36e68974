// Numbers of a result by which sides can be compared. Pure.
import type { ResultView } from "./contract";
import { bytes, milliseconds, number, rate } from "./format";

export interface Metric {
  name: string; // in addresses and files
  title: string;
  short: string;
  term: string; // of the definitions
  of: (r: ResultView) => number | null;
  show: (value: number) => string;
  unit: string; // of the axis
  perUnit: number; // value / perUnit is what the axis counts
  relation: string; // "a trains it <preposition>2.00× <relation> b"
  preposition: string;
  lessIsBetter: boolean;
  missing: string;
  ofSteps: boolean; // the steps of one run tell its spread
}

export const throughput: Metric = {
  name: "images_per_second",
  title: "Images per second",
  short: "Throughput",
  term: "images_per_second",
  of: (r) => r.images_per_second,
  show: (v) => `${rate(v)} img/s`,
  unit: "img/s",
  perUnit: 1,
  relation: "as fast as",
  preposition: "",
  lessIsBetter: false,
  missing: "no valid run",
  ofSteps: true,
};

const latency = (name: "p50_ms" | "p99_ms", word: string): Metric => ({
  name: `latency_${name}`,
  title: `Latency of a batch, ${word}`,
  short: `Latency, ${word}`,
  term: "latency",
  of: (r) => r.inference?.latency?.[name] ?? null,
  show: milliseconds,
  unit: "ms",
  perUnit: 1,
  relation: `the ${word} latency of`,
  preposition: "at ",
  lessIsBetter: true,
  missing: "no latency: not inference, or batches overlapped (input.overlap)",
  ofSteps: false,
});

export const metrics: Metric[] = [
  throughput,
  {
    name: "images_per_second_per_watt",
    title: "Images per second per watt",
    short: "Per watt",
    term: "images_per_second_per_watt",
    of: (r) => r.images_per_second_per_watt,
    show: (v) => `${number(v)} img/s/W`,
    unit: "img/s per W",
    perUnit: 1,
    relation: "as many images per joule as",
    preposition: "with ",
    lessIsBetter: false,
    missing: "not available: no power counter",
    ofSteps: false,
  },
  latency("p50_ms", "p50"),
  latency("p99_ms", "p99"),
  {
    name: "peak_gpu_memory_bytes",
    title: "Peak memory of a GPU",
    short: "GPU memory",
    term: "peak_gpu_memory_bytes",
    of: (r) => r.peak_gpu_memory_bytes,
    show: bytes,
    unit: "GiB",
    perUnit: 2 ** 30,
    relation: "the GPU memory of",
    preposition: "in ",
    lessIsBetter: true,
    missing: "not available: no GPU that says",
    ofSteps: false,
  },
];

// Those that some result has; throughput always.
export const metricsOf = (results: ResultView[]): Metric[] => metrics.filter((m) => m === throughput || results.some((r) => m.of(r) !== null));
export const metricNamed = (name: string | null): Metric => metrics.find((m) => m.name === name) ?? throughput;
