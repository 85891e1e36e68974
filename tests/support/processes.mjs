// What is running on this machine, read from /proc: to find the workers of one fleet, and to show that
// none is left.
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

// Every live process (zombies excluded) as {pid, ppid, argv, program}.
export function processes() {
  const found = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      const [state, ppid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (state === "Z" || state === "X") continue;
      const argv = readFileSync(`/proc/${entry}/cmdline`, "utf8").split("\0").slice(0, -1);
      if (argv.length) found.push({ pid: Number(entry), ppid: Number(ppid), argv, program: path.basename(argv[0]) });
    } catch {
      // it ended while we looked
    }
  }
  return found;
}

// Processes of a fleet's runs: workers and mpirun carry a path inside the fleet's folder as an argument.
export function processesOf(fleet, program) {
  return processes().filter((p) => p.program === program && p.argv.some((a) => a.includes(fleet.dir)));
}
export const workersOf = (fleet) => processesOf(fleet, "rackmark-worker");

// Open MPI's programs, as 4 and 5 name them.
export const isLauncher = (p) => p.program === "mpirun" || p.program === "prterun";
export const isDaemon = (p) => p.program === "orted" || p.program === "prted";

// A variable of a process's environment as it was started with; "" when there is none.
export function environmentOf(pid, name) {
  try {
    const entry = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").find((e) => e.startsWith(`${name}=`));
    return entry ? entry.slice(name.length + 1) : "";
  } catch {
    return "";
  }
}
