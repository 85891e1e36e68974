#include "agent/launch/daemon_call.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>

namespace rackmark::agent {

namespace {

Error refused(const std::string& word, const std::string& allowed, const std::string& why) {
  return invalid("argv", word.substr(0, 200), allowed, why + ": " + word.substr(0, 200));
}

bool is_blank(char c) { return c == ' ' || c == '\t'; }

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

// One pass over the text as a shell would split it, refusing what it would expand.
class Splitter {
 public:
  explicit Splitter(std::string_view text) : text_(text) {}

  Result<std::vector<std::string>> split() {
    while (at_ < text_.size()) {
      if (const char* why = take()) return refused(std::string(text_), "plain words", why);
      if (words_.size() > kMaxCallWords)
        return refused("", "at most 1000 words", "the command has too many words");
    }
    if (quote_ != 0) return refused(std::string(text_), "closed quotes", "a quote is not closed");
    finish();
    return std::move(words_);
  }

 private:
  const char* take() {
    const char c = text_[at_++];
    if (is_control(c) && c != '\t') return "a control character is not allowed";
    if (quote_ == '\'') {
      c == '\'' ? void(quote_ = 0) : put(c);
      return nullptr;
    }
    if (c == '\\') return escape();
    if (quote_ == '"') {
      if (c == '"') {
        quote_ = 0;
      } else if (c == '$' || c == '`') {
        return "a shell's expansion is not allowed";
      } else {
        put(c);
      }
      return nullptr;
    }
    if (c == '"' || c == '\'') {
      quote_ = c;
      open_ = true;
    } else if (is_blank(c)) {
      finish();
    } else if (std::strchr("$`&|<>(){}*?~#!;", c) != nullptr) {
      return "a shell's sign is not allowed";
    } else {
      put(c);
    }
    return nullptr;
  }

  const char* escape() {
    if (at_ >= text_.size()) return "a backslash ends the command";
    const char next = text_[at_++];
    if (is_control(next)) return "a control character is not allowed";
    if (quote_ == '"' && std::strchr("\"\\$`", next) == nullptr) put('\\');
    put(next);
    return nullptr;
  }

  void put(char c) {
    word_ += c;
    open_ = true;
  }
  void finish() {
    if (open_) words_.push_back(word_);
    word_.clear();
    open_ = false;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  char quote_ = 0;
  bool open_ = false;
  std::string word_;
  std::vector<std::string> words_;
};

bool is_daemon(const std::string& name) { return name == "orted" || name == "prted"; }

constexpr std::string_view kPathSigns =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/.:+_-";

// Where the agent's user has sh or ksh as a shell, mpirun wants it to read the user's profile, with
// these very words around the command.
std::string_view without_profile(std::string_view text) {
  constexpr std::string_view kBefore = "( test ! -r ./.profile || . ./.profile;", kAfter = " )";
  if (!text.starts_with(kBefore) || !text.ends_with(kAfter)) return text;
  text.remove_prefix(kBefore.size());
  text.remove_suffix(kAfter.size());
  return text;
}

// What stands before the daemon's name when mpirun knows a folder to look in. Each step takes what
// it names from the front of the text, or nothing.
class EnvironmentPrefix {
 public:
  explicit EnvironmentPrefix(std::string_view text) : rest_(text) {}

  // The text behind all assignments of the form "NAME=FOLDERS[:$NAME]; export NAME;".
  std::string_view skip() {
    take_blanks();
    while (take_assignment()) take_blanks();
    return rest_;
  }

 private:
  bool take_assignment() {
    for (const std::string_view name : {"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
                                        "OPAL_PREFIX", "PRTE_PREFIX", "PMIX_PREFIX"}) {
      const std::string_view before = rest_;
      if (take_assignment_of(name)) return true;
      rest_ = before;
    }
    return false;
  }
  bool take_assignment_of(std::string_view name) {
    if (!take(name) || !take("=")) return false;
    rest_.remove_prefix(std::min(rest_.find_first_not_of(kPathSigns), rest_.size()));
    if (take("$") && !take(name)) return false;
    return take_end() && take("export") && take(" ") && take(name) && take_end();
  }
  bool take_end() {
    take_blanks();
    if (!take(";")) return false;
    take_blanks();
    return true;
  }
  bool take(std::string_view wanted) {
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(wanted.size());
    return true;
  }
  void take_blanks() { rest_.remove_prefix(std::min(rest_.find_first_not_of(' '), rest_.size())); }

