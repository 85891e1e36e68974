"""Hosts that are network namespaces of this machine, each with one link of a given rate.

Needs root, iproute2 and Open MPI. Every host hangs on a switch in a namespace of its own, so that the
machine's network is untouched; a token bucket (tc tbf) on both ends of its link limits what it sends
and what it receives, as a full-duplex port does. All hosts share the cores and the disk.
"""
import contextlib
import os
import pathlib
import subprocess
import tempfile

NETWORK = "10.78.0"


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class ShapedHosts:
    def __init__(self, count, prefix="rmb", mtu=1500):
        self.prefix, self.count, self.mtu = prefix, count, mtu
        self.names = [f"{prefix}{i}" for i in range(count)]
        self.switch = f"{prefix}sw"

    def __enter__(self):
        self.close()
        self.folder = tempfile.TemporaryDirectory(prefix="rackmark-hosts-")
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "br0", "up")
        for i, name in enumerate(self.names):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", self.switch, "link", "add", f"v{i}", "type", "veth", "peer", "name", "eth0",
               "netns", name)
            ip("-n", self.switch, "link", "set", f"v{i}", "mtu", str(self.mtu), "master", "br0", "up")
            ip("-n", name, "addr", "add", f"{NETWORK}.{10 + i}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "mtu", str(self.mtu), "up")
            # As a network card's own limit does: few bytes wait in the queue, so that an
            # acknowledgement does not wait behind them.
            subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw",
                            "net.ipv4.tcp_limit_output_bytes=131072"], check=True)
        agent = pathlib.Path(self.folder.name, "agent")
        # A name of its own for each: Open MPI's daemons would share a session folder otherwise.
        agent.write_text('#!/bin/sh\nhost=$1; shift\n'
                         'exec ip netns exec "$host" unshare --uts sh -c "hostname $host; $*"\n')
        agent.chmod(0o755)
        self.agent = str(agent)
        return self

    def __exit__(self, *_):
        self.close()
        self.folder.cleanup()

    def close(self):
        for name in [*self.names, self.switch]:
            if os.path.exists(f"/run/netns/{name}"):
                ip("netns", "del", name)

    def shape(self, bytes_per_second):
        """Limits every link to this rate of IP payload and headers; None takes the limit away."""
        for i, name in enumerate(self.names):
            for where, device in ((name, "eth0"), (self.switch, f"v{i}")):
                tc = ["ip", "netns", "exec", where, "tc", "qdisc"]
                with contextlib.suppress(subprocess.CalledProcessError):
                    subprocess.run([*tc, "del", "dev", device, "root"], check=True,
                                   stderr=subprocess.DEVNULL)
                if bytes_per_second is None:
                    continue
                # A burst of 2 ms at that rate, and at least what the kernel hands over at once.
                burst = max(131072, int(bytes_per_second * 0.002))
                subprocess.run([*tc, "add", "dev", device, "root", "tbf", "rate",
                                f"{int(bytes_per_second * 8)}bit", "burst", str(burst), "latency",
                                "100ms"], check=True)

    def mpirun(self, ranks, command, environment=None, timeout=300):
        """One rank a host on the first `ranks` hosts; returns standard output."""
        words = [self.agent, self.names[0], "exec", "mpirun", "--allow-run-as-root",
                 "--mca", "plm", "rsh", "--mca", "plm_rsh_agent", self.agent,
                 "--mca", "plm_rsh_no_tree_spawn", "1", "--leave-session-attached",
                 "--mca", "pml", "ob1", "--mca", "btl", "self,tcp",
                 # As the agents launch: see agent/launch.
                 "--mca", "btl_tcp_flags", "312", "--mca", "btl_tcp_sndbuf", "262144",
                 "--mca", "pml_ob1_send_pipeline_depth", "8",
                 "--mca", "btl_tcp_if_include", f"{NETWORK}.0/24",
                 "--mca", "oob_tcp_if_include", f"{NETWORK}.0/24",
                 "--mca", "mpi_yield_when_idle", "1", "--bind-to", "none",
                 "--mca", "orte_tmpdir_base", self.folder.name,
                 "--host", ",".join(f"{name}:1" for name in self.names[:ranks]), "-n", str(ranks)]
        for name, value in (environment or {}).items():
            words += ["-x", f"{name}={value}"]
        done = subprocess.run([*words, *command], capture_output=True, text=True, timeout=timeout,
                              check=False)
        if done.returncode != 0:
            raise RuntimeError(f"mpirun ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout
