#include "storage/bolt/format.h"

#include "base/crc32c.h"

namespace cairn::storage::bolt {
namespace {

constexpr uint32_t kMagic = 0xED0CDAED;
constexpr uint32_t kVersion = 2;
constexpr size_t kChecksummedBytes = 56;
constexpr uint64_t kSealMagic = 0x4c4145534e524943;  // "CIRNSEAL"
constexpr size_t kSealedBytes = kMetaBytes + kMetaSealBytes;
constexpr size_t kSealCrcAt = kSealedBytes - 4;

bool is_page_size(uint32_t bytes) {
  return bytes >= kPageBytesMin && bytes <= kPageBytesMax && (bytes & (bytes - 1)) == 0;
}

// The meta at byte `offset`; nullopt also when the file ends before it.
Result<std::optional<Meta>> read_meta(const env::File& file, uint64_t offset) {
  char bytes[kHeaderBytes + kMetaBytes];
  CAIRN_TRY(const size_t got, file.pread(bytes, sizeof bytes, offset));
  if (got < sizeof bytes) return std::optional<Meta>{};
  return decode_meta({bytes + kHeaderBytes, kMetaBytes});
}

Result<Lineage> read_seal(const env::File& file, uint64_t offset) {
  std::string bytes(kSealedBytes, '\0');
  CAIRN_TRY(const size_t got, file.pread(bytes.data(), bytes.size(), offset + kHeaderBytes));
  return got < bytes.size() ? Lineage{} : decode_seal(bytes);
}

}  // namespace

void store_header(char* at, const PageHeader& header) {
  store_le(at, header.id);
  store_le(at + 8, header.flags);
  store_le(at + 10, header.count);
  store_le(at + 12, header.overflow);
}

uint64_t fnv1a(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : bytes) {
    hash ^= static_cast<unsigned char>(byte);
    hash *= 0x100000001b3;
  }
  return hash;
}

std::optional<Meta> decode_meta(std::string_view body) {
  if (body.size() < kMetaBytes) return {};
  const char* at = body.data();
  if (load_le<uint32_t>(at) != kMagic || load_le<uint32_t>(at + 4) != kVersion) return {};
  if (load_le<uint64_t>(at + 56) != fnv1a(body.substr(0, kChecksummedBytes))) return {};
  const Meta meta{
      .page_bytes = load_le<uint32_t>(at + 8),
      .flags = load_le<uint32_t>(at + 12),
      .root = load_le<uint64_t>(at + 16),
      .sequence = load_le<uint64_t>(at + 24),
      .freelist = load_le<uint64_t>(at + 32),
      .high_water = load_le<uint64_t>(at + 40),
      .txid = load_le<uint64_t>(at + 48),
  };
  if (!is_page_size(meta.page_bytes)) return {};
  if (meta.root < kFirstPage || meta.root >= meta.high_water) return {};
  if (meta.freelist != kNoFreelist && (meta.freelist < kFirstPage || meta.freelist >= meta.high_water)) return {};
  return meta;
}

void encode_meta(const Meta& meta, char* body) {
  store_le(body, kMagic);
  store_le(body + 4, kVersion);
  store_le(body + 8, meta.page_bytes);
  store_le(body + 12, meta.flags);
  store_le(body + 16, meta.root);
  store_le(body + 24, meta.sequence);
  store_le(body + 32, meta.freelist);
  store_le(body + 40, meta.high_water);
  store_le(body + 48, meta.txid);
  store_le(body + 56, fnv1a({body, kChecksummedBytes}));
}

std::string meta_page(const Meta& meta, uint64_t id, size_t size, const Lineage& lineage) {
  std::string page(size, '\0');
  store_header(page.data(), {.id = id, .flags = kMetaFlag, .count = 0, .overflow = 0});
  char* const body = page.data() + kHeaderBytes;
  encode_meta(meta, body);
  if (lineage.opening == 0) return page;
  char* const seal = body + kMetaBytes;
  store_le(seal, kSealMagic);
  store_le(seal + 8, lineage.opening);
  store_le(seal + 16, lineage.ancestor.opening);
  store_le(seal + 24, lineage.ancestor.txid);
  store_le(body + kSealCrcAt, crc32c(0, {body, kSealCrcAt}));
  return page;
}

Lineage decode_seal(std::string_view sealed) {
  if (sealed.size() < kSealedBytes) return {};
  const char* const seal = sealed.data() + kMetaBytes;
  if (load_le<uint64_t>(seal) != kSealMagic) return {};
  if (load_le<uint32_t>(sealed.data() + kSealCrcAt) != crc32c(0, sealed.substr(0, kSealCrcAt))) return {};
  return {.opening = load_le<uint64_t>(seal + 8),
          .ancestor = {.opening = load_le<uint64_t>(seal + 16), .txid = load_le<uint64_t>(seal + 24)}};
}

Result<MetaPair> read_metas(const env::File& file, const std::string& path) {
  MetaPair metas;
  CAIRN_TRY(metas.page[0], read_meta(file, 0));
  if (metas.page[0]) {
    CAIRN_TRY(metas.page[1], read_meta(file, metas.page[0]->page_bytes));
  } else {
    for (uint32_t bytes = kPageBytesMin; bytes <= kPageBytesMax && !metas.page[1]; bytes *= 2) {
      CAIRN_TRY(metas.page[1], read_meta(file, bytes));
      if (metas.page[1] && metas.page[1]->page_bytes != bytes) metas.page[1].reset();
    }
  }
  // One file has one page size; a second meta that disagrees is not this file's.
  if (metas.page[0] && metas.page[1] && metas.page[0]->page_bytes != metas.page[1]->page_bytes) metas.page[1].reset();
  if (!metas.page[0] && !metas.page[1]) return fail(Code::kDataLoss, "bolt: {}: both meta pages are invalid", path);
  if (!metas.page[0]) {
    metas.newest = 1;
  } else if (metas.page[1] && metas.page[1]->txid > metas.page[0]->txid) {
    metas.newest = 1;
  }
  const Meta& meta = metas.meta();
  CAIRN_TRY(metas.lineage, read_seal(file, static_cast<uint64_t>(metas.newest) * meta.page_bytes));
  CAIRN_TRY(const uint64_t size, file.size());
  if (meta.high_water > size / meta.page_bytes) {
    return fail(Code::kDataLoss, "bolt: {}: file of {} bytes is shorter than its {} pages of {}", path, size,
                meta.high_water, meta.page_bytes);
  }
  return metas;
}

}  // namespace cairn::storage::bolt
