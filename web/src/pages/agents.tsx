// Which hosts there are, what they are, what they do now, and how to add one.
import { useEffect, useState } from "preact/hooks";
import { api } from "../api";
import { Command } from "../components/copy";
import { Mark } from "../components/marks";
import { Empty, Loading, Problem } from "../components/notices";
import { Ago, Missing, Time } from "../components/values";
import type { AgentList, AgentView, EnrolmentToken } from "../contract";
import { bytes, plural, words } from "../format";
import { asApiError, useLoad } from "../hooks";
import type { ApiError } from "../api";
import { onEvent } from "../live";

function Enrol({ packCommand }: { packCommand: string }) {
  const [token, setToken] = useState<EnrolmentToken | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const make = () => {
    api.enrolmentToken().then(
      (made) => (setToken(made), setError(null)),
      (e: unknown) => setError(asApiError(e)),
    );
  };
  const here = location.origin;
  const loopback = /^(localhost|127\.|\[::1\])/.test(location.hostname);
  return (
    <div class="enrol">
      <p>From the machine where Rackmark was built, with ssh to the new HOST:</p>
      <Command label="Pack, carry and start" text={packCommand.replaceAll("--controller URL", `--controller ${here}`) || "deploy/pack"} />
      <p>
        Or by hand: make a token that is good for one host and one hour (it is shown once), carry the tarball of <code>deploy/pack</code> over, and
        start it there.
      </p>
      <p>
        <button type="button" onClick={make}>
          Make an enrolment token
        </button>
      </p>
      {error && <Problem error={error} />}
      <Command label="On the new host" text={`tar xzf rackmark-agent-*.tar.gz\nRACKMARK_ENROL_TOKEN=${token?.token ?? "TOKEN"} rackmark-agent/start --controller ${here}`} />
      {token && (
        <p class="muted">
          This token is in the command above and expires at <Time at={token.expires_at} />.
        </p>
      )}
      {loopback && <p class="muted">{here} is this machine only. For agents on other hosts the controller must listen beyond loopback (<code>--listen 0.0.0.0:8780 --allow-remote --host-name NAME</code>, see docs/operate.md), and its address there takes the place of this one.</p>}
    </div>
  );
}

const topology = (agent: AgentView): string => {
  const cpu = agent.inventory.cpu;
  return [
    plural(cpu.sockets, "socket"),
    plural(cpu.physical_cores, "core"),
    cpu.smt ? plural(cpu.logical_cpus, "thread") : "no SMT",
    plural(cpu.numa_domains, "NUMA domain"),
    bytes(agent.inventory.memory_bytes),
  ].join(" · ");
};

