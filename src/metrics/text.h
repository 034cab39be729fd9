// metrics/text.h: samples in Prometheus' text exposition format 0.0.4, with numbers as Go writes them.
//
// Tools match the text of a histogram's bound (`le="1.048576e+06"`), so etcd's own form is kept.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "metrics/metrics.h"

namespace cairn::metrics {

// The shortest digits that read back as `value`, with an exponent below 1e-4 and from 1e6 on.
[[nodiscard]] std::string number_text(double value);

// The lines HELP and TYPE.
void append_head(std::string& out, std::string_view name, std::string_view help, std::string_view type);

// One line. `bound`: the label `le` of a bucket, which stands last.
void append_sample(std::string& out, std::string_view name, const Labels& labels, std::optional<double> bound,
                   double value);

}  // namespace cairn::metrics
