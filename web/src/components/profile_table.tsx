// Times of every layer, from the separate pass of a profiled run.
import { useState } from "preact/hooks";
import { api } from "../api";
import type { ProfileRow } from "../contract";
import { milliseconds, number, percent, plural, words } from "../format";
import { useLoad } from "../hooks";
import { Loading, Problem } from "./notices";
import { Missing } from "./values";

const first = 25;

// Dearest first; equal times stay in the order in which they run.
export function dearest(rows: ProfileRow[], most: number): ProfileRow[] {
  return [...rows].sort((a, b) => b.ms - a.ms).slice(0, most);
}

const orDash = (value: number | null) => (value === null ? <Missing why="-" /> : number(value));

export function ProfileTable({ run }: { run: number }) {
  const loaded = useLoad(`profile ${run}`, (signal) => api.profile(run, signal));
  const [all, setAll] = useState(false);
  if (loaded.error) return <Problem error={loaded.error} />;
  if (!loaded.data) return <Loading what="the profile" />;
  const p = loaded.data.profile;
  const rows = dearest(p.rows, all ? p.rows.length : first);
  return (
    <section class="panel" aria-label="Profile" data-testid="profile">
      <div class="panel-head">
        <h3>Profile</h3>
        <span class="muted">a separate pass after the measured window, median of {plural(p.passes, "pass", "passes")}</span>
      </div>
      <p class="pad">
        Sum {milliseconds(p.sum_ms)}, plain step in between {milliseconds(p.step_ms)}: ratio {number(p.sum_over_step)}.
        {p.convolution_bound_ms !== null && p.convolution_bound_share !== null && (
          <>
            {" "}
            Convolution-only bound {milliseconds(p.convolution_bound_ms)}, share reached {percent(p.convolution_bound_share)}.
          </>
        )}
      </p>
      {p.warnings.map((warning) => (
        <p class="notice bad" role="status">
          {warning}
        </p>
      ))}
      <div class="scroll" tabIndex={0} role="region" aria-label="Profile, table">
        <table class="plain">
          <thead>
            <tr>
              <th scope="col">layer</th>
              <th scope="col">pass</th>
              <th scope="col" class="num">
                ms
              </th>
              <th scope="col" class="num">
                share
              </th>
              <th scope="col" class="num">
                GFLOP/s
              </th>
              <th scope="col" class="num">
                GB/s
              </th>
              <th scope="col">implementation</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr>
                <th scope="row">{row.layer}</th>
                <td>{words(row.pass)}</td>
                <td class="num">{number(row.ms)}</td>
                <td class="num">{percent(row.share)}</td>
                <td class="num">{orDash(row.gflops)}</td>
                <td class="num">{orDash(row.gbps)}</td>
                <td>{row.implementation}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {!all && p.rows.length > first && (
        <p class="pad">
          <button type="button" onClick={() => setAll(true)}>
            Show all {p.rows.length} rows
          </button>
        </p>
      )}
      {p.rows_left_out > 0 && <p class="muted pad">{plural(p.rows_left_out, "cheaper row")} were left out.</p>}
    </section>
  );
}
