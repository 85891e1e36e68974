// Options of the charts, as functions of data and theme. Pure; tooltips are drawn, not HTML.
import { number } from "../format";
import { type Bin, type Interval, ratioTicks } from "../intervals";
import type { RankTime, ScalingPoint } from "../contract";
import type { SeriesPoint } from "../steps";
import type { TimePoint } from "../telemetry";
import type { Theme } from "../theme";
import type { Drawing } from "./chart_engine";

const axis = (t: Theme) => ({
  axisLine: { lineStyle: { color: t.line } },
  axisTick: { lineStyle: { color: t.line } },
  axisLabel: { color: t.muted, fontSize: 11 },
  splitLine: { lineStyle: { color: t.line, width: 0.5 } },
  nameTextStyle: { color: t.muted, fontSize: 11 },
});
const base = (t: Theme) => ({
  animation: false,
  textStyle: { fontFamily: "system-ui, sans-serif", color: t.text },
  tooltip: {
    trigger: "axis",
    renderMode: "richText",
    confine: true,
    backgroundColor: t.panel,
    borderColor: t.line,
    textStyle: { color: t.text, fontSize: 12 },
    axisPointer: { lineStyle: { color: t.muted }, shadowStyle: { opacity: 0.1 } },
  },
});

// A line with a band around it over steps; warm-up steps are left of zero. With `planned` the axis is as
// long as the run will be, so that nothing moves while it grows.
export function bandOption(points: SeriesPoint[], t: Theme, what: { unit: string; band: string | null; color: string; fromZero: boolean; planned: number | null }): Drawing {
  const warmup = points.some((p) => p.step < 0);
  const line = { type: "line", showSymbol: points.length < 3, symbolSize: 4, emphasis: { disabled: true } };
  return {
    ...base(t),
    grid: { left: 56, right: 16, top: 26, bottom: 40 },
    xAxis: {
      type: "value",
      name: warmup ? "step (below 0: warm-up)" : "step",
      nameLocation: "middle",
      nameGap: 24,
      min: points.length ? Math.floor(points[0]!.step) : 0,
      max: Math.max(points.length ? Math.ceil(points[points.length - 1]!.step) : 1, what.planned !== null ? what.planned - 1 : -Infinity),
      minInterval: 1,
      ...axis(t),
      splitLine: { show: false },
    },
    yAxis: { type: "value", name: what.unit, nameLocation: "end", ...axis(t), nameTextStyle: { color: t.muted, fontSize: 11, align: "right" }, scale: !what.fromZero },
    tooltip: {
      ...base(t).tooltip,
      formatter: (items: { dataIndex: number }[]) => {
        const p = points[items[0]?.dataIndex ?? -1];
        if (!p) return "";
        const range = what.band && p.high > p.low ? `\n${what.band}: ${number(p.low, 4)} to ${number(p.high, 4)}` : "";
        return `step ${Math.floor(p.step)}\n${number(p.middle, 4)} ${what.unit}${range}`;
      },
    },
    series: [
      ...(what.band
        ? [
            { ...line, name: "low", stack: "band", stackStrategy: "all", silent: true, lineStyle: { opacity: 0 }, showSymbol: false, data: points.map((p) => [p.step, p.low]) },
            {
              ...line,
              name: "band",
              stack: "band",
              stackStrategy: "all",
              silent: true,
              lineStyle: { opacity: 0 },
              showSymbol: false,
              areaStyle: { color: what.color, opacity: 0.18 },
              data: points.map((p) => [p.step, p.high - p.low]),
            },
          ]
        : []),
      {
        ...line,
        name: what.unit,
        z: 3,
        lineStyle: { color: what.color, width: 1.6 },
        itemStyle: { color: what.color },
        data: points.map((p) => [p.step, p.middle]),
        markLine: warmup && points.some((p) => p.step >= 0) ? { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: t.muted, type: "dashed" }, data: [{ xAxis: 0 }] } : undefined,
      },
    ],
  };
}

