// Which scaling groups there are: one job on several numbers of agents each.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type ApiError } from "../api";
import { Command } from "../components/copy";
import { Mark } from "../components/marks";
import { Empty, Loading, Problem } from "../components/notices";
import { Time } from "../components/values";
import type { GroupView, Page } from "../contract";
import { modelTitle, words } from "../format";
import { asApiError, type Loaded, useLoad } from "../hooks";
import { onEvent } from "../live";

// What the group was asked for, and no more: a spec leaves defaults out.
function AskedFor({ spec }: { spec: GroupView["spec"] }) {
  const given = (name: string) => (spec[name] === undefined ? [] : [words(String(spec[name]))]);
  return (
    <span class="chips">
      <span class="chip strong">{modelTitle(String(spec.model ?? "?"))}</span>
      {given("precision").map((text) => (
        <span class="chip">{text}</span>
      ))}
      {given("batch_size").map((text) => (
        <span class="chip">batch {text}</span>
      ))}
      {given("variable_update").map((text) => (
        <span class="chip">{text}</span>
      ))}
    </span>
  );
}

export function GroupsPage() {
  // What was loaded stays loaded when live events have it fetched again.
  const groups: Loaded<Page<GroupView>> = useLoad("groups", (signal) => api.groups({ kind: "scale", limit: Math.min(500, Math.max(50, groups.data?.items.length ?? 0)) }, signal));
  const [more, setMore] = useState(false);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const refetch = useRef(0);
  useEffect(() => {
    const stop = onEvent("job", (event) => {
      if (event.group_id === null) return;
      window.clearTimeout(refetch.current);
      refetch.current = window.setTimeout(groups.reload, 300);
    });
    return () => {
      stop();
      window.clearTimeout(refetch.current);
    };
  }, []);
  const loadMore = async () => {
    const cursor = groups.data?.next_cursor;
    if (!cursor) return;
    setMore(true);
    try {
      const page = await api.groups({ kind: "scale", limit: 50, cursor });
      groups.change((old) => ({ items: [...old.items, ...page.items], next_cursor: page.next_cursor }));
    } catch (error) {
      setProblem(asApiError(error));
    }
    setMore(false);
  };
  const items = groups.data?.items ?? [];
  return (
    <>
      <div class="page-head">
        <h1>Scaling</h1>
      </div>
      {(groups.error ?? problem) && <Problem error={(groups.error ?? problem)!} />}
      {!groups.data && !groups.error && <Loading what="groups" />}
      {groups.data && items.length === 0 && (
        <Empty title="No scaling group yet">
          <p>A group runs one job on several numbers of agents, and says how far more of them make it faster.</p>
          <Command label="First group" text={`rackmark --controller ${location.origin} scale --agents 1,2 --model resnet50`} />
        </Empty>
      )}
      {items.length > 0 && (
        <div class="panel">
          <table class="rows">
            <thead>
              <tr>
                {["Group", "Benchmark", "Agents", "State", "Submitted"].map((title) => (
                  <th scope="col">{title}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {items.map((group) => (
                <tr key={group.id} data-group={group.id}>
                  <th scope="row" data-label="Group">
                    <a href={`/groups/${group.id}`}>
                      {group.id}
                      {group.name ? ` ${group.name}` : ""}
                    </a>
                  </th>
                  <td data-label="Benchmark">
                    <AskedFor spec={group.spec} />
                  </td>
                  <td data-label="Agents">{group.agents.join(", ")}</td>
                  <td data-label="State">
                    <Mark state={group.state} />
                  </td>
                  <td data-label="Submitted">
                    <Time at={group.created_at} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {groups.data?.next_cursor && (
        <p class="more">
          <button type="button" disabled={more} onClick={() => void loadMore()}>
            {more ? "Loading …" : "Load more"}
          </button>
        </p>
      )}
    </>
  );
}
