// Numbers with unit, spread and n; times; what is missing with its reason.
import type { Headline, JobView, Validity } from "../contract";
import { duration, localTime, rate, reasonWords, secondsBetween, spread, utcTime, words } from "../format";
import { useNow } from "../hooks";
import { Mark } from "./marks";
import { Tip } from "./tip";

export function Missing({ why }: { why: string }) {
  return <span class="missing">{why}</span>;
}

export const spreadKind = (kind: string): string => (kind === "runs" ? "standard error over runs" : "standard error within the run");

export function HeadlineValue({ headline, large = false }: { headline: Headline; large?: boolean }) {
  if (headline.images_per_second === null) return <Missing why="no number" />;
  const s = headline.spread.value;
  return (
    <span class={large ? "headline large" : "headline"}>
      <span class="value">{rate(headline.images_per_second)}</span> <span class="unit">img/s</span>{" "}
      <span class="spread">
        {s === null ? "spread unknown" : <Tip text={`${spreadKind(headline.spread.kind)} / mean`}>{spread(s)}</Tip>}
        {large && s !== null ? <span class="kind"> {headline.spread.kind === "runs" ? "over runs" : "within the run"}</span> : null}{" "}
        (n={headline.runs})
      </span>
    </span>
  );
}

// Why a job has no number, in the shortest true words.
export function whyNoNumber(job: JobView): string {
  if (job.state === "queued") return "not started";
  if (job.state === "running") return "not measured yet";
  if (job.state === "cancelled") return "cancelled";
  if (job.outcome && job.outcome !== "failed" && job.outcome !== "succeeded") return words(job.outcome);
  return job.reason && job.reason !== "none" ? reasonWords(job.reason) : "failed";
}

export function VerdictMark({ validity }: { validity: Validity | null }) {
  if (!validity) return <Missing why="no result" />;
  const mark = <Mark state={validity.verdict} />;
  return validity.causes.length ? <Tip text={validity.causes.join("; ")}>{mark}</Tip> : mark;
}

export function Time({ at }: { at: string | null }) {
  if (!at) return <Missing why="not yet" />;
  return (
    <time dateTime={at} title={utcTime(at)}>
      {localTime(at)}
    </time>
  );
}

// From one time to another, or to now while there is no other.
export function Elapsed({ from, to }: { from: string | null; to: string | null }) {
  const now = useNow();
  if (!from) return <Missing why="not started" />;
  return <span class="num">{duration(secondsBetween(from, to ?? now))}</span>;
}

export function Ago({ at }: { at: string | null }) {
  const now = useNow();
  if (!at) return <Missing why="never" />;
  const age = Math.max(0, secondsBetween(at, now));
  return (
    <time dateTime={at} title={utcTime(at)}>
      {duration(age)} ago
    </time>
  );
}
