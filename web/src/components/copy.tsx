// Commands to take away, and files to save.
import { useState } from "preact/hooks";

async function toClipboard(text: string) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea"); // plain http on another host: no clipboard object
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [said, setSaid] = useState("");
  const copy = () =>
    toClipboard(text).then(
      () => setSaid("Copied"),
      () => setSaid("Select and copy by hand"),
    );
  return (
    <button type="button" class="small" onClick={() => void copy().then(() => window.setTimeout(() => setSaid(""), 2000))}>
      <span aria-live="polite">{said || label}</span>
    </button>
  );
}

export function Command({ text, label }: { text: string; label: string }) {
  return (
    <div class="command">
      <div class="command-head">
        <span>{label}</span>
        <CopyButton text={text} />
      </div>
      <pre tabIndex={0} role="region" aria-label={label}>
        {text}
      </pre>
    </div>
  );
}

export function save(name: string, type: string, content: string | Blob) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export type Cell = string | number | boolean | null;
export interface TableData {
  columns: string[];
  rows: Cell[][];
}

// RFC 4180; a missing number is an empty cell. Text that a spreadsheet would take for a formula (a name that
// somebody gave a job) begins with an apostrophe; numbers stand as they are.
export function csv(table: TableData): string {
  const cell = (value: Cell) => {
    const plain = value === null ? "" : String(value);
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${plain}` : plain;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [table.columns, ...table.rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
export const jsonRows = (table: TableData): string =>
  JSON.stringify(
    table.rows.map((row) => Object.fromEntries(table.columns.map((c, i) => [c, row[i] ?? null]))),
    null,
    2,
  );
