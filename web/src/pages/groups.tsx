// Which scaling groups there are: one job on several numbers of agents each.
import { api } from "../api";
import { Command } from "../components/copy";
import { Mark } from "../components/marks";
import { Empty, Loading, LoadMore, Problem } from "../components/notices";
import { Time } from "../components/values";
import type { GroupView, Page } from "../contract";
import { modelTitle, words } from "../format";
import { type Loaded, useLoad, useReloadOn } from "../hooks";

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
  useReloadOn("job", (event) => event.group_id !== null, groups.reload, 300);
  const loadMore = async (cursor: string) => {
    const page = await api.groups({ kind: "scale", limit: 50, cursor });
    groups.change((old) => ({ items: [...old.items, ...page.items], next_cursor: page.next_cursor }));
  };
  const items = groups.data?.items ?? [];
  return (
    <>
      <div class="page-head">
        <h1>Scaling</h1>
      </div>
      {groups.error && <Problem error={groups.error} />}
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
      <LoadMore cursor={groups.data?.next_cursor ?? null} load={loadMore} />
    </>
  );
}
