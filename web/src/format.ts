// Numbers, durations and times as people read them. Everything here is pure.

const noBreak = "\u00a0";

// `digits` significant digits, thousands grouped, never in exponent form between 1e-4 and 1e15.
export function number(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4) return value.toExponential(digits - 1);
  const whole = Math.floor(Math.log10(size)) + 1;
  const decimals = Math.max(0, digits - whole);
  return new Intl.NumberFormat("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }).format(value);
}

// Throughput: four significant digits below 1,000, whole images above.
export const rate = (imagesPerSecond: number): string => number(imagesPerSecond, 4);

// A spread given as a fraction: "±0.6 %".
export function spread(fraction: number): string {
  const percent = fraction * 100;
  return `±${percent === 0 ? "0" : percent < 0.1 ? percent.toPrecision(1) : percent.toFixed(percent < 10 ? 1 : 0)}${noBreak}%`;
}

export function percent(fraction: number, decimals = 1): string {
  return `${(fraction * 100).toFixed(decimals)}${noBreak}%`;
}

export function milliseconds(ms: number): string {
  return ms >= 10_000 ? `${number(ms / 1000)}${noBreak}s` : `${number(ms)}${noBreak}ms`;
}

// "0.8 s", "12 s", "3 min 05 s", "2 h 07 min", "3 d 4 h".
export function duration(seconds: number): string {
  if (seconds < 0) seconds = 0;
  if (seconds < 9.95) return `${seconds.toFixed(1)}${noBreak}s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s}${noBreak}s`;
  const two = (n: number) => String(n).padStart(2, "0");
  if (s < 3600) return `${Math.floor(s / 60)}${noBreak}min${noBreak}${two(s % 60)}${noBreak}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}${noBreak}h${noBreak}${two(Math.floor((s % 3600) / 60))}${noBreak}min`;
  return `${Math.floor(s / 86400)}${noBreak}d${noBreak}${Math.floor((s % 86400) / 3600)}${noBreak}h`;
}

export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : number(value)}${noBreak}${units[unit]}`;
}

const parts = (zone: string | undefined) =>
  new Intl.DateTimeFormat("en-GB", {
    timeZone: zone,
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hour12: false,
  });

// "2026-11-21 03:04:05" in the viewer's zone; today's times without the date.
export function localTime(at: string, now: Date = new Date(), zone?: string): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return at;
  const take = (d: Date) => {
    const p = Object.fromEntries(parts(zone).formatToParts(d).map((x) => [x.type, x.value]));
    return { day: `${p.year}-${p.month}-${p.day}`, time: `${p.hour === "24" ? "00" : p.hour}:${p.minute}:${p.second}` };
  };
  const given = take(date);
  return given.day === take(now).day ? given.time : `${given.day} ${given.time}`;
}

export function utcTime(at: string): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? at : date.toISOString().replace("T", " ").replace("Z", " UTC");
}

export function secondsBetween(from: string, to: string | Date): number {
  return (new Date(to).getTime() - new Date(from).getTime()) / 1000;
}

// "out_of_memory" -> "out of memory".
export const words = (name: string): string => name.replaceAll("_", " ");

// A reason of the closed list as people say it.
export const reasonWords = (reason: string): string => (reason === "internal" ? "internal error" : words(reason));

const titles: Record<string, string> = {
  resnet50: "ResNet-50",
  inception_v3: "Inception v3",
  alexnet: "AlexNet",
  googlenet: "GoogLeNet",
  cifar10: "CIFAR-10 net",
};
export const modelTitle = (model: string): string => titles[model] ?? words(model);

// Quoted for a POSIX shell.
export function shellQuote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export const plural = (n: number, one: string, many = one + "s"): string => `${n.toLocaleString("en-US")}${noBreak}${n === 1 ? one : many}`;
