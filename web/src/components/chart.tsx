// A chart in its panel: drawn by ECharts, described for screen readers, with the table behind it and
// all four exports. `option` should be memoised: a new object is drawn.
import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { number } from "../format";
import type { Theme } from "../theme";
import type { Drawing, EChartsType } from "./chart_engine";
import { type Cell, csv, jsonRows, save, type TableData } from "./copy";

export interface ChartProps {
  title: ComponentChildren;
  label: string; // what the chart is, for screen readers and as its heading's text
  summary: string; // what it shows right now, in one sentence
  name: string; // of exported files
  option: Drawing | null; // null: nothing to draw yet
  empty: string; // why
  table: () => TableData;
  theme: Theme;
  height?: number;
  group?: string; // charts of one group share the cursor
}

const rowsShown = 1000;
const engineRetryMs = 1000;
const cellText = (value: Cell) => (value === null ? "not available" : typeof value === "number" && !Number.isInteger(value) ? number(value, 5) : String(value));

export function Chart({ title, label, summary, name, option, empty, table, theme, height = 220, group }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  const [engine, setEngine] = useState<typeof import("./chart_engine") | null>(null);
  const [showTable, setShowTable] = useState(false);
  useEffect(() => {
    let timer = 0;
    // A controller that is away at this moment must not cost the chart.
    const load = () => import("./chart_engine").then(setEngine, () => (timer = window.setTimeout(load, engineRetryMs)));
    void load();
    return () => window.clearTimeout(timer);
  }, []);
  useEffect(() => {
    if (!engine || !option || showTable || !box.current) return;
    const drawn = engine.start(box.current, group);
    chart.current = drawn;
    const watch = new ResizeObserver(() => drawn.resize());
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      drawn.dispose();
      chart.current = null;
    };
  }, [engine, option === null, showTable]);
  useEffect(() => {
    if (option) chart.current?.setOption(option, { replaceMerge: ["series"] });
  }, [engine, option, showTable]);

  const size = () => [Math.max(640, box.current?.clientWidth ?? 640), Math.max(height, 320)] as const;
  const exports: [string, () => void | Promise<void>][] = [
    ["PNG", async () => save(`${name}.png`, "image/png", await engine!.pngBlob(option!, ...size(), theme.panel))],
    ["SVG", () => save(`${name}.svg`, "image/svg+xml", engine!.svgText(option!, ...size()))],
    ["CSV", () => save(`${name}.csv`, "text/csv", csv(table()))],
    ["JSON", () => save(`${name}.json`, "application/json", jsonRows(table()))],
  ];
  const data = showTable ? table() : null;
  return (
    <section class="panel chart" aria-label={label}>
      <div class="panel-head">
        <h3>{title}</h3>
        {option && (
          <div class="tools">
            <button type="button" class="small" aria-pressed={showTable} onClick={() => setShowTable(!showTable)}>
              Table
            </button>
            {exports.map(([kind, act]) => (
              <button type="button" class="small" aria-label={`Export ${label} as ${kind}`} disabled={!engine} onClick={() => void act()}>
                {kind}
              </button>
            ))}
          </div>
        )}
      </div>
      {!option && <p class="missing pad">{empty}</p>}
      {option && !data && <div ref={box} class="drawing" role="img" aria-label={`${label}: ${summary}`} style={{ height: `${height}px` }} />}
      {data && (
        <div class="scroll" tabIndex={0} role="region" aria-label={`${label}, table`} style={{ maxHeight: `${Math.max(height, 260)}px` }}>
          <table class="plain">
            <thead>
              <tr>
                {data.columns.map((c) => (
                  <th scope="col">{c}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {data.rows.slice(0, rowsShown).map((row) => (
                <tr>
                  {row.map((value) => (
                    <td class={typeof value === "number" ? "num" : value === null ? "missing" : ""}>{cellText(value)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
          {data.rows.length > rowsShown && (
            <p class="muted pad">
              The first {rowsShown.toLocaleString("en-US")} of {data.rows.length.toLocaleString("en-US")} rows; CSV and JSON hold all.
            </p>
          )}
        </div>
      )}
      {option && <p class="summary">{summary}</p>}
    </section>
  );
}
