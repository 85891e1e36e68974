#include "agent/launch/daemon_call.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rackmark::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Words = std::vector<std::string>;

// As mpirun of Open MPI 4.1.4 gives it to its remote-shell agent, word for word.
const Words kSeen = {" orted",
                     "-mca",
                     "orte_leave_session_attached",
                     "\"1\"",
                     "-mca",
                     "ess",
                     "\"env\"",
                     "-mca",
                     "ess_base_jobid",
                     "\"1287061504\"",
                     "-mca",
                     "ess_base_vpid",
                     "2",
                     "-mca",
                     "ess_base_num_procs",
                     "\"3\"",
                     "-mca",
                     "orte_node_regex",
                     "\"vm,rackmarkhost[1:0-1]@0(3)\"",
                     "-mca",
                     "orte_hnp_uri",
                     "\"1287061504.0;tcp://10.77.0.11:51000,51001\"",
                     "--mca",
                     "plm_rsh_agent",
                     "\"/dev/shm/rackmark-0badcafe-42/bin/rackmark-rsh\"",
                     "--mca",
                     "btl",
                     "\"self,vader,tcp\"",
                     "--mca",
                     "btl_tcp_if_include",
                     "\"10.77.0.0/24\"",
                     "-mca",
                     "plm",
                     "\"rsh\"",
                     "-mca",
                     "pmix",
                     "\"^s1,s2,cray,isolated\""};

TEST(DaemonCall, WhatMpirunSendsIsAdmittedWithoutWhatStartsFurtherDaemons) {
  const auto words = daemon_words(kSeen);
  ASSERT_TRUE(words.has_value()) << words.error().message;
  const auto argv = admit_daemon(*words);
  ASSERT_TRUE(argv.has_value()) << argv.error().message;
  EXPECT_THAT(*argv,
              ElementsAre("orted", "-mca", "orte_leave_session_attached", "1", "-mca", "ess", "env",
                          "-mca", "ess_base_jobid", "1287061504", "-mca", "ess_base_vpid", "2",
                          "-mca", "ess_base_num_procs", "3", "-mca", "orte_node_regex",
                          "vm,rackmarkhost[1:0-1]@0(3)", "-mca", "orte_hnp_uri",
                          "1287061504.0;tcp://10.77.0.11:51000,51001", "--mca", "btl",
                          "self,vader,tcp", "--mca", "btl_tcp_if_include", "10.77.0.0/24", "-mca",
                          "plm", "rsh", "-mca", "pmix", "^s1,s2,cray,isolated"));
}

// As mpirun of Open MPI 5.0.7 (PRRTE 3, Debian 13) gives it, word for word.
const Words kSeenOfPrrte = {
    "PRTE_PREFIX=/usr;export PRTE_PREFIX;"
    "LD_LIBRARY_PATH=/usr/lib:/usr/lib/x86_64-linux-gnu/pmix2/lib:$LD_LIBRARY_PATH;"
    "export LD_LIBRARY_PATH;"
    "DYLD_LIBRARY_PATH=/usr/lib:/usr/lib/x86_64-linux-gnu/pmix2/lib:$DYLD_LIBRARY_PATH;"
    "export DYLD_LIBRARY_PATH;/usr/bin/prted",
    "--leave-session-attached",
    "--allow-run-as-root",
    "--prtemca",
    "ess",
    "\"env\"",
    "--prtemca",
    "ess_base_nspace",
    "\"prterun-vm-4118@0\"",
    "--prtemca",
    "ess_base_vpid",
    "2",
    "--prtemca",
    "ess_base_num_procs",
    "\"3\"",
    "--prtemca",
    "prte_hnp_uri",
    "\"prterun-vm-4118@0.0;tcp://192.0.2.2:50029:64,24;tcp6://[fd00::2]:58277:64,24\"",
    "--prtemca",
    "PREFIXES",
    "\"errmgr,ess,filem,grpcomm,iof,odls,oob,plm,prtebacktrace,prtedl,prteinstalldirs,"
    "prtereachable,ras,rmaps,rtc,schizo,state,hwloc,if,reachable\"",
    "--prtemca",
    "plm_ssh_agent",
    "\"/dev/shm/rackmark-0badcafe-42/bin/rackmark-rsh\"",
    "--prtemca",
    "prte_if_include",
    "\"127.0.0.0/8\"",
    "--prtemca",
    "pmix_session_server",
    "\"1\"",
    "--prtemca",
    "plm",
    "\"ssh\""};

