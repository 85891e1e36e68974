// Agents: what they are, and the protocol by which they ask for work (agents only call out).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/domain/run_state.hpp"
#include "common/json/described.hpp"
#include "common/json/json.hpp"
#include "common/protocol/endpoint.hpp"

namespace rackmark::protocol {

inline constexpr int kProtocol = 1;

struct CpuInventory {
  std::string vendor, model_name,
      isa;  // isa: highest of sse4_1, avx2, avx512, avx512_vnni, avx512_bf16, amx
  std::int64_t family = 0, model = 0, stepping = 0;
  std::int64_t sockets = 0, physical_cores = 0, logical_cpus = 0, numa_domains = 0;
  bool smt = false;
};
BOOST_DESCRIBE_STRUCT(CpuInventory, (),
                      (vendor, model_name, isa, family, model, stepping, sockets, physical_cores,
                       logical_cpus, numa_domains, smt))
struct GpuInventory {
  std::string name, uuid, driver;
  std::int64_t memory_bytes = 0;
};
BOOST_DESCRIBE_STRUCT(GpuInventory, (), (name, uuid, driver, memory_bytes))
struct SlurmAllocation {
  std::string cluster, node;  // Slurm's names
  std::int64_t job_id = 0;
};
BOOST_DESCRIBE_STRUCT(SlurmAllocation, (), (cluster, node, job_id))
struct Inventory {
  std::string hostname, os, kernel, virtualization;
  CpuInventory cpu;
  std::int64_t memory_bytes = 0;
  std::optional<std::string> governor;  // null: not available
  std::vector<GpuInventory> gpus;
  // The entry of CUDA_VISIBLE_DEVICES that names no whole GPU of the host, a MIG instance for one:
  // it and what follows it are not in `gpus`. "" = none.
  std::string gpus_cut_at;
  std::vector<std::string> addresses;  // CIDR of every interface that is up, loopback excluded
  std::string network;  // CIDR that its owner states for runs over several agents; "" = not stated
  std::map<std::string, std::string>
      versions;  // rackmark, engine_revision, onednn, openmpi, cuda driver, ...
  std::vector<std::string> data_roots;
  std::string containment;  // cgroup_v2, pid_namespace or proc_sweep
  std::int64_t free_disk_bytes = 0;
  std::optional<SlurmAllocation> slurm;  // in which the agent runs and srun can start ranks
  std::vector<std::string> notes;  // for people: what of the host does not count here, and why
};
BOOST_DESCRIBE_STRUCT(Inventory, (),
                      (hostname, os, kernel, virtualization, cpu, memory_bytes, governor, gpus,
                       gpus_cut_at, addresses, network, versions, data_roots, containment,
                       free_disk_bytes, slurm, notes))

// --- enrolment
// -------------------------------------------------------------------------------------
struct EnrolmentTokenRequest {
  std::int64_t valid_s = 3600;
};
BOOST_DESCRIBE_STRUCT(EnrolmentTokenRequest, (), (valid_s))
struct EnrolmentToken {
  std::string token;  // shown once, hashed at rest, good for one enrolment
  std::string expires_at;
};
BOOST_DESCRIBE_STRUCT(EnrolmentToken, (), (token, expires_at))
struct Enrolment {
  int protocol = kProtocol;
  std::string token, name;  // name: a unique label, default the host name
  std::map<std::string, std::string> labels;
  std::optional<std::string> device_class;  // else made from the inventory by the controller
  Inventory inventory;
};
BOOST_DESCRIBE_STRUCT(Enrolment, (), (protocol, token, name, labels, device_class, inventory))
struct Enrolled {
  int protocol = kProtocol;
  std::int64_t agent_id = 0;
  std::string agent_token, controller_uuid;
  double lease_s = 60;
};
BOOST_DESCRIBE_STRUCT(Enrolled, (), (protocol, agent_id, agent_token, controller_uuid, lease_s))

// --- sync: whole state both ways, so either side may restart at any time
// -----------------------------
struct StallReport {  // the rank of one agent that is most likely the one that holds up all others
  std::int64_t rank = 0, steps = 0;  // steps: done in its phase
  std::string host, phase;
  std::string process_state;  // of /proc: "T (stopped)", "S (sleeping)"; "" = not known
  double silent_s = 0, limit_s = 0;
};
BOOST_DESCRIBE_STRUCT(StallReport, (), (rank, steps, host, phase, process_state, silent_s, limit_s))
// Of the silent ranks that are reported, the one that holds up the others: one stopped by a signal
// before all, else the one with the fewest steps, else the one silent longest. Not of an empty
// list.
std::size_t likely_culprit(const std::vector<StallReport>& reports);

struct ObservedRun {
  std::int64_t run_id = 0;
  RunState state = RunState::kReserved;
  Reason reason = Reason::kNone;
  std::string detail;                     // for people: what happened, with rank, host and phase
  std::optional<std::int64_t> exit_code;  // of mpirun
  nlohmann::json memory;                  // OutOfMemoryEvent
  std::string at;                         // agent's own clock, RFC 3339
  std::int64_t last_seq = 0;              // last event batch of this run that the agent has made
  bool all_gone = false;                  // terminal and no process of it is left on the host
  std::optional<StallReport> stall;  // no progress here; of several agents, the controller compares
};
BOOST_DESCRIBE_STRUCT(ObservedRun, (),
                      (run_id, state, reason, detail, exit_code, memory, at, last_seq, all_gone,
                       stall))
// "Start this orted": from mpirun's remote-shell agent on the head agent, through the controller,
// to another agent of the run. The head lists every call that is open in each sync.
struct RelayCall {
  std::int64_t call_id = 0, run_id = 0;
  std::int64_t host = 0;  // the agent that shall start it, as a position in WantedRun::hosts
  std::string run_token;
  std::vector<std::string> argv;  // words, "orted" first; never a shell's text
};
BOOST_DESCRIBE_STRUCT(RelayCall, (), (call_id, run_id, host, run_token, argv))
// How that orted ended; its agent lists it in each sync until it may forget the run.
struct RelayResult {
  std::int64_t call_id = 0, run_id = 0;
  std::int64_t exit_code = 0;  // 128 + n for signal n; 126: it was not started, see output
  std::string output;
};
BOOST_DESCRIBE_STRUCT(RelayResult, (), (call_id, run_id, exit_code, output))
struct SyncUp {
  int protocol = kProtocol;
  std::string incarnation;  // new at each process start, sortable: newest of one boot wins
  std::string boot_id;
  std::int64_t number = 0;  // grows with each sync of this incarnation, so that one that arrives
                            // late is known as such; 0: not counted, taken as the newest
  std::optional<Inventory> inventory;  // when it changed since the last answered sync
  std::optional<std::map<std::string, std::string>> labels;
  std::vector<ObservedRun> runs;           // all that the agent still knows
  std::vector<RelayCall> relay_calls;      // of runs that this agent heads, still open
  std::vector<RelayResult> relay_results;  // of calls that other agents made here
  bool wait = true;                        // false: answer at once (first sync, shutting down)
  bool leaving = false;                    // orderly shutdown: do not wait for the lease
};
BOOST_DESCRIBE_STRUCT(SyncUp, (),
                      (protocol, incarnation, boot_id, number, inventory, labels, runs, relay_calls,
                       relay_results, wait, leaving))
struct WantedRun {
  std::int64_t run_id = 0, job_id = 0, repetition = 1, attempt = 1;
  nlohmann::json spec;  // spec_resolved
  double timeout_s = 0;
  std::string run_token;           // of this run only
  std::vector<std::string> hosts;  // agents of the gang, head first
  std::int64_t position = 0;       // of this agent in `hosts`
  std::string network;             // CIDR on which the gang talks; "" with one host
  // Slurm's names of `hosts`, when all are nodes of one allocation: then the head's srun starts the
  // ranks, else mpirun.
  std::vector<std::string> slurm_nodes;
};
BOOST_DESCRIBE_STRUCT(WantedRun, (),
                      (run_id, job_id, repetition, attempt, spec, timeout_s, run_token, hosts,
                       position, network, slurm_nodes))
struct SyncDown {
  int protocol = kProtocol;
  double lease_s = 60;
  std::vector<WantedRun> wanted;     // all runs this agent should have; not listed = must not run
  std::vector<std::int64_t> cancel;  // end these as cancelled
  std::vector<std::int64_t>
      forget;  // terminal, stored here, events complete: the agent may drop them
  std::vector<RelayCall> relay_calls;      // to start here
  std::vector<RelayResult> relay_results;  // of the calls that this agent made
};
BOOST_DESCRIBE_STRUCT(SyncDown, (),
                      (protocol, lease_s, wanted, cancel, forget, relay_calls, relay_results))

// --- events: numbered batches, accepted once by (run_id, source, seq); source is the agent
// -----------
struct LogLine {
  std::int64_t rank = -1;  // -1: mpirun, guard or agent
  std::string stream;      // stdout, stderr, agent
  std::string at;          // agent's clock
  std::string text;        // at most 8 KiB
};
BOOST_DESCRIBE_STRUCT(LogLine, (), (rank, stream, at, text))
struct EventBatch {
  std::int64_t run_id = 0, seq = 0;    // seq from 1, without holes
  std::vector<nlohmann::json> events;  // worker events as they came
  std::vector<LogLine> logs;
  std::int64_t dropped = 0;  // lines lost because the spool was full
};
BOOST_DESCRIBE_STRUCT(EventBatch, (), (run_id, seq, events, logs, dropped))
struct EventUpload {
  std::vector<EventBatch> batches;
};
BOOST_DESCRIBE_STRUCT(EventUpload, (), (batches))
struct AcceptedBatch {
  std::int64_t run_id = 0;
  std::int64_t up_to_seq = 0;  // everything up to here is stored; the agent may delete it
};
BOOST_DESCRIBE_STRUCT(AcceptedBatch, (), (run_id, up_to_seq))
struct EventReceipt {
  std::vector<AcceptedBatch> accepted;
  std::vector<std::int64_t> refused_runs;  // not this agent's, or over: drop what is left of them
};
BOOST_DESCRIBE_STRUCT(EventReceipt, (), (accepted, refused_runs))

// --- for people
// ------------------------------------------------------------------------------------
struct AgentView {
  std::int64_t id = 0;
  std::string name, device_class;
  std::map<std::string, std::string> labels;
  // idle, busy, new (enrolled, not seen yet), left (shut down in order), lost, conflict, retired
  std::string state;
  std::string state_detail;
  std::optional<std::int64_t> run_id, job_id;  // what it works on
  std::string enrolled_at;
  std::optional<std::string> last_seen_at;
  std::optional<double> last_seen_s;  // seconds ago
  Inventory inventory;
};
BOOST_DESCRIBE_STRUCT(AgentView, (),
                      (id, name, device_class, labels, state, state_detail, run_id, job_id,
                       enrolled_at, last_seen_at, last_seen_s, inventory))
struct AgentList {
  std::vector<AgentView> items;
  std::string pack_command;  // what to type to add a host; shown on the Agents page
};
BOOST_DESCRIBE_STRUCT(AgentList, (), (items, pack_command))

inline constexpr Endpoint<EnrolmentTokenRequest, EnrolmentToken> kCreateEnrolmentToken{
    Verb::kPost, "/api/v1/enrolment-tokens", "Make a one-time enrolment token", Role::kAdmin, 201};
inline constexpr Endpoint<Enrolment, Enrolled> kEnrol{
    Verb::kPost, "/api/v1/agents", "Enrol an agent with a one-time token", Role::kPublic, 201};
inline constexpr Endpoint<SyncUp, SyncDown> kSync{Verb::kPost, "/api/v1/agents/{id}/sync",
                                                  "Exchange whole state with an agent (long poll)",
                                                  Role::kAgent};
inline constexpr Endpoint<EventUpload, EventReceipt> kUploadEvents{
    Verb::kPost, "/api/v1/agents/{id}/events", "Hand in numbered batches of worker events",
    Role::kAgent};
inline constexpr Endpoint<Nothing, AgentList> kListAgents{
    Verb::kGet, "/api/v1/agents", "All agents with their inventory and state, but the retired"};
inline constexpr Endpoint<Nothing, AgentView> kShowAgent{Verb::kGet, "/api/v1/agents/{id}",
                                                         "One agent"};
inline constexpr Endpoint<Nothing, AgentView> kRetireAgent{
    Verb::kPost, "/api/v1/agents/{id}:retire",
    "Take an agent out: its token is revoked and its name is free, what it measured stays",
    Role::kAdmin};

}  // namespace rackmark::protocol
