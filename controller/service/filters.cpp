#include "controller/service/filters.hpp"

#include <charconv>

#include "common/clock.hpp"
#include "common/domain/spec.hpp"
#include "controller/service/groups.hpp"

namespace rackmark::service {

namespace {

class Checker {
 public:
  void limit(std::int64_t value, std::int64_t maximum, const char* field = "limit") {
    if (value >= 1 && value <= maximum) return;
    add(field, value, "1 to " + std::to_string(maximum));
  }

  std::optional<std::int64_t> time(const char* field, const std::optional<std::string>& text) {
    if (!text) return std::nullopt;
    const auto us = parse_rfc3339(*text);
    if (!us) add(field, *text, "a time such as 2026-11-21T02:03:04Z");
    return us;
  }

  // A cursor is the id of the last item of the page before.
  std::optional<std::int64_t> cursor(const std::optional<std::string>& text) {
    if (!text) return std::nullopt;
    std::int64_t id = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), id);
    if (error != std::errc() || end != text->data() + text->size() || id < 1) {
      add("cursor", *text, "next_cursor of the page before");
      return std::nullopt;
    }
    return id;
  }

  template <class E>
  void one_of(const char* field, const std::optional<std::string>& text) {
    if (!text || json::enum_from<E>(*text)) return;
    add(field, *text, "one of " + json::joined(json::enum_names<E>()));
  }

  void model(const std::optional<std::string>& name) {
    if (!name) return;
    std::vector<std::string> names;
    for (const ModelFacts& facts : model_facts()) {
      if (facts.name == *name) return;
      names.push_back(facts.name);
    }
    add("model", *name, "one of " + json::joined(names));
  }

  void add(const std::string& field, nlohmann::json value, std::string allowed) {
    const std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
    std::string detail = field + " is '" + shown + "', allowed is " + allowed;
    problems_.push_back({field, std::move(value), std::move(allowed), std::move(detail)});
  }

  std::optional<Error> error() {
    if (problems_.empty()) return std::nullopt;
    std::string message = problems_.front().detail;
    return Error{ErrorCode::kInvalid, std::move(message), std::move(problems_)};
  }

 private:
  std::vector<FieldProblem> problems_;
};

}  // namespace

Result<store::JobFilter> job_filter(const protocol::JobQuery& q) {
  Checker check;
  store::JobFilter f;
  if (q.state) {
    f.active = *q.state == "active";
    f.state = json::enum_from<JobState>(*q.state);
    if (!f.active && !f.state) {
      check.add("state", *q.state, "one of active, " + json::joined(json::enum_names<JobState>()));
    }
  }
  check.model(q.model);
  check.one_of<Mode>("mode", q.mode);
  check.one_of<Precision>("precision", q.precision);
  check.limit(q.limit, 500);
  if (q.label) {
    const auto split = q.label->find('=');
    if (split == std::string::npos || split == 0) {
      check.add("label", *q.label, "key=value");
    } else {
      f.label = {q.label->substr(0, split), q.label->substr(split + 1)};
    }
  }
  f.model = q.model;
  f.mode = q.mode;
  f.precision = q.precision;
  f.device_class = q.device_class;
  f.agent = q.agent;
  f.name_part = q.name;
  f.since_us = check.time("since", q.since);
  f.until_us = check.time("until", q.until);
  f.before_id = check.cursor(q.cursor);
  if (auto error = check.error()) return *error;
  return f;
}

Result<store::ResultFilter> result_filter(const protocol::ResultQuery& q) {
  Checker check;
  store::ResultFilter f;
  check.model(q.model);
  check.one_of<Mode>("mode", q.mode);
  check.one_of<Precision>("precision", q.precision);
  check.one_of<InputKind>("input_kind", q.input_kind);
  check.limit(q.limit, 1000);
  f.model = q.model;
  f.mode = q.mode;
  f.precision = q.precision;
  f.device_class = q.device_class;
  f.agent = q.agent;
  f.fingerprint = q.fingerprint;
  f.input_kind = q.input_kind;
  f.batch_size = q.batch_size;
  f.job_id = q.job;
  f.since_us = check.time("since", q.since);
  f.until_us = check.time("until", q.until);
  f.before_id = check.cursor(q.cursor);
  if (auto error = check.error()) return *error;
  return f;
}

Result<store::GroupFilter> group_filter(const protocol::GroupQuery& q) {
  Checker check;
  check.limit(q.limit, 500);
  if (q.kind && *q.kind != kScaleKind) check.add("kind", *q.kind, kScaleKind);
  store::GroupFilter out;
  out.kind = q.kind;
  out.before_id = check.cursor(q.cursor);
  out.limit = q.limit;
  if (auto error = check.error()) return *error;
  return out;
}

Result<void> check(const protocol::StepsQuery& q) {
  Checker check;
  check.limit(q.limit, 100'000);
  if (q.from && *q.from < 0) check.add("from", *q.from, "0 or more");
  if (auto error = check.error()) return *error;
  return {};
}

Result<void> check(const protocol::LogQuery& q) {
  Checker check;
  check.limit(q.limit, 10'000);
  if (q.after < 0) check.add("after", q.after, "0 or more");
  if (q.tail) check.limit(*q.tail, 10'000, "tail");
  if (auto error = check.error()) return *error;
  return {};
}

}  // namespace rackmark::service
