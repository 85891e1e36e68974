#include "controller/store/results.hpp"

#include "common/clock.hpp"

namespace rackmark::store {

namespace {

const std::string kMeasured =
    "run_id, job_id, agent_id, job_name, agent, device_class, fingerprint, created_us, model, "
    "mode, precision, device, variable_update, input_kind, backend, batch_size, image_size, "
    "ranks, threads_per_worker, repetition, attempt, images, steps, images_per_second, window_s, "
    "step, verdict, causes, first_loss, final_loss, mfu, setup_s, peak_rss_bytes, power_w, "
    "joules_per_image, images_per_second_per_watt, pictures_broken, broken_pictures, rank_times, "
    "inference, environment, matrix_peak_gflops, convolution_bound_share, batch_search, "
    "all_reduce_times, peak_gpu_memory_bytes, exchange, not_checked, pictures_left_to_cpu";
const std::string kResultColumns = "id, " + kMeasured;

protocol::ResultView read_result(Query& q) {
  protocol::ResultView r;
  std::int64_t created_us = 0;
  q.read(r.id, r.run_id, r.job_id, r.agent_id, r.job_name, r.agent, r.device_class, r.fingerprint,
         created_us, r.model, r.mode, r.precision, r.device, r.variable_update, r.input_kind,
         r.backend, r.batch_size, r.image_size, r.ranks, r.threads_per_worker, r.repetition,
         r.attempt, r.images, r.steps, r.images_per_second, r.window_s, r.step, r.validity.verdict,
         r.validity.causes, r.first_loss, r.final_loss, r.mfu, r.setup_s, r.peak_rss_bytes,
         r.power_w, r.joules_per_image, r.images_per_second_per_watt, r.pictures_broken,
         r.broken_pictures, r.rank_times, r.inference, r.environment, r.matrix_peak_gflops,
         r.convolution_bound_share, r.batch_search, r.all_reduce_times, r.peak_gpu_memory_bytes,
         r.exchange, r.validity.not_checked, r.pictures_left_to_cpu);
  r.created_at = rfc3339(created_us);
  return r;
}

std::vector<protocol::ResultView> read_results(Query&& q) {
  std::vector<protocol::ResultView> rows;
  while (q.step()) rows.push_back(read_result(q));
  return rows;
}

}  // namespace

const std::string kInsertResult =
    "INSERT INTO results (" + kMeasured +
    ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
    "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

std::int64_t insert_result(Transaction& tx, const protocol::ResultView& r) {
  Query(tx.db(), kInsertResult, r.run_id, r.job_id, r.agent_id, r.job_name, r.agent, r.device_class,
        r.fingerprint, tx.now_us(), r.model, r.mode, r.precision, r.device, r.variable_update,
        r.input_kind, r.backend, r.batch_size, r.image_size, r.ranks, r.threads_per_worker,
        r.repetition, r.attempt, r.images, r.steps, r.images_per_second, r.window_s, r.step,
        r.validity.verdict, r.validity.causes, r.first_loss, r.final_loss, r.mfu, r.setup_s,
        r.peak_rss_bytes, r.power_w, r.joules_per_image, r.images_per_second_per_watt,
        r.pictures_broken, r.broken_pictures, r.rank_times, r.inference, r.environment,
        r.matrix_peak_gflops, r.convolution_bound_share, r.batch_search, r.all_reduce_times,
        r.peak_gpu_memory_bytes, r.exchange, r.validity.not_checked, r.pictures_left_to_cpu)
      .run();
  return tx.db().last_id();
}

const std::string kFindResult = "SELECT " + kResultColumns + " FROM results WHERE run_id = ?";

std::optional<protocol::ResultView> find_result_of_run(Database& db, std::int64_t run_id) {
  Query q(db, kFindResult, run_id);
  if (!q.step()) return std::nullopt;
  return read_result(q);
}

std::vector<protocol::ResultView> list_results(Database& db, const ResultFilter& f,
                                               std::int64_t limit) {
  std::string where = "WHERE 1";
  const auto also = [&where](bool given, const char* condition) {
    if (given) where += std::string(" AND ") + condition;
  };
  also(f.model.has_value(), "model = ?");
  also(f.mode.has_value(), "mode = ?");
  also(f.precision.has_value(), "precision = ?");
  also(f.device_class.has_value(), "device_class = ?");
  also(f.agent.has_value(), "agent = ?");
  also(f.fingerprint.has_value(), "fingerprint = ?");
  also(f.input_kind.has_value(), "input_kind = ?");
  also(f.batch_size.has_value(), "batch_size = ?");
  also(f.job_id.has_value(), "job_id = ?");
  also(f.since_us.has_value(), "created_us >= ?");
  also(f.until_us.has_value(), "created_us < ?");
  also(f.before_id.has_value(), "id < ?");
  Query q(db, "SELECT " + kResultColumns + " FROM results " + where + " ORDER BY id DESC LIMIT ?");
  for (const auto* text : {&f.model, &f.mode, &f.precision, &f.device_class, &f.agent,
                           &f.fingerprint, &f.input_kind}) {
    if (*text) q.bind(**text);
  }
  for (const auto* number : {&f.batch_size, &f.job_id, &f.since_us, &f.until_us, &f.before_id}) {
    if (*number) q.bind(**number);
  }
  q.bind(limit);
  return read_results(std::move(q));
}

const std::string kListOfJob =
    "SELECT " + kResultColumns + " FROM results WHERE job_id = ? ORDER BY id";

std::vector<protocol::ResultView> list_results_of_job(Database& db, std::int64_t job_id) {
  return read_results(Query(db, kListOfJob, job_id));
}

constexpr const char* kCountResults = "SELECT count(*) FROM results";

std::int64_t count_results(Database& db) {
  Query q(db, kCountResults);
  std::int64_t count = 0;
  if (q.step()) q.read(count);
  return count;
}

}  // namespace rackmark::store
