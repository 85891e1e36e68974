// ECharts with what the view draws and nothing more; loaded when the first chart is shown.
import { BarChart, CustomChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, MarkAreaComponent, MarkLineComponent, TooltipComponent } from "echarts/components";
import * as echarts from "echarts/core";
import { CanvasRenderer, SVGRenderer } from "echarts/renderers";

echarts.use([BarChart, CustomChart, LineChart, GridComponent, LegendComponent, MarkAreaComponent, MarkLineComponent, TooltipComponent, CanvasRenderer, SVGRenderer]);

export type { EChartsType } from "echarts/core";
export type Drawing = Record<string, unknown>;
export function start(box: HTMLElement, group?: string) {
  const chart = echarts.init(box, null, { renderer: "svg" });
  if (group) {
    chart.group = group;
    echarts.connect(group);
  }
  return chart;
}

export function svgText(option: Drawing, width: number, height: number): string {
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width, height });
  chart.setOption({ ...option, animation: false });
  const text = chart.renderToSVGString();
  chart.dispose();
  return text;
}

export async function pngBlob(option: Drawing, width: number, height: number, background: string): Promise<Blob> {
  const box = document.createElement("div");
  box.style.cssText = `position:absolute;left:-9999px;width:${width}px;height:${height}px`;
  document.body.append(box);
  const chart = echarts.init(box, null, { renderer: "canvas", devicePixelRatio: 2, width, height });
  chart.setOption({ ...option, animation: false, backgroundColor: background });
  const canvas = chart.getRenderedCanvas({ pixelRatio: 2, backgroundColor: background });
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
  chart.dispose();
  box.remove();
  if (!blob) throw new Error("the browser made no picture");
  return blob;
}
