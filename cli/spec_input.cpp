#include "cli/spec_input.hpp"

#include <CLI/CLI.hpp>
#include <fstream>
#include <iterator>
#include <random>

#include "common/domain/spec.hpp"

namespace rackmark::cli {
namespace {

constexpr std::size_t kMaxSpecBytes = 1 << 20;

Json read_spec(Context& context, const std::string& file) {
  std::ifstream stream;
  if (file != "-") {
    stream.open(file, std::ios::binary);
    if (!stream) throw BadUsage(file + ": cannot be read");
  }
  std::istream& in = file == "-" ? context.in : stream;
  std::string text(kMaxSpecBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxSpecBytes) throw BadUsage(file + ": more than 1 MiB is no job spec");
  auto parsed = json::parse(text);
  if (!parsed) throw BadUsage(file + ": " + parsed.error().message);
  if (!parsed->is_object()) throw BadUsage(file + ": a job spec is a JSON object");
  return std::move(*parsed);
}

// Whether an agent has a GPU decides the device of a tf line that names none.
std::optional<bool> any_gpu(Context& context) {
  const auto agents = context.take(context.client().call(protocol::kListAgents));
  if (!agents) return std::nullopt;
  return std::any_of(agents->items.begin(), agents->items.end(),
                     [](const auto& agent) { return !agent.inventory.gpus.empty(); });
}

}  // namespace

std::optional<Json> make_spec(Context& context, const SpecInput& input) {
  Json spec = Json::object();
  if (!input.file.empty()) spec = read_spec(context, input.file);
  if (!input.tf.empty()) {
    // Read once without asking, so that a wrong flag is told also without a controller.
    auto translated = spec_from_tf_flags(input.tf, false);
    if (translated && input.tf.find("-device") == std::string::npos) {
      const auto gpu = any_gpu(context);
      if (!gpu) return std::nullopt;
      translated = spec_from_tf_flags(input.tf, *gpu);
    }
    if (!translated) {
      context.fail(translated.error());
      return std::nullopt;
    }
    spec = std::move(*translated);
  }
  apply_spec_options(input.fields, spec);
  return spec;
}

void add_spec_input(CLI::App& command, SpecInput& input) {
  auto* file =
      command.add_option("-f,--file", input.file, "Job spec as JSON; - reads standard input")
          ->type_name("FILE");
  command.add_option("--tf", input.tf, "tf_cnn_benchmarks' flag line")
      ->type_name("FLAGS")
      ->excludes(file);
  add_spec_options(command, input.fields);
}

std::string random_key() {
  std::random_device device;
  std::string key;
  for (int i = 0; i < 32; ++i) key += "0123456789abcdef"[device() & 15];
  return key;
}

}  // namespace rackmark::cli
