#include "mvcc/view.h"

namespace cairn::mvcc {

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
  return fail(Code::kDataLoss, "mvcc: no record at revision {}.{}", revision.main, revision.sub);
}

}  // namespace cairn::mvcc
