// A snapshot of one view: a bbolt file of high-water mark x page size bytes.
//
// Both metas are made anew (page 0 with the view's txid, page 1 with the one before; same root, no free list), pages
// that the view reaches are copied as they are, all others are zeros.
//
// Threads:  used by one thread at a time, any; the view must stay registered meanwhile.
#include <algorithm>
#include <cstring>

#include "storage/bolt/reader.h"
#include "storage/bolt/walk.h"

namespace cairn::storage::bolt {
namespace {

class BoltImage final : public ImageReader {
 public:
  BoltImage(std::shared_ptr<const BoltView> view, PageBitmap heads) : view_(std::move(view)), heads_(std::move(heads)) {
    Meta meta = view_->meta();
    meta.freelist = kNoFreelist;
    meta.txid = std::max<uint64_t>(meta.txid, 1);
    metas_ = meta_page(meta, 0, meta.page_bytes);
    --meta.txid;
    metas_ += meta_page(meta, 1, meta.page_bytes);
  }

  uint64_t size() const override { return view_->meta().high_water * view_->meta().page_bytes; }

  Result<size_t> read(char* to, size_t size) override {
    size_t done = 0;
    while (done < size && at_ < this->size()) {
      const uint32_t page_bytes = view_->meta().page_bytes;
      const uint64_t id = at_ / page_bytes;
      const uint64_t within = at_ % page_bytes;
      if (within == 0) CAIRN_CHECK(enter(id));
      const size_t count = std::min<uint64_t>(size - done, page_bytes - within);
      if (from_ == nullptr) {
        std::memset(to + done, 0, count);
      } else {
        std::memcpy(to + done, from_ + within, count);
      }
      done += count;
      at_ += count;
    }
    return done;
  }

 private:
  // Decides where the bytes of page `id` come from; null means zeros.
  Status enter(uint64_t id) {
    const PageSource& pages = view_->pages();
    if (id < kFirstPage) {
      from_ = metas_.data() + id * pages.page_bytes;
      return {};
    }
    if (heads_.test(id)) {
      Page page;
      if (const Fault fault = pages.load(id, page)) return damaged(id, "(image)", fault);
      live_end_ = std::max(live_end_, id + page.overflow + 1);
    }
    from_ = id < live_end_ ? pages.base + id * pages.page_bytes : nullptr;
    return {};
  }

  std::shared_ptr<const BoltView> view_;
  PageBitmap heads_;
  std::string metas_;
  uint64_t at_ = 0;
  uint64_t live_end_ = 0;  // pages before it belong to the last head that was met
  const char* from_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<ImageReader>> BoltView::make_image(std::shared_ptr<const View> self) const {
  CAIRN_TRY(PageBitmap heads, reached_heads(*this));
  auto view = std::static_pointer_cast<const BoltView>(std::move(self));
  return std::make_unique<BoltImage>(std::move(view), std::move(heads));
}

}  // namespace cairn::storage::bolt
