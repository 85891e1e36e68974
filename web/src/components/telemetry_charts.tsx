// What hosts and GPUs did while the run went on: one chart a quantity, one cursor for all of them.
import { useMemo } from "preact/hooks";
import type { ResultView, RunView, TelemetryEvent } from "../contract";
import { bytes, number, percent, plural, words } from "../format";
import { gpusOf, overGpus } from "../gpus";
import { type Combine, extremeOf, largest, mean, scaled, type Slots, slotsOf, slowedSpans, smallest, sum, telemetryTable, throttleShares, timeLine, type TimePoint } from "../telemetry";
import { type Theme, useTheme } from "../theme";
import { Chart } from "./chart";
import { timeOption } from "./options";

interface Line {
  name: string;
  pick: (e: TelemetryEvent) => number | null | undefined;
  combine: Combine;
  extreme?: "highest" | "lowest"; // what a single reading may say; not where readings of several GPUs are added up
  peak?: (r: ResultView) => number | null; // the run's own, of every reading in the measured window
}
interface Quantity {
  title: string;
  unit: string;
  lines: Line[];
  say: (value: number) => string;
  fromZero: boolean;
  most?: number; // of the axis
  slowed?: boolean; // shows when a GPU was slowed down
}

const gibibytes = 2 ** 30;
const hottest = (r: ResultView): number | null => overGpus(gpusOf(r), (g) => g.max_temperature_c, "most")?.value ?? null;
const quantities = (many: boolean): Quantity[] => {
  return [
    {
      title: "Utilisation",
      unit: "%",
      fromZero: true,
      most: 100,
      say: (v) => percent(v / 100, 0),
      lines: [
        { name: "CPU", pick: (e) => scaled(e.cpu_fraction, 100), combine: mean, extreme: "highest" },
        { name: "GPU", pick: (e) => scaled(e.gpu_fraction, 100), combine: mean, extreme: "highest" },
      ],
    },
    {
      title: "Memory",
      unit: "GiB",
      fromZero: true,
      say: (v) => bytes(v * gibibytes),
      lines: [
        { name: many ? "largest rank (resident)" : "worker (resident)", pick: (e) => scaled(e.rss_bytes, 1 / gibibytes), combine: largest, extreme: "highest" },
        { name: many ? "fullest GPU" : "GPU", pick: (e) => scaled(e.gpu_memory_bytes, 1 / gibibytes), combine: largest, extreme: "highest", peak: (r) => scaled(r.peak_gpu_memory_bytes, 1 / gibibytes) },
      ],
    },
    { title: "GPU power", unit: "W", fromZero: true, say: (v) => `${number(v)} W`, lines: [{ name: many ? "all GPUs" : "GPU", pick: (e) => e.power_w, combine: sum, extreme: many ? undefined : "highest" }] },
    { title: "GPU temperature", unit: "°C", fromZero: false, say: (v) => `${number(v)} °C`, lines: [{ name: many ? "hottest GPU" : "GPU", pick: (e) => e.temperature_c, combine: largest, extreme: "highest", peak: hottest }] },
    { title: "GPU clock", unit: "MHz", fromZero: false, slowed: true, say: (v) => `${number(v)} MHz`, lines: [{ name: many ? "slowest GPU" : "GPU", pick: (e) => e.clock_mhz, combine: smallest, extreme: "lowest" }] },
  ];
};

interface Told {
  events: TelemetryEvent[];
  slots: Slots;
}

// The line is made of averages; what was highest or lowest is a single reading, or the run's own peak.
function lineText(line: Line, last: number, { events }: Told, result: ResultView | null, say: (value: number) => string): string {
  const now = `${line.name}: ${say(last)} at the end`;
  const peak = result && line.peak ? line.peak(result) : null;
  if (peak !== null) return `${now}, at most ${say(peak)} in the measured window`;
  const extreme = line.extreme ? extremeOf(events, line.pick, line.extreme === "highest" ? largest : smallest) : null;
  return extreme === null ? now : `${now}, ${line.extreme} reading shown ${say(extreme)}`;
}

function OneQuantity({ what, told, name, theme, result, many }: { what: Quantity; told: Told; name: string; theme: Theme; result: ResultView | null; many: boolean }) {
  const { events, slots } = told;
  const lines = useMemo(
    () => what.lines.map((l) => ({ ...l, points: timeLine(slots, l.pick, l.combine) })).filter((l) => l.points.length > 0),
    [slots, what],
  );
  const slowed = useMemo(() => (what.slowed ? slowedSpans(slots) : []), [slots, what]);
  const option = useMemo(
    () => (lines.length ? timeOption(lines, theme, { unit: what.unit, fromZero: what.fromZero, most: what.most ?? null, slowed }) : null),
    [lines, slowed, theme, what],
  );
  const reasons = useMemo(() => (what.slowed ? throttleShares(events) : null), [events, what]);
  if (!option) return null;
  const last = (points: TimePoint[]) => points[points.length - 1]![1];
  const why =
    reasons === null
      ? ""
      : reasons.shares.length
        ? ` Clock limited by ${reasons.shares.map(([r, share]) => `${words(r)} (${percent(share, 0)})`).join(", ")} of the ${plural(reasons.readings, "reading")} shown${many ? " of all GPUs" : ""}.`
        : ` Nothing limited the clock in the ${plural(reasons.readings, "reading")} shown.`;
  return (
    <Chart
      title={what.title}
      label={`${what.title} over time`}
      name={`${name}-${what.title.toLowerCase().replace(/ /g, "-")}`}
      summary={`${lines.map((l) => lineText(l, last(l.points), told, result, what.say)).join("; ")}.${why}`}
      option={option}
      empty=""
      table={() => telemetryTable(events)}
      theme={theme}
      height={150}
      group={name}
    />
  );
}

// Nothing where nothing came in; a quantity that this run does not have has no chart.
export function TelemetryCharts({ run, events, many }: { run: RunView; events: TelemetryEvent[]; many: boolean }) {
  const theme = useTheme();
  const all = useMemo(() => quantities(many), [many]);
  const told = useMemo(() => ({ events, slots: slotsOf(events) }), [events]);
  if (!events.length) return null;
  return (
    <div class="chart-grid" data-telemetry={events.length}>
      {all.map((what) => (
        <OneQuantity key={what.title} what={what} told={told} name={`job-${run.job_id}-run-${run.id}-telemetry`} theme={theme} result={run.result} many={many} />
      ))}
    </div>
  );
}