TEST(DaemonCall, WhatMpirunOfOpenMpi5SendsIsAdmitted) {
  const auto words = daemon_words(kSeenOfPrrte);
  ASSERT_TRUE(words.has_value()) << words.error().message;
  const auto argv = admit_daemon(*words);
  ASSERT_TRUE(argv.has_value()) << argv.error().message;
  EXPECT_THAT(
      *argv,
      ElementsAre("prted", "--leave-session-attached", "--allow-run-as-root", "--prtemca", "ess",
                  "env", "--prtemca", "ess_base_nspace", "prterun-vm-4118@0", "--prtemca",
                  "ess_base_vpid", "2", "--prtemca", "ess_base_num_procs", "3", "--prtemca",
                  "prte_hnp_uri",
                  "prterun-vm-4118@0.0;tcp://192.0.2.2:50029:64,24;tcp6://[fd00::2]:58277:64,24",
                  "--prtemca", "PREFIXES",
                  "errmgr,ess,filem,grpcomm,iof,odls,oob,plm,prtebacktrace,prtedl,prteinstalldirs,"
                  "prtereachable,ras,rmaps,rtc,schizo,state,hwloc,if,reachable",
                  "--prtemca", "prte_if_include", "127.0.0.0/8", "--prtemca", "pmix_session_server",
                  "1", "--prtemca", "plm", "ssh"));
}

TEST(DaemonCall, APrefixThatSetsTheEnvironmentIsDropped) {
  for (const char* prefix :
       {"OPAL_PREFIX=/opt/x ; export OPAL_PREFIX;", "PMIX_PREFIX=/usr/lib;export PMIX_PREFIX;",
        "PATH=/opt/x/bin:$PATH ; export PATH ; LD_LIBRARY_PATH=/opt/x/lib:$LD_LIBRARY_PATH ; "
        "export LD_LIBRARY_PATH ;"}) {
    const auto words = daemon_words({prefix, "/usr/bin/orted", "-mca", "ess", "\"env\""});
    ASSERT_TRUE(words.has_value()) << words.error().message;
    EXPECT_THAT(*words, ElementsAre("orted", "-mca", "ess", "env")) << prefix;
  }
}

TEST(DaemonCall, TheProfileOfAUserWithShIsNotRead) {
  const Words seen = {"(",           "test",   "!",    "-r",  "./.profile", "||", ".",
                      "./.profile;", " orted", "-mca", "ess", "\"env\"",    ")"};
  const auto words = daemon_words(seen);
  ASSERT_TRUE(words.has_value()) << words.error().message;
  EXPECT_THAT(*words, ElementsAre("orted", "-mca", "ess", "env"));
  for (const char* bad : {"( test ! -r ./.profile || . ./.profile; orted -mca ess env",
                          "( test ! -r ./.profile || . /tmp/evil; orted -mca ess env )",
                          "( test ! -r ./.profile || . ./.profile; id )",
                          "( test ! -r ./.profile || . ./.profile; orted -mca ess env ) )",
                          "( orted -mca ess env )"}) {
    EXPECT_TRUE(daemon_words({bad}).has_error()) << bad;
  }
}

TEST(DaemonCall, OtherPrefixesAreRefused) {
  for (const std::string bad : {"LD_PRELOAD=/tmp/evil.so;export LD_PRELOAD;",
                                "PATH=/a:$HOME;export PATH;",
                                "PATH=/a:$PATH_X;export PATH;",
                                "PATH=/a$(id);export PATH;",
                                "PATH=`id`;export PATH;",
                                "PATH=/a b;export PATH;",
                                "PATH=\"/a\";export PATH;",
                                "PATH=/a;export HOME;",
                                "PATH=/a;",
                                "PATH=/a",
                                "PATH=/a;export PATH",
                                "PATH=/a:$PATH:/b;export PATH;",
                                "PATH=/a;exportPATH;",
                                "PATH=/a;export PATH;id;",
                                "PATH=/a;export PATH&&",
                                "id;",
                                "env",
                                "exec",
                                "sh -c",
                                "PRTE_PREFIX2=/usr;export PRTE_PREFIX2;",
                                "XPATH=/a;export XPATH;"}) {
    EXPECT_TRUE(daemon_words({bad, "orted", "-mca", "ess", "env"}).has_error()) << bad;
    EXPECT_TRUE(daemon_words({bad}).has_error()) << bad;
  }
  EXPECT_TRUE(daemon_words({"orted -mca ess env;PATH=/a;export PATH;"}).has_error());
}