// Lines over the seconds of a run; shaded where a GPU was slowed down by heat or the power brake.
export function timeOption(lines: { name: string; points: TimePoint[] }[], t: Theme, what: { unit: string; fromZero: boolean; most: number | null; slowed: [number, number][] }): Drawing {
  const colors = [t.accent, t.dark ? "#CC79A7" : "#a8487c"];
  return {
    ...base(t),
    grid: { left: 56, right: 16, top: lines.length > 1 ? 30 : 26, bottom: 34 },
    legend: { show: lines.length > 1, top: 0, right: 12, itemWidth: 18, itemHeight: 8, selectedMode: false, textStyle: { color: t.muted, fontSize: 11 } },
    xAxis: { type: "value", name: "s", nameLocation: "end", nameGap: 4, min: 0, ...axis(t), splitLine: { show: false } },
    yAxis: { type: "value", name: what.unit, nameLocation: "end", ...axis(t), nameTextStyle: { color: t.muted, fontSize: 11, align: "right" }, scale: !what.fromZero, max: what.most ?? undefined, interval: what.most === null ? undefined : what.most / 4, splitNumber: 3 },
    tooltip: { ...base(t).tooltip, valueFormatter: (v: number) => `${number(v, 4)} ${what.unit}` },
    series: lines.map((line, i) => ({
      type: "line",
      name: line.name,
      showSymbol: line.points.length < 3,
      symbolSize: 4,
      emphasis: { disabled: true },
      lineStyle: { color: colors[i], width: 1.6, type: i ? "dashed" : "solid" },
      itemStyle: { color: colors[i] },
      data: line.points,
      markArea: what.slowed.length && !i ? { silent: true, itemStyle: { color: t.warn, opacity: 0.25 }, data: what.slowed.map(([from, to]) => [{ xAxis: from }, { xAxis: to }]) } : undefined,
    })),
  };
}

export function histogramOption(bins: Bin[], marks: { name: string; value: number }[], t: Theme): Drawing {
  // Labels of neighbouring percentiles go to different heights, so that they stay readable.
  const span = bins.length ? bins[bins.length - 1]!.to - bins[0]!.from || 1 : 1;
  let lastAt = -Infinity;
  let level = 0;
  const data = marks.map((m) => {
    level = (m.value - lastAt) / span < 0.09 ? level + 1 : 0;
    lastAt = m.value;
    return { xAxis: m.value, name: m.name, label: { formatter: m.name, distance: 2 + level * 11 } };
  });
  return {
    ...base(t),
    grid: { left: 44, right: 16, top: 40, bottom: 40 },
    xAxis: { type: "value", name: "step time, ms", nameLocation: "middle", nameGap: 24, scale: true, min: bins[0]?.from, max: bins.length ? (bins[bins.length - 1]!.to > bins[0]!.from ? bins[bins.length - 1]!.to : undefined) : undefined, ...axis(t), axisLabel: { ...axis(t).axisLabel, hideOverlap: true }, splitLine: { show: false } },
    yAxis: { type: "value", name: "steps", minInterval: 1, ...axis(t), nameTextStyle: { color: t.muted, fontSize: 11, align: "right" } },
    tooltip: {
      ...base(t).tooltip,
      trigger: "item",
      formatter: (item: { dataIndex: number }) => {
        const b = bins[item.dataIndex];
        return b ? `${number(b.from, 4)} to ${number(b.to, 4)} ms\n${b.count} steps` : "";
      },
    },
    series: [
      {
        type: "custom",
        name: "steps",
        itemStyle: { color: t.accent },
        encode: { x: [0, 1], y: 2 },
        data: bins.map((b) => [b.from, b.to, b.count]),
        renderItem: (_: unknown, api: CustomApi) => {
          const left = api.coord([api.value(0), api.value(2)]);
          const right = api.coord([api.value(1), 0]);
          const single = bins.length === 1 && api.value(0) === api.value(1);
          const x = single ? left[0]! - 12 : left[0]! + 0.5;
          return { type: "rect", shape: { x, y: left[1], width: single ? 24 : Math.max(1, right[0]! - left[0]! - 1), height: right[1]! - left[1]! }, style: { fill: t.accent } };
        },
        markLine: { silent: true, symbol: "none", lineStyle: { color: t.bad, type: "solid", width: 1 }, label: { color: t.text, fontSize: 10, position: "end" }, data },
      },
    ],
  };
}

