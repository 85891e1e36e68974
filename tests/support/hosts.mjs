// Several hosts on one machine: a network and a host name each (kernel namespaces), joined by a switch
// that lives in a namespace of its own; the machine itself has one port on it. Needs root.
//
//   const hosts = makeHosts(3);
//   const fleet = await startFleet({ agents: 0, listen: "0.0.0.0", agentUrl: (port) => hosts.url(port), controllerArgs: ["--allow-remote"] });
//   await fleet.startAgent({ name: hosts.names[0], enter: hosts.enter(0) });
//   hosts.cut(2); hosts.join(2);            // silently: no carrier is lost
//   hosts.processes(1);                     // what runs there
//   hosts.remove();
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { processes } from "./processes.mjs";

const run = (program, ...args) => execFileSync(program, args, { stdio: ["ignore", "pipe", "pipe"] }).toString();

// Why there can be no hosts here; "" when there can.
export function whyNoHosts() {
  if (process.getuid() !== 0) return "network namespaces need root";
  try {
    run("ip", "netns", "list");
    run("unshare", "--net", "--uts", "true");
    return "";
  } catch (error) {
    return `network namespaces cannot be made: ${error.message.split("\n")[0]}`;
  }
}

class Hosts {
  constructor(count) {
    this.id = `rm${process.pid}`;
    this.folder = mkdtempSync(path.join(tmpdir(), "rackmark-hosts-"));
    this.subnet = `10.${100 + (process.pid % 100)}.${Math.floor(process.pid / 100) % 250}`;
    this.names = Array.from({ length: count }, (_, i) => `node${i + 1}`);
    this.switch = `${this.id}-sw`;
    this.port = `${this.id}`.slice(0, 12) + "up";
  }

  build() {
    run("ip", "netns", "add", this.switch);
    run("ip", "-n", this.switch, "link", "add", "br0", "type", "bridge");
    run("ip", "-n", this.switch, "link", "set", "br0", "up");
    run("ip", "link", "add", this.port, "type", "veth", "peer", "name", "uplink", "netns", this.switch);
    run("ip", "addr", "add", `${this.subnet}.1/24`, "dev", this.port);
    run("ip", "link", "set", this.port, "up");
    run("ip", "-n", this.switch, "link", "set", "uplink", "master", "br0", "up");
    this.names.forEach((name, i) => {
      run("ip", "netns", "add", this.net(i));
      run("ip", "-n", this.net(i), "link", "set", "lo", "up");
      run("ip", "link", "add", `v${i}`, "netns", this.switch, "type", "veth", "peer", "name", "eth0", "netns", this.net(i));
      run("ip", "-n", this.switch, "link", "set", `v${i}`, "master", "br0", "up");
      run("ip", "-n", this.net(i), "addr", "add", `${this.address(i)}/24`, "dev", "eth0");
      run("ip", "-n", this.net(i), "link", "set", "eth0", "up");
      // A bridge with the same address on every host, as container engines make: it connects nobody.
      run("ip", "-n", this.net(i), "link", "add", "docker0", "type", "bridge");
      run("ip", "-n", this.net(i), "addr", "add", "172.17.0.1/16", "dev", "docker0");
      run("ip", "-n", this.net(i), "link", "set", "docker0", "up");
      writeFileSync(this.uts(i), "");
      run("unshare", `--uts=${this.uts(i)}`, "hostname", name);
    });
    return this;
  }

  net(i) {
    return `${this.id}-${i}`;
  }
  uts(i) {
    return path.join(this.folder, `uts${i}`);
  }
  address(i) {
    return `${this.subnet}.${10 + i}`;
  }
  network() {
    return `${this.subnet}.0/24`;
  }
  url(port) {
    return `http://${this.subnet}.1:${port}`;
  }
  // What to put before a command so that it runs on this host; the process is the command's own.
  enter(i) {
    return ["nsenter", `--net=/run/netns/${this.net(i)}`, `--uts=${this.uts(i)}`, "--"];
  }

  cut(i) {
    run("ip", "-n", this.switch, "link", "set", `v${i}`, "nomaster");
  }
  join(i) {
    run("ip", "-n", this.switch, "link", "set", `v${i}`, "master", "br0");
  }

  // All live processes of the host.
  processes(i) {
    const inode = statSync(`/run/netns/${this.net(i)}`).ino;
    return processes().filter((p) => {
      try {
        return readlinkSync(`/proc/${p.pid}/ns/net`) === `net:[${inode}]`;
      } catch {
        return false;
      }
    });
  }

  remove() {
    const quietly = (...command) => {
      try {
        run(...command);
      } catch {
        // it was not there
      }
    };
    for (let i = 0; i < this.names.length; ++i) {
      quietly("umount", this.uts(i));
      quietly("ip", "netns", "del", this.net(i));
    }
    quietly("ip", "link", "del", this.port);
    quietly("ip", "netns", "del", this.switch);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function makeHosts(count) {
  const hosts = new Hosts(count);
  try {
    return hosts.build();
  } catch (error) {
    hosts.remove();
    throw error;
  }
}

// Folders that runs leave in shared memory, which must be none once nothing runs.
export const scratchFolders = () => readdirSync("/dev/shm").filter((name) => /^rackmark-[0-9a-f]{8}-\d+$/.test(name));