  std::string_view rest_;
};

enum class Shape { kNumber, kPorts, kNetwork, kUri, kNodes, kWords, kDropped };

// What mpirun of Open MPI 4.1 and of 5.0 was seen to send for the commands of launch.cpp.
// kDropped: it names programs, and is of use only to a daemon that starts others.
const std::map<std::string, Shape, std::less<>>& known_parameters() {
  static const std::map<std::string, Shape, std::less<>> known = {
      {"ess", Shape::kWords},
      {"ess_base_jobid", Shape::kNumber},
      {"ess_base_nspace", Shape::kNodes},
      {"ess_base_vpid", Shape::kNumber},
      {"ess_base_num_procs", Shape::kNumber},
      {"orte_node_regex", Shape::kNodes},
      {"orte_hnp_uri", Shape::kUri},
      {"orte_parent_uri", Shape::kUri},
      {"prte_hnp_uri", Shape::kUri},
      {"prte_parent_uri", Shape::kUri},
      {"orte_leave_session_attached", Shape::kNumber},
      {"prte_leave_session_attached", Shape::kNumber},
      {"orte_tag_output", Shape::kNumber},
      {"orte_output_debugger_proctable", Shape::kDropped},
      {"orte_launch_agent", Shape::kDropped},
      {"prte_launch_agent", Shape::kDropped},
      {"plm_rsh_agent", Shape::kDropped},
      {"plm_ssh_agent", Shape::kDropped},
      {"plm_rsh_no_tree_spawn", Shape::kNumber},
      {"plm_ssh_no_tree_spawn", Shape::kNumber},
      {"plm", Shape::kWords},
      {"pml", Shape::kWords},
      {"btl", Shape::kWords},
      {"pmix", Shape::kWords},
      {"pmix_base_async_modex", Shape::kNumber},
      {"pmix_session_server", Shape::kNumber},
      {"PREFIXES", Shape::kWords},  // under which names PRRTE's own parameters are looked up
      {"routed", Shape::kWords},
      {"routed_radix", Shape::kNumber},
      {"btl_tcp_if_include", Shape::kNetwork},
      {"btl_tcp_flags", Shape::kNumber},
      {"btl_tcp_sndbuf", Shape::kNumber},
      {"pml_ob1_send_pipeline_depth", Shape::kNumber},
      {"oob_tcp_if_include", Shape::kNetwork},
      {"prte_if_include", Shape::kNetwork},
      {"if_base_do_not_resolve", Shape::kNumber},
      {"prte_do_not_resolve", Shape::kNumber},
      {"oob_tcp_keepalive_time", Shape::kNumber},
      {"oob_tcp_keepalive_intvl", Shape::kNumber},
      {"oob_tcp_keepalive_probes", Shape::kNumber},
      {"prte_keepalive_time", Shape::kNumber},
      {"prte_keepalive_intvl", Shape::kNumber},
      {"prte_keepalive_probes", Shape::kNumber},
      {"oob_tcp_dynamic_ipv4_ports", Shape::kPorts},
      {"prte_dynamic_ipv4_ports", Shape::kPorts},
      {"btl_tcp_port_min_v4", Shape::kNumber},
      {"btl_tcp_port_range_v4", Shape::kNumber},
      {"hwloc_base_binding_policy", Shape::kWords},
      {"rmaps_base_mapping_policy", Shape::kWords},
      {"rmaps_base_oversubscribe", Shape::kNumber},
      {"rmaps_base_no_oversubscribe", Shape::kNumber},
      {"mpi_oversubscribe", Shape::kNumber},
      {"mpi_yield_when_idle", Shape::kNumber},
  };
  return known;
}

const char* alphabet(Shape shape) {
  switch (shape) {
    case Shape::kNumber:
      return "0123456789";
    case Shape::kPorts:
      return "0123456789,-";
    case Shape::kNetwork:
      return "0123456789abcdefABCDEF.:/,";
    case Shape::kUri:
      return "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.;:/,-_@[]";
    case Shape::kNodes:
      return "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:;-_@()[]";
    case Shape::kWords:
      return "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,^:=_-";
    case Shape::kDropped:
      break;
  }
  return nullptr;
}

bool looks_right(Shape shape, const std::string& value) {
  const char* allowed = alphabet(shape);
  if (allowed == nullptr) return true;
  return !value.empty() && value.find_first_not_of(allowed) == std::string::npos;
}

bool is_parameter(const std::string& word) {
  return word == "-mca" || word == "--mca" || word == "--prtemca" || word == "-prtemca";
}

// PRRTE says these without a parameter's name. Daemons of root agents are told that they may run.
bool is_flag(const std::string& daemon, const std::string& word) {
  return daemon == "prted" && (word == "--leave-session-attached" || word == "--allow-run-as-root");
}

}  // namespace

Result<std::vector<std::string>> daemon_words(const std::vector<std::string>& argv) {
  std::string text;
  for (const auto& word : argv) text += (text.empty() ? "" : " ") + word;
  if (text.size() > kMaxCallBytes) return refused("", "at most 256 KiB", "the command is too long");
  auto words = Splitter(EnvironmentPrefix(without_profile(text)).skip()).split();
  if (!words) return words.error();
  const std::string program = words->empty() ? "" : words->front();
  const std::string name = program.substr(program.rfind('/') + 1);  // npos + 1: from the start
  if (!is_daemon(name))
    return refused(text, "orted or prted", "the command does not start with a daemon");
  words->front() = name;
  return words;
}

Result<std::vector<std::string>> admit_daemon(const std::vector<std::string>& words) {
  std::size_t bytes = 0;
  for (const auto& word : words) bytes += word.size();
  if (words.size() > kMaxCallWords || bytes > kMaxCallBytes)
    return refused("", "1000 words, 256 KiB", "the command is too long");
  if (words.empty() || !is_daemon(words.front()))
    return refused(words.empty() ? "" : words.front(), "orted, prted",
                   "this program is not started for other agents");
  std::vector<std::string> argv{words.front()};
  for (std::size_t i = 1; i < words.size(); i += 3) {
    for (; i < words.size() && is_flag(argv.front(), words[i]); ++i) argv.push_back(words[i]);
    if (i == words.size()) break;
    if (!is_parameter(words[i]))
      return refused(words[i], "-mca NAME VALUE", "this word is not allowed in a daemon's command");
    if (i + 2 >= words.size())
      return refused(words[i], "-mca NAME VALUE", "a parameter has no value");
    const std::string& name = words[i + 1];
    const std::string& value = words[i + 2];
    const auto known = known_parameters().find(name);
    if (known == known_parameters().end())
      return refused(name, "the parameters that a launch needs",
                     "this parameter is not allowed in a daemon's command");
    if (known->second == Shape::kDropped) continue;
    if (!looks_right(known->second, value))
      return refused(name + " " + value, "a value of this parameter's kind",
                     "the value of this parameter is not allowed");
    argv.insert(argv.end(), {words[i], name, value});
  }
  return argv;
}

}  // namespace rackmark::agent
