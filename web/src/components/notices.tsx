// What went wrong and what to do; what to do when there is nothing yet.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { ApiError } from "../api";
import { asApiError } from "../hooks";

function remedy(error: ApiError): string {
  if (error.status === null) return "Start rackmark-controller, or check the address.";
  if (error.status === 401 || error.status === 403) return "This controller wants a token with the right role for that.";
  if (error.status === 404) return "It may never have existed here: look for it in the list of jobs.";
  if (error.status === 409) return "Load the page again to see what it is now.";
  if (error.status === 422) return "Change the fields named here.";
  if (error.status === 429) return "Wait a moment and try again.";
  if (error.status >= 500) return "The controller's log says more; this page tries again by itself.";
  return "";
}

export function Problem({ error, fields = true, children }: { error: ApiError; fields?: boolean; children?: ComponentChildren }) {
  return (
    <div class="notice bad" role="alert">
      <p>
        <strong>{error.title}</strong>
        {error.detail && error.detail !== error.title ? <> · {error.detail}</> : null}
      </p>
      {fields && error.fields.length > 0 && (
        <ul>
          {error.fields.map((f) => (
            <li>
              <code>{f.field}</code> {f.detail}
              {f.allowed ? <> · allowed: {f.allowed}</> : null}
            </li>
          ))}
        </ul>
      )}
      <p class="what-to-do">{remedy(error)}</p>
      {children}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <p class="loading" role="status">
      Loading {what} …
    </p>
  );
}

// The next page of a list, where there is one.
export function LoadMore({ cursor, load }: { cursor: string | null; load: (cursor: string) => Promise<void> }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<ApiError | null>(null);
  if (!cursor) return null;
  const more = async () => {
    setBusy(true);
    setProblem(null);
    await load(cursor).catch((error: unknown) => setProblem(asApiError(error)));
    setBusy(false);
  };
  return (
    <>
      {problem && <Problem error={problem} />}
      <p class="more">
        <button type="button" disabled={busy} onClick={() => void more()}>
          {busy ? "Loading …" : "Load more"}
        </button>
      </p>
    </>
  );
}