export const splitNames = ["input wait", "compute", "exposed communication", "server wait"] as const;
// `rows`: what the bars are called; without it by their ranks.
export function splitOption(ranks: RankTime[], t: Theme, rows?: string[]): Drawing {
  const names = rows ?? ranks.map((r) => `rank ${r.rank}`);
  const parts = [
    (r: RankTime) => r.input_wait_ms,
    (r: RankTime) => r.compute_ms,
    (r: RankTime) => r.exposed_communication_ms,
    (r: RankTime) => r.server_wait_ms,
  ];
  return {
    ...base(t),
    grid: rows ? { left: 12, right: 20, top: 34, bottom: 40, containLabel: true } : { left: 62, right: 20, top: 34, bottom: 40 },
    legend: { top: 0, left: 0, itemWidth: 12, itemHeight: 10, selectedMode: false, textStyle: { color: t.muted, fontSize: 11 } },
    xAxis: { type: "value", name: "mean per step, ms", nameLocation: "middle", nameGap: 24, ...axis(t) },
    yAxis: { type: "category", inverse: true, data: names, ...axis(t) },
    tooltip: { ...base(t).tooltip, axisPointer: { type: "shadow" }, valueFormatter: (v: number) => `${number(v, 4)} ms` },
    series: parts.map((part, i) => ({
      type: "bar",
      name: splitNames[i],
      stack: "step",
      barMaxWidth: 26,
      itemStyle: { color: t.split[i], borderColor: t.panel, borderWidth: 0.5 },
      emphasis: { disabled: true },
      data: ranks.map(part),
    })),
  };
}

// Efficiency over agents, doublings equally far apart: measured points on a line, the ideal, the ceiling
// without exchange, the prediction dashed. What was not run lies on a shaded ground.
export function efficiencyOption(points: ScalingPoint[], t: Theme): Drawing {
  const at = (p: ScalingPoint) => Math.log2(p.agents);
  const ticks = points.map(at);
  const curve = (of: (p: ScalingPoint) => number | null) => points.flatMap((p) => (of(p) === null ? [] : [[at(p), of(p)! * 100]]));
  const ran = points.filter((p) => p.job_id !== null);
  const start = ran[0] && ran[0].efficiency !== null ? [[at(ran[0]), ran[0].efficiency * 100]] : [];
  const last = ran[ran.length - 1];
  const all = [...points.flatMap((p) => [p.efficiency, p.ceiling_efficiency, p.predicted_efficiency]).filter((v): v is number => v !== null), 1];
  const line = { type: "line", symbolSize: 8, emphasis: { disabled: true } };
  const first = ticks[0] ?? 0;
  const end = ticks[ticks.length - 1] ?? 1;
  return {
    ...base(t),
    grid: { left: 56, right: 24, top: 34, bottom: 42 },
    legend: { top: 0, left: 0, itemWidth: 26, itemHeight: 10, selectedMode: false, textStyle: { color: t.muted, fontSize: 11 }, data: ["measured", "ideal", "without exchange", "predicted"] },
    xAxis: {
      type: "value",
      name: "agents (log scale)",
      nameLocation: "middle",
      nameGap: 24,
      min: first,
      max: end,
      ...axis(t),
      axisLabel: { ...axis(t).axisLabel, customValues: ticks, formatter: (v: number) => String(Math.round(2 ** v)), hideOverlap: true },
      axisTick: { customValues: ticks },
      splitLine: { show: false },
    },
    yAxis: { type: "value", name: "efficiency, %", nameLocation: "middle", nameGap: 36, min: 0, max: Math.max(105, Math.ceil(Math.max(...all) * 100)), ...axis(t), axisLabel: { ...axis(t).axisLabel, showMaxLabel: false } },
    tooltip: { ...base(t).tooltip, axisPointer: { snap: true, lineStyle: { color: t.muted }, label: { formatter: (p: { value: number }) => String(Math.round(2 ** p.value)) } }, valueFormatter: (v: number) => `${number(v, 3)} %` },
    series: [
      { ...line, name: "ideal", symbol: "none", silent: true, lineStyle: { color: t.grey, width: 1.2 }, itemStyle: { color: t.grey }, data: [[first, 100], [end, 100]] },
      { ...line, name: "without exchange", symbol: "diamond", lineStyle: { color: t.good, width: 1.2 }, itemStyle: { color: t.good }, data: curve((p) => p.ceiling_efficiency) },
      {
        ...line,
        name: "predicted",
        symbol: "emptyCircle",
        lineStyle: { color: t.bad, type: "dashed", width: 1.6 },
        itemStyle: { color: t.bad },
        data: [...start, ...curve((p) => p.predicted_efficiency)],
        markArea: last ? { silent: true, itemStyle: { color: t.grey, opacity: 0.12 }, label: { color: t.muted, fontSize: 11, position: "insideBottom" }, data: [[{ name: "predicted only", xAxis: at(last) }, { xAxis: end }]] } : undefined,
      },
      { ...line, name: "measured", symbol: "circle", z: 4, lineStyle: { color: t.accent, width: 2 }, itemStyle: { color: t.accent }, data: curve((p) => p.efficiency) },
    ],
  };
}

