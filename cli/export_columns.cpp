#include "cli/export_columns.hpp"

#include <array>

#include "common/json/described.hpp"

namespace rackmark::cli {
namespace {

using protocol::ResultView;

struct ExportColumn {
  const char* name;
  Json (*value)(const ResultView&);
};

template <class T>
Json plain(const T& value) {
  return json::encode(value);
}

Json in_one_cell(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : "; ") + text;
  return all;
}

#define MEMBER(name, member)                                   \
  ExportColumn {                                               \
#name, [](const ResultView& r) { return plain(r.member); } \
  }

// Empty in other modes, and where it was not measured.
#define INFERENCE(name, part, member)                                   \
  ExportColumn {                                                        \
#name, [](const ResultView& r) {                                      \
      return r.inference && r.inference->part                          \
                 ? plain(r.inference->part->member)                    \
                 : Json();                                             \
    } \
  }

const auto kColumns = std::to_array<ExportColumn>({
    MEMBER(result_id, id),
    MEMBER(job_id, job_id),
    MEMBER(run_id, run_id),
    MEMBER(job_name, job_name),
    MEMBER(agent, agent),
    MEMBER(device_class, device_class),
    MEMBER(created_at, created_at),
    MEMBER(model, model),
    MEMBER(mode, mode),
    MEMBER(precision, precision),
    MEMBER(device, device),
    MEMBER(variable_update, variable_update),
    MEMBER(exchange, exchange),
    MEMBER(input_kind, input_kind),
    MEMBER(backend, backend),
    MEMBER(batch_size_images, batch_size),
    MEMBER(image_size_pixels, image_size),
    MEMBER(ranks, ranks),
    MEMBER(threads_per_worker, threads_per_worker),
    MEMBER(repetition, repetition),
    MEMBER(attempt, attempt),
    MEMBER(images, images),
    MEMBER(steps, steps),
    MEMBER(images_per_second, images_per_second),
    MEMBER(window_s, window_s),
    MEMBER(step_mean_ms, step.mean_ms),
    MEMBER(step_median_ms, step.median_ms),
    MEMBER(step_p90_ms, step.p90_ms),
    MEMBER(step_p95_ms, step.p95_ms),
    MEMBER(step_p99_ms, step.p99_ms),
    MEMBER(step_min_ms, step.min_ms),
    MEMBER(step_max_ms, step.max_ms),
    MEMBER(step_standard_error_ms, step.standard_error_ms),
    MEMBER(step_jitter_ms, step.jitter_ms),
    MEMBER(step_variation_fraction, step.variation),
    MEMBER(step_drift_fraction, step.drift),
    MEMBER(verdict, validity.verdict),
    ExportColumn{"verdict_causes",
                 [](const ResultView& r) { return in_one_cell(r.validity.causes); }},
    ExportColumn{"verdict_not_checked",
                 [](const ResultView& r) { return in_one_cell(r.validity.not_checked); }},
    INFERENCE(latency_mean_ms, latency, mean_ms),
    INFERENCE(latency_p50_ms, latency, p50_ms),
    INFERENCE(latency_p90_ms, latency, p90_ms),
    INFERENCE(latency_p95_ms, latency, p95_ms),
    INFERENCE(latency_p99_ms, latency, p99_ms),
    INFERENCE(latency_max_ms, latency, max_ms),
    INFERENCE(agreement_top1_fraction, agreement, top1),
    INFERENCE(agreement_cosine, agreement, cosine),
    MEMBER(first_loss, first_loss),
    MEMBER(final_loss, final_loss),
    MEMBER(mfu_fraction, mfu),
    MEMBER(matrix_peak_gflops, matrix_peak_gflops),
    MEMBER(convolution_bound_share_fraction, convolution_bound_share),
    MEMBER(setup_s, setup_s),
    MEMBER(peak_rss_bytes, peak_rss_bytes),
    MEMBER(peak_gpu_memory_bytes, peak_gpu_memory_bytes),
    MEMBER(power_w, power_w),
    MEMBER(joules_per_image, joules_per_image),
    MEMBER(images_per_second_per_watt, images_per_second_per_watt),
    MEMBER(pictures_broken, pictures_broken),
    MEMBER(pictures_left_to_cpu, pictures_left_to_cpu),
    MEMBER(fingerprint, fingerprint),
});
#undef INFERENCE
#undef MEMBER

std::string cell(const Json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

std::vector<std::string> export_header() {
  std::vector<std::string> names;
  for (const auto& column : kColumns) names.emplace_back(column.name);
  return names;
}

std::vector<std::string> export_row(const ResultView& result) {
  std::vector<std::string> cells;
  for (const auto& column : kColumns) cells.push_back(cell(column.value(result)));
  return cells;
}

}  // namespace rackmark::cli
