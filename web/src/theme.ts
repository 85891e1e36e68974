// Colours of charts in both themes; style.css holds the same for the page. Data colours are Okabe and
// Ito's, which people with any colour vision can tell apart.
import { useMedia } from "./hooks";

export interface Theme {
  dark: boolean;
  text: string;
  muted: string;
  line: string;
  panel: string;
  accent: string;
  good: string;
  warn: string;
  bad: string;
  grey: string;
  split: [string, string, string, string]; // input, compute, exposed communication, server wait
}

const shared = {
  good: "#009E73",
  split: ["#E69F00", "#0072B2", "#CC79A7", "#009E73"] as Theme["split"],
};
export const light: Theme = { ...shared, dark: false, text: "#16191d", muted: "#565e68", line: "#dde1e6", panel: "#ffffff", accent: "#0072B2", warn: "#E69F00", bad: "#D55E00", grey: "#8a929b" };
export const dark: Theme = {
  ...shared,
  dark: true,
  text: "#e4e8ec",
  muted: "#9aa4af",
  line: "#2c333b",
  panel: "#171b20",
  accent: "#56B4E9",
  warn: "#E69F00",
  bad: "#ff8a3d",
  grey: "#76808b",
  split: ["#E69F00", "#56B4E9", "#CC79A7", "#009E73"],
};

export function useTheme(): Theme {
  return useMedia("(prefers-color-scheme: dark)") ? dark : light;
}
