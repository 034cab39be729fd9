#include "mvcc/kv/view.h"

#include "base/check.h"

namespace cairn::mvcc {

namespace {

std::unexpected<Error> no_record(Revision revision) {
  return fail(Code::kDataLoss, "mvcc: no record at revision {}.{}", revision.main, revision.sub);
}

}  // namespace

Result<std::string_view> RecordView::record(Revision revision) const {
  if (revision.main <= file_revision) {
    char key[storage::kRevisionKeyBytes];
    storage::encode_revision(revision, key);
    CAIRN_TRY(const auto found, file->get(storage::Table::kKey, {key, sizeof key}));
    if (found) return *found;
  } else {
    if (const auto found = live.find(revision)) return *found;
    if (const auto found = frozen.find(revision)) return *found;
  }
  return no_record(revision);
}

bool RecordView::resident(Revision revision) const {
  if (revision.main > file_revision) return true;
  char key[storage::kRevisionKeyBytes];
  storage::encode_revision(revision, key);
  return file->resident(storage::Table::kKey, {key, sizeof key});
}

Status RecordView::many(std::span<const Revision> revisions, std::span<std::string_view> records) const {
  CAIRN_ASSERT(revisions.size() == records.size() && revisions.size() <= kManyMax);
  char bytes[kManyMax][storage::kRevisionKeyBytes];
  std::string_view keys[kManyMax];
  size_t places[kManyMax];
  size_t in_file = 0;
  for (size_t i = 0; i < revisions.size(); ++i) {
    if (revisions[i].main > file_revision) {
      CAIRN_TRY(records[i], record(revisions[i]));
      continue;
    }
    storage::encode_revision(revisions[i], bytes[in_file]);
    keys[in_file] = {bytes[in_file], storage::kRevisionKeyBytes};
    places[in_file++] = i;
  }
  if (in_file == 0) return {};
  std::optional<std::string_view> found[kManyMax];
  CAIRN_CHECK(file->get_many(storage::Table::kKey, {keys, in_file}, {found, in_file}));
  for (size_t i = 0; i < in_file; ++i) {
    if (!found[i]) return no_record(revisions[places[i]]);
    records[places[i]] = *found[i];
  }
  return {};
}

}  // namespace cairn::mvcc
