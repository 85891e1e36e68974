// The frame of every page: navigation, state of the connection, the page itself.
import { useEffect, useRef, useState } from "preact/hooks";
import { api } from "./api";
import { Definitions, TipLayer } from "./components/tip";
import { Empty } from "./components/notices";
import { localTime } from "./format";
import { useLoad } from "./hooks";
import { type Connection, onConnection } from "./live";
import { home, pages } from "./pages";
import { go, match, usePlace } from "./router";

function ConnectionState() {
  const [[state, since], set] = useState<[Connection, Date]>(["connecting", new Date()]);
  useEffect(() => onConnection((s, at) => set([s, at])), []);
  const text = { live: "Live", connecting: "Connecting …", lost: `Connection lost since ${localTime(since.toISOString())}, trying again` }[state];
  return (
    <span class={`connection is-${state}`} role="status" data-connection={state}>
      <span class="lamp" aria-hidden="true" />
      {text}
    </span>
  );
}

export function App() {
  const place = usePlace();
  const spec = useLoad("spec", () => api.spec());
  const version = useLoad("version", () => api.version());
  const main = useRef<HTMLElement>(null);
  const firstPath = useRef(place.path);

  useEffect(() => {
    if (place.path === "/") go(home, "replace");
  }, [place.path]);
  // A fixed address wins over one with parameters: /jobs/new is no job.
  const found = pages.map((entry) => ({ entry, params: match(entry.pattern, place.path) })).find((f) => f.params !== null);
  const title = found ? (found.params!.id ? `${found.entry.title} ${found.params!.id}` : found.entry.title) : "Not found";
  useEffect(() => {
    document.title = `${title} · Rackmark`;
    if (firstPath.current !== place.path) main.current?.focus({ preventScroll: true });
    firstPath.current = place.path;
  }, [title, place.path]);

  const Page = found?.entry.page;
  return (
    <Definitions.Provider value={spec.data?.definitions ?? {}}>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href={home} aria-label="Rackmark, jobs">
          <svg viewBox="0 0 16 16" aria-hidden="true">
            <path d="M1 3h14v3H1zM1 8h9v3H1zM1 13h5v2H1z" fill="currentColor" />
          </svg>
          Rackmark
        </a>
        <nav aria-label="Pages">
          {pages
            .filter((p) => p.nav)
            .map((p) => (
              <a href={p.pattern} aria-current={place.path === p.pattern ? "page" : undefined}>
                {p.title}
              </a>
            ))}
        </nav>
        <div class="about">
          <ConnectionState />
          {version.data && <span class="muted version">{version.data.version}</span>}
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        {Page && found?.params ? (
          <Page key={found.entry.pattern + (found.params.id ?? "")} params={found.params} />
        ) : place.path === "/" ? null : (
          <Empty title="There is no such page">
            <p>
              <code>{place.path}</code> is not an address of this view. <a href={home}>All jobs</a>
            </p>
          </Empty>
        )}
      </main>
      <TipLayer />
    </Definitions.Provider>
  );
}
