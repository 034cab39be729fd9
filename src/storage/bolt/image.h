// storage/bolt/image.h: a snapshot of one view: a bbolt file of high-water mark x page size bytes.
//
// Both metas are made anew (page 0 with the view's txid, page 1 with the one before; same root, no free list), pages
// that the view reaches are copied as they are, all others are zeros.
//
// Threads:  used by one thread at a time, any; the view must stay registered meanwhile.
#pragma once

#include <memory>

#include "storage/bolt/reader.h"

namespace cairn::storage::bolt {

//   errors: kDataLoss
[[nodiscard]] Result<std::unique_ptr<ImageReader>> open_image(std::shared_ptr<const BoltView> view);

}  // namespace cairn::storage::bolt