// "8 × NVIDIA H200 · 141 GiB each · driver 580.65", a line for each kind of card.
export function gpuLines(gpus: AgentView["inventory"]["gpus"]): string[] {
  const kinds = new Map<string, number>();
  for (const g of gpus) {
    const kind = [g.name, `${bytes(g.memory_bytes)} each`, `driver ${g.driver || "not reported"}`].join(" · ");
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  return [...kinds].map(([kind, count]) => `${count} × ${kind}`);
}

// Its row goes with the event that tells of it.
function Retire({ agent }: { agent: AgentView }) {
  const [error, setError] = useState<ApiError | null>(null);
  const retire = () => {
    if (!confirm(`Retire ${agent.name}? Its token is revoked and its name is free; its results stay.`)) return;
    api.retireAgent(agent.id).then(
      () => setError(null),
      (e: unknown) => setError(asApiError(e)),
    );
  };
  return (
    <>
      <p>
        <button type="button" onClick={retire}>
          Retire
        </button>
      </p>
      {error && <Problem error={error} />}
    </>
  );
}

function Details({ agent }: { agent: AgentView }) {
  const i = agent.inventory;
  const rows: [string, preact.ComponentChildren][] = [
    ["CPU", `${i.cpu.model_name} (${i.cpu.vendor}, family ${i.cpu.family}, model ${i.cpu.model}, stepping ${i.cpu.stepping})`],
    ["Instruction set", words(i.cpu.isa)],
    ["Topology", topology(agent)],
    ["Governor", i.governor ?? <Missing why="not available: the kernel shows none" />],
    ...(i.notes.length ? [["Does not count", i.notes.join("; ")] as [string, string]] : []),
    ["GPUs", i.gpus.length ? i.gpus.map((g) => `${g.name} (${bytes(g.memory_bytes)}, ${g.uuid}, driver ${g.driver})`).join("; ") : <Missing why="none found" />],
    ...(i.gpus_cut_at ? [["GPUs left out", `from ${i.gpus_cut_at} of CUDA_VISIBLE_DEVICES on, which names no whole card here`] as [string, string]] : []),
    ["Operating system", `${i.os} · ${/^linux/i.test(i.kernel) ? "" : "Linux "}${i.kernel}${i.virtualization && i.virtualization !== "none" ? ` · ${i.virtualization}` : ""}`],
    ["Addresses", i.addresses.join(", ") || <Missing why="loopback only" />],
    ["Network of runs over several hosts", i.network || <Missing why="not stated: the only one that the hosts share" />],
    ["Data roots", i.data_roots.join(", ") || <Missing why="none: jobs with pictures are refused here" />],
    ["Free disk", bytes(i.free_disk_bytes)],
    ["Run containment", words(i.containment)],
    ...(i.slurm ? [["Slurm", `node ${i.slurm.node} of job ${i.slurm.job_id}`] as [string, string]] : []),
    ["Labels", Object.entries(agent.labels).map(([k, v]) => `${k}=${v}`).join(", ") || <Missing why="none" />],
    ["Enrolled", <Time at={agent.enrolled_at} />],
    ...Object.entries(i.versions).map(([name, version]): [string, string] => [`Version: ${words(name)}`, version]),
  ];
  return (
    <dl class="facts">
      {rows.map(([name, value]) => (
        <div>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function AgentRow({ agent, open, toggle }: { agent: AgentView; open: boolean; toggle: () => void }) {
  const versions = agent.inventory.versions;
  const shown = ["rackmark", "onednn", "openmpi", "cuda_driver"].filter((v) => versions[v]).map((v) => `${words(v)} ${versions[v]}`);
  return (
    <>
      <tr id={`agent-${agent.id}`}>
        <th scope="row" data-label="Agent">
          <button type="button" class="disclose" aria-expanded={open} onClick={toggle}>
            {agent.name}
          </button>
        </th>
        <td data-label="State">
          <span aria-live="polite">
            <Mark state={agent.state} />
          </span>
          {agent.state_detail && <span class="muted"> {agent.state_detail}</span>}
        </td>
        <td data-label="Load">{agent.job_id !== null ? <a href={`/jobs/${agent.job_id}`}>job {agent.job_id}</a> : <span class="muted">no run</span>}</td>
        <td data-label="What it is">
          {gpuLines(agent.inventory.gpus).map((line) => (
            <>
              <strong>{line}</strong>
              <br />
            </>
          ))}
          {agent.inventory.cpu.model_name}
          <br />
          <span class="muted">{topology(agent)}</span>
        </td>
        <td data-label="Versions" class="muted">
          {shown.join(" · ") || "not reported"}
        </td>
        <td data-label="Last seen" class="num">
          <Ago at={agent.last_seen_at} />
        </td>
      </tr>
      {open && (
        <tr class="detail-row">
          <td colSpan={6}>
            <Details agent={agent} />
            <Retire agent={agent} />
          </td>
        </tr>
      )}
    </>
  );
}

// An event carries no inventory: what is known stays. The retired are not listed.
export function applyAgent(list: AgentList, event: AgentView): { list: AgentList; unknown: boolean } {
  if (event.state === "retired") return { list: { ...list, items: list.items.filter((a) => a.id !== event.id) }, unknown: false };
  const known = list.items.some((a) => a.id === event.id);
  const items = list.items.map((a) => (a.id === event.id ? { ...a, ...event, inventory: a.inventory } : a));
  return { list: { ...list, items }, unknown: !known };
}

export function AgentsPage() {
  const agents = useLoad("agents", (signal) => api.agents(signal));
  const [open, setOpen] = useState<Set<number>>(new Set());
  useEffect(
    () =>
      onEvent("agent", (event) =>
        agents.change((list) => {
          const { list: next, unknown } = applyAgent(list, event);
          if (unknown) agents.reload(); // a new host: its inventory is not in the event
          return next;
        }),
      ),
    [],
  );
  const toggle = (id: number) =>
    setOpen((old) => {
      const next = new Set(old);
      if (!next.delete(id)) next.add(id);
      return next;
    });
  const items = agents.data?.items ?? [];
  const classes = [...new Set(items.map((a) => a.device_class))].sort();
  const count = (state: string) => items.filter((a) => a.state === state).length;
  return (
    <>
      <div class="page-head">
        <h1>Agents</h1>
        {items.length > 0 && (
          <p class="muted">
            {plural(items.length, "host")}: {count("idle")} idle, {count("busy")} busy, {count("lost")} lost{count("left") > 0 && `, ${count("left")} shut down`}
          </p>
        )}
      </div>
      {agents.error && <Problem error={agents.error} />}
      {!agents.data && !agents.error && <Loading what="agents" />}
      {classes.map((name) => {
        const members = items.filter((a) => a.device_class === name);
        return (
          <section class="panel" aria-label={`Device class ${name}`}>
            <div class="panel-head">
              <h2>{name}</h2>
              <span class="muted">{plural(members.length, "host")}</span>
            </div>
            <table class="rows agents">
              <thead>
                <tr>
                  {["Agent", "State", "Load", "What it is", "Versions"].map((t) => (
                    <th scope="col">{t}</th>
                  ))}
                  <th scope="col" class="num">
                    Last seen
                  </th>
                </tr>
              </thead>
              <tbody>
                {members.map((a) => (
                  <AgentRow key={a.id} agent={a} open={open.has(a.id)} toggle={() => toggle(a.id)} />
                ))}
              </tbody>
            </table>
          </section>
        );
      })}
      {agents.data && items.length === 0 && (
        <Empty title="No agent yet">
          <p>Jobs wait in the queue until a host runs an agent. Nothing listens there: agents only call this controller.</p>
          <Enrol packCommand={agents.data.pack_command} />
        </Empty>
      )}
      {agents.data && items.length > 0 && (
        <details class="panel">
          <summary>Add a host</summary>
          <Enrol packCommand={agents.data.pack_command} />
        </details>
      )}
    </>
  );
}