interface CustomApi {
  value: (dimension: number) => number;
  coord: (point: [number, number]) => number[];
}
export interface Dot {
  name: string;
  value: number;
  low: number | null;
  high: number | null;
  muted: boolean; // not significantly different from the reference
  note: string;
}

// Names of device classes begin and end alike: what tells them apart is rather at the end.
export function cutMiddle(name: string, most: number): string {
  if (name.length <= most) return name;
  const head = Math.floor((most - 1) / 3);
  return `${name.slice(0, head)}…${name.slice(name.length - (most - 1 - head))}`;
}

// Dot and whisker a side; ratios on a logarithmic axis around 1.
export function dotOption(dots: Dot[], t: Theme, ratio: boolean, unit: string): Drawing {
  const place = ratio ? Math.log : (v: number) => v;
  const all = dots.flatMap((d) => [d.low ?? d.value, d.value, d.high ?? d.value]);
  const low = Math.min(...all, ...(ratio ? [1] : []));
  const high = Math.max(...all, ...(ratio ? [1] : []));
  const pad = (place(high) - place(low)) * 0.12 || Math.abs(place(high)) * 0.05 || 0.05;
  const ticks = ratio ? ratioTicks(Math.exp(Math.log(low) - pad), Math.exp(Math.log(high) + pad)).map(Math.log) : undefined;
  return {
    ...base(t),
    grid: { left: 12, right: 24, top: 10, bottom: 42, containLabel: true },
    xAxis: {
      type: "value",
      name: ratio ? "times the first side (log scale)" : unit,
      nameLocation: "middle",
      nameGap: 26,
      scale: true,
      min: ratio || place(low) - pad > 0 ? place(low) - pad : 0,
      max: place(high) + pad,
      ...axis(t),
      axisLabel: { ...axis(t).axisLabel, hideOverlap: true, showMinLabel: ratio, showMaxLabel: ratio, customValues: ticks, formatter: (v: number) => (ratio ? `${Number(Math.exp(v).toPrecision(3))}×` : Number(v.toPrecision(6)).toLocaleString("en-US")) },
      axisTick: { customValues: ticks },
      splitLine: { show: !ratio, lineStyle: { color: t.line, width: 0.5 } },
    },
    yAxis: { type: "category", inverse: true, data: dots.map((d) => d.name), ...axis(t), axisLabel: { color: t.text, fontSize: 12, formatter: (name: string) => cutMiddle(name, window.innerWidth > 760 ? 40 : 19) }, splitLine: { show: false } },
    tooltip: { ...base(t).tooltip, trigger: "item", formatter: (item: { dataIndex: number }) => `${dots[item.dataIndex]?.name}\n${dots[item.dataIndex]?.note}` },
    series: [
      {
        type: "custom",
        name: "sides",
        encode: { x: [0, 1, 2], y: 3 },
        data: dots.map((d, i) => [place(d.value), place(d.low ?? d.value), place(d.high ?? d.value), i]),
        markLine: ratio ? { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: t.muted, type: "dashed" }, data: [{ xAxis: 0 }] } : undefined,
        renderItem: (params: { dataIndex: number }, api: CustomApi) => {
          const row = api.value(3);
          const [x = 0, y = 0] = api.coord([api.value(0), row]);
          const left = api.coord([api.value(1), row])[0]!;
          const right = api.coord([api.value(2), row])[0]!;
          const color = dots[params.dataIndex]?.muted ? t.grey : t.accent;
          const stroke = { stroke: color, lineWidth: 2, fill: color };
          const line = (x1: number, y1: number, x2: number, y2: number) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: stroke });
          const whisker = right - left > 0.5 ? [line(left, y, right, y), line(left, y - 6, left, y + 6), line(right, y - 6, right, y + 6)] : [];
          return { type: "group", children: [...whisker, { type: "circle", shape: { cx: x, cy: y, r: 5 }, style: { fill: color, stroke: t.panel, lineWidth: 1.5 } }] };
        },
      },
    ],
  };
}

export const intervalNote = (i: Interval, show: (value: number) => string): string =>
  show(i.value) +
  (i.low === null || i.high === null
    ? `, spread unknown (n=${i.runs})`
    : `, 95 % ${show(i.low)} to ${show(i.high)}, ${i.kind === "runs" ? `from the standard error over ${i.runs} runs` : "from the steps within the one run"}`);
