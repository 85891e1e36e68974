// What hosts and GPUs did while the run went on: one chart a quantity, one cursor for all of them.
import { useMemo } from "preact/hooks";
import type { RunView, TelemetryEvent } from "../contract";
import { bytes, number, percent } from "../format";
import { type Combine, largest, mean, scaled, type Slots, slotsOf, slowedSpans, smallest, sum, telemetryTable, throttleShares, timeLine, type TimePoint } from "../telemetry";
import { type Theme, useTheme } from "../theme";
import { Chart } from "./chart";
import { timeOption } from "./options";

interface Line {
  name: string;
  pick: (e: TelemetryEvent) => number | null | undefined;
  combine: Combine;
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
const quantities = (many: boolean): Quantity[] => {
  return [
    {
      title: "Utilisation",
      unit: "%",
      fromZero: true,
      most: 100,
      say: (v) => percent(v / 100, 0),
      lines: [
        { name: "CPU", pick: (e) => scaled(e.cpu_fraction, 100), combine: mean },
        { name: "GPU", pick: (e) => scaled(e.gpu_fraction, 100), combine: mean },
      ],
    },
    {
      title: "Memory",
      unit: "GiB",
      fromZero: true,
      say: (v) => bytes(v * gibibytes),
      lines: [
        { name: many ? "largest rank (resident)" : "worker (resident)", pick: (e) => scaled(e.rss_bytes, 1 / gibibytes), combine: largest },
        { name: many ? "fullest GPU" : "GPU", pick: (e) => scaled(e.gpu_memory_bytes, 1 / gibibytes), combine: largest },
      ],
    },
    { title: "GPU power", unit: "W", fromZero: true, say: (v) => `${number(v)} W`, lines: [{ name: many ? "all GPUs" : "GPU", pick: (e) => e.power_w, combine: sum }] },
    { title: "GPU temperature", unit: "°C", fromZero: false, say: (v) => `${number(v)} °C`, lines: [{ name: many ? "hottest GPU" : "GPU", pick: (e) => e.temperature_c, combine: largest }] },
    { title: "GPU clock", unit: "MHz", fromZero: false, slowed: true, say: (v) => `${number(v)} MHz`, lines: [{ name: many ? "slowest GPU" : "GPU", pick: (e) => e.clock_mhz, combine: smallest }] },
  ];
};

interface Told {
  events: TelemetryEvent[];
  slots: Slots;
}

function OneQuantity({ what, told, name, theme }: { what: Quantity; told: Told; name: string; theme: Theme }) {
  const { events, slots } = told;
  const lines = useMemo(
    () => what.lines.map((l) => ({ name: l.name, points: timeLine(slots, l.pick, l.combine) })).filter((l) => l.points.length > 0),
    [slots, what],
  );
  const slowed = useMemo(() => (what.slowed ? slowedSpans(slots) : []), [slots, what]);
  const option = useMemo(
    () => (lines.length ? timeOption(lines, theme, { unit: what.unit, fromZero: what.fromZero, most: what.most ?? null, slowed }) : null),
    [lines, slowed, theme, what],
  );
  const reasons = useMemo(() => (what.slowed ? throttleShares(events) : null), [events, what]);
  if (!option) return null;
  const last = (points: TimePoint[]) => what.say(points[points.length - 1]![1]);
  const peak = (points: TimePoint[]) => what.say(Math.max(...points.map((p) => p[1])));
  const why = reasons === null ? "" : reasons.length ? ` Clock limited by ${reasons.map(([r, share]) => `${r} (${percent(share, 0)} of readings)`).join(", ")}.` : " Nothing limited the clock.";
  return (
    <Chart
      title={what.title}
      label={`${what.title} over time`}
      name={`${name}-${what.title.toLowerCase().replace(/ /g, "-")}`}
      summary={`${lines.map((l) => `${l.name}: ${last(l.points)} at the end, at most ${peak(l.points)}`).join("; ")}.${why}`}
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
        <OneQuantity key={what.title} what={what} told={told} name={`job-${run.job_id}-run-${run.id}-telemetry`} theme={theme} />
      ))}
    </div>
  );
}
