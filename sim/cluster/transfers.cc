#include "sim/cluster/transfers.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace cairn::sim {
namespace {

constexpr uint64_t kSlower = 100;
constexpr uint64_t kStillNsMax = 5'000'000'000;  // until a connection that says nothing counts as dead

}  // namespace

Transfers::Transfer* Transfers::find(uint64_t number) {
  const auto at = std::ranges::find_if(transfers_, [&](const auto& one) { return one->number == number; });
  return at == transfers_.end() ? nullptr : at->get();
}

void Transfers::send(size_t from, size_t to, const raft::Message& message, raft::Message travelling) {
  coverage_.hit("snapshots sent");
  if (std::ranges::any_of(transfers_, [&](const auto& one) { return one->to == to; })) {
    coverage_.hit("snapshots sent during another one");
  }
  auto source = storage::open_image(std::static_pointer_cast<const storage::View>(message.snapshot->source));
  CAIRN_ASSERT(source);
  auto transfer = std::make_unique<Transfer>();
  transfer->number = ++last_number_;
  transfer->from = from;
  transfer->to = to;
  transfer->source = *std::move(source);
  transfer->message = std::move(travelling);
  transfer->is_slow = options_.slow_one_in > 0 && chance_.one_in(options_.slow_one_in);
  if (options_.broken_one_in > 0 && chance_.one_in(options_.broken_one_in)) {
    const uint64_t pieces = transfer->source->size() / options_.piece_bytes + 1;
    transfer->pieces_until_break = chance_.below(pieces + 1);
  }
  if (options_.given_up_one_in > 0 && chance_.one_in(options_.given_up_one_in)) {
    schedule_.after(static_cast<int64_t>(chance_.below(200'000'000)), [this, number = transfer->number] {
      Transfer* const one = find(number);
      if (one == nullptr || one->is_told) return;
      coverage_.hit("snapshots given up by who sends them");
      tell(*one, false, 0);
    });
  }
  plan_piece(*transfer);
  transfers_.push_back(std::move(transfer));
}

void Transfers::plan_piece(const Transfer& transfer) {
  const auto mean = static_cast<uint64_t>(options_.piece_mean_ns) * (transfer.is_slow ? kSlower : 1);
  schedule_.after(static_cast<int64_t>(chance_.below(mean * 2 + 1)),
                  [this, number = transfer.number] { piece(number); });
}

void Transfers::piece(uint64_t number) {
  Transfer* const one = find(number);
  if (one == nullptr) return;
  if (one->pieces_until_break-- == 0) {
    coverage_.hit("snapshots broken on their way");
    return end(number, false, static_cast<int64_t>(chance_.below(1'000'000)));
  }
  if (!host_.is_open(one->from, one->to)) {
    coverage_.hit("snapshots into a cut path");
    return end(number, false, static_cast<int64_t>(chance_.below(kStillNsMax)));
  }
  const size_t before = one->bytes.size();
  one->bytes.resize(before + options_.piece_bytes);
  const auto got = one->source->read(one->bytes.data() + before, options_.piece_bytes);
  CAIRN_ASSERT(got);
  one->bytes.resize(before + *got);
  if (*got > 0) return plan_piece(*one);
  one->source.reset();
  host_.on_image(one->to, one->message, std::exchange(one->bytes, {}), number);
}

void Transfers::done(uint64_t transfer, bool is_written) {
  Transfer* const one = find(transfer);
  if (one == nullptr) return;
  if (is_written) coverage_.hit("snapshots delivered");
  if (is_written && !host_.is_open(one->to, one->from)) {
    coverage_.hit("snapshots whose answer is lost");
    return end(transfer, false, static_cast<int64_t>(chance_.below(kStillNsMax)));
  }
  end(transfer, is_written, static_cast<int64_t>(chance_.below(3'000'000)));
}

void Transfers::end(uint64_t number, bool is_delivered, int64_t told_after_ns) {
  tell(*find(number), is_delivered, told_after_ns);
  std::erase_if(transfers_, [&](const auto& one) { return one->number == number; });
}

void Transfers::tell(Transfer& transfer, bool is_delivered, int64_t after_ns) {
  if (std::exchange(transfer.is_told, true)) return;
  schedule_.after(after_ns,
                  [this, from = transfer.from, to = transfer.to, is_delivered, process = processes_[transfer.from]] {
                    if (process == processes_[from]) host_.on_outcome(from, to, is_delivered);
                  });
}

void Transfers::forget(size_t member) {
  ++processes_[member];
  for (size_t i = 0; i < transfers_.size();) {
    Transfer& one = *transfers_[i];
    if (one.from == member) {
      one.is_told = true;
      if (one.source == nullptr) {  // all of it is there
        ++i;
        continue;
      }
      coverage_.hit("snapshots whose sender dies");
    } else if (one.to == member) {
      coverage_.hit("snapshots whose receiver dies");
      tell(one, false, static_cast<int64_t>(chance_.below(kStillNsMax)));
    } else {
      ++i;
      continue;
    }
    transfers_.erase(transfers_.begin() + static_cast<ptrdiff_t>(i));
  }
}

}  // namespace cairn::sim
