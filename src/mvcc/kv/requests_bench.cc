// Decoding requests from their bytes, and encoding what is stored and answered.
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/random.h"
#include "base/wire.h"
#include "mvcc/kv/key_value.h"
#include "mvcc/kv/requests.h"

namespace cairn::mvcc {
namespace {

constexpr size_t kRequests = 512;  // of different lengths, so that no branch is learned by heart

std::vector<std::string> requests(size_t value_bytes, bool whole) {
  Random random(1);
  std::vector<std::string> all(kRequests);
  for (std::string& one : all) {
    wire::append_bytes_field(one, 1, std::string(random.between(10, 40), 'k'));
    if (value_bytes > 0) wire::append_bytes_field(one, 2, std::string(random.between(1, 2 * value_bytes), 'v'));
    if (!whole) continue;
    wire::append_varint_field(one, 3, random.below(1'000'000));
    wire::append_varint_field(one, 4, 1);
  }
  return all;
}

template <auto Decode>
void decode(benchmark::State& state, const std::vector<std::string>& all) {
  size_t i = 0;
  for (auto _ : state) {
    const auto decoded = Decode(all[i++ % kRequests]);
    if (!decoded) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(decoded->key.data());
  }
}

void BM_DecodeGet(benchmark::State& state) { decode<decode_range>(state, requests(0, false)); }
BENCHMARK(BM_DecodeGet);
void BM_DecodeRange(benchmark::State& state) { decode<decode_range>(state, requests(30, true)); }
BENCHMARK(BM_DecodeRange);
void BM_DecodePut(benchmark::State& state) { decode<decode_put>(state, requests(256, false)); }
BENCHMARK(BM_DecodePut);
void BM_DecodeWholePut(benchmark::State& state) { decode<decode_put>(state, requests(256, true)); }
BENCHMARK(BM_DecodeWholePut);

// One compare, and a put and a get behind it.
void BM_DecodeTxn(benchmark::State& state) {
  const std::vector<std::string> puts = requests(256, false);
  const std::vector<std::string> gets = requests(0, false);
  std::vector<std::string> all(kRequests);
  for (size_t i = 0; i < kRequests; ++i) {
    std::string compare;
    wire::append_varint_field(compare, 2, 2);
    wire::append_bytes_field(compare, 3, std::string(20, 'k'));
    wire::append_varint_field(compare, 6, 1000 + i);
    std::string put;
    wire::append_bytes_field(put, 2, puts[i]);
    std::string get;
    wire::append_bytes_field(get, 1, gets[i]);
    wire::append_bytes_field(all[i], 1, compare);
    wire::append_bytes_field(all[i], 2, put);
    wire::append_bytes_field(all[i], 3, get);
  }
  TxnRequest decoded;
  std::string anew;
  size_t i = 0;
  for (auto _ : state) {
    if (!decode_txn(all[i++ % kRequests], TxnSource::kClient, decoded, anew)) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(decoded.compare.data());
  }
}
BENCHMARK(BM_DecodeTxn);

void BM_EncodeKeyValue(benchmark::State& state) {
  const std::string value(256, 'v');
  std::string to(512, '\0');
  int64_t revision = 1'000'000;
  for (auto _ : state) {
    ++revision;
    const KeyValue kv{.key = "registry/pods/default/a-pod",
                      .create_revision = revision / 2,
                      .mod_revision = revision,
                      .version = 3,
                      .value = value};
    if (encoded_size(kv) > to.size()) state.SkipWithError("too long");
    benchmark::DoNotOptimize(encode(kv, to.data()));
  }
}
BENCHMARK(BM_EncodeKeyValue);

void BM_DecodeKeyValue(benchmark::State& state) {
  const std::string value(256, 'v');
  const KeyValue kv{.key = "registry/pods/default/a-pod",
                    .create_revision = 500'000,
                    .mod_revision = 1'000'000,
                    .version = 3,
                    .value = value};
  std::string bytes(encoded_size(kv), '\0');
  encode(kv, bytes.data());
  for (auto _ : state) {
    benchmark::DoNotOptimize(bytes.data());
    benchmark::DoNotOptimize(decode_key_value(bytes));
  }
}
BENCHMARK(BM_DecodeKeyValue);

}  // namespace
}  // namespace cairn::mvcc
