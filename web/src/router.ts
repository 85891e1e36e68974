// The address is the state: pages read it, change it with `go` or `setQuery`, and are drawn again.
import { useEffect, useState } from "preact/hooks";

export interface Place {
  path: string;
  query: URLSearchParams;
}

const watchers = new Set<() => void>();
const here = (): Place => ({ path: location.pathname, query: new URLSearchParams(location.search) });

export function go(url: string, how: "push" | "replace" = "push") {
  if (how === "push") history.pushState(null, "", url);
  else history.replaceState(null, "", url);
  for (const watch of [...watchers]) watch();
}

// Changes members of the query and leaves the page where it is; an empty value removes its member.
export function setQuery(changes: Record<string, string | null | undefined>, how: "push" | "replace" = "replace") {
  const { path, query } = here();
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const text = query.toString();
  go(path + (text ? "?" + text : ""), how);
}

export function usePlace(): Place {
  const [place, setPlace] = useState(here);
  useEffect(() => {
    const watch = () => setPlace(here());
    watchers.add(watch);
    window.addEventListener("popstate", watch);
    return () => {
      watchers.delete(watch);
      window.removeEventListener("popstate", watch);
    };
  }, []);
  return place;
}

// One listener for all links: those inside the view do not load the document again.
export function followLinks(event: MouseEvent) {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest?.("a[href]") as HTMLAnchorElement | null;
  if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (link.pathname.startsWith("/api/") || link.pathname === "/metrics" || link.getAttribute("href")?.startsWith("#")) return;
  event.preventDefault();
  go(link.pathname + link.search);
  window.scrollTo(0, 0);
}

// Gives the parameters of a path against a pattern such as "/jobs/:id"; null when it is another one.
export function match(pattern: string, path: string): Record<string, string> | null {
  const want = pattern.split("/");
  const have = path.replace(/\/+$/, "").split("/");
  if (want.length !== have.length) return null;
  const params: Record<string, string> = {};
  for (let i = 0; i < want.length; ++i) {
    const w = want[i]!;
    const h = have[i]!;
    if (w.startsWith(":id") ? !/^\d+$/.test(h) : !w.startsWith(":") && w !== h) return null;
    if (w.startsWith(":")) params[w.slice(1)] = decodeURIComponent(h);
  }
  return params;
}