TEST(DaemonCall, QuotesAreTakenAsAShellWould) {
  const auto words = daemon_words({"orted", R"(a\ b 'c "d' "e\"f\g" g""h '' i'j'k)"});
  ASSERT_TRUE(words.has_value()) << words.error().message;
  EXPECT_THAT(*words, ElementsAre("orted", "a b", "c \"d", "e\"f\\g", "gh", "", "ijk"));
}

TEST(DaemonCall, WhatOnlyAShellCouldDoIsRefused) {
  for (const char* bad : {"orted -mca ess env; rm -rf /",
                          "orted && id",
                          "orted | tee x",
                          "orted > /etc/passwd",
                          "orted $(id)",
                          "orted `id`",
                          "orted \"$HOME\"",
                          "orted \"`id`\"",
                          "orted &",
                          "orted *",
                          "orted {a,b}",
                          "orted ~",
                          "orted 'open",
                          "orted \"open",
                          "orted \\",
                          "orted a\nb",
                          "orted \x01",
                          "sh -c orted2",
                          "",
                          "echo nothing"}) {
    EXPECT_TRUE(daemon_words({bad}).has_error()) << bad;
  }
  EXPECT_TRUE(daemon_words({"orted", std::string(kMaxCallBytes, 'x')}).has_error());
  EXPECT_TRUE(daemon_words(Words(kMaxCallWords + 2, "orted")).has_error());
}

TEST(DaemonCall, OnlyTheDaemonIsStarted) {
  for (const Words& bad : {Words{}, Words{"sh", "-c", "id"}, Words{"/tmp/orted"}, Words{"./orted"},
                           Words{"../orted"}, Words{"orted2"}, Words{""}, Words{"mpirun"}}) {
    EXPECT_TRUE(admit_daemon(bad).has_error()) << (bad.empty() ? "nothing" : bad.front());
  }
  EXPECT_TRUE(admit_daemon({"orted"}).has_value());
  EXPECT_TRUE(admit_daemon({"prted"}).has_value());
}

TEST(DaemonCall, ParametersThatLoadCodeOrStartProgramsAreRefused) {
  for (const char* name :
       {"mca_base_component_path", "mca_component_path", "mca_base_param_files",
        "mca_base_param_file_path", "orte_fork_agent", "prte_fork_agent", "orte_tmpdir_base",
        "opal_set_max_sys_limits", "mca_base_env_list", "orte_debugger_test_daemon",
        "filem_raw_flatten_directory_trees", "dl_dlopen_filename_suffixes", "ESS", "ess ", ""}) {
    const auto argv = admit_daemon({"orted", "-mca", name, "x"});
    ASSERT_TRUE(argv.has_error()) << name;
    EXPECT_THAT(argv.error().message, HasSubstr("not allowed")) << name;
  }
}

TEST(DaemonCall, ParametersThatNamePrograms) {
  for (const char* name : {"plm_rsh_agent", "plm_ssh_agent", "orte_launch_agent"}) {
    const auto argv = admit_daemon({"orted", "-mca", name, "/tmp/evil -x", "-mca", "ess", "env"});
    ASSERT_TRUE(argv.has_value()) << name;
    EXPECT_THAT(*argv, ElementsAre("orted", "-mca", "ess", "env"));
  }
}

TEST(DaemonCall, FlagsAndHalvesAreRefused) {
  for (const Words& bad :
       {Words{"orted", "--daemonize"}, Words{"prted", "--daemonize"},
        Words{"orted", "--tree-spawn"}, Words{"prted", "--tree-spawn"},
        Words{"orted", "--allow-run-as-root"}, Words{"prted", "--prtemca"},
        Words{"prted", "--prtemca", "--allow-run-as-root"},
        Words{"prted", "--allow-run-as-root", "--prefix", "/tmp", "x"}, Words{"orted", "-mca"},
        Words{"orted", "-mca", "ess"}, Words{"orted", "--debug-daemons", "-mca", "ess", "env"},
        Words{"orted", "-mca", "ess", "env", "--report-uri", "/etc/passwd"},
        Words{"orted", "-am", "/tmp/evil.conf", "x"},
        Words{"orted", "-x", "LD_PRELOAD=/tmp/evil.so", "y"}}) {
    EXPECT_TRUE(admit_daemon(bad).has_error()) << bad.back();
  }
}

TEST(DaemonCall, ValuesLookAsTheyMust) {
  const std::pair<const char*, const char*> bad[] = {{"ess_base_vpid", "-1"},
                                                     {"ess_base_vpid", "1 2"},
                                                     {"ess_base_vpid", ""},
                                                     {"ess", "../env"},
                                                     {"plm", "/tmp/evil"},
                                                     {"btl", "self,vader tcp"},
                                                     {"orte_hnp_uri", "1.0;tcp://10.0.0.1:1|id"},
                                                     {"orte_hnp_uri", "1.0;tcp://$HOME"},
                                                     {"orte_node_regex", "a b"},
                                                     {"orte_node_regex", "file:/etc/passwd"},
                                                     {"btl_tcp_if_include", "eth0;id"},
                                                     {"oob_tcp_dynamic_ipv4_ports", "1-2;3"},
                                                     {"pmix", "/tmp/evil"}};
  for (const auto& [name, value] : bad)
    EXPECT_TRUE(admit_daemon({"orted", "-mca", name, value}).has_error()) << name << " " << value;
}

}  // namespace
}  // namespace rackmark::agent
