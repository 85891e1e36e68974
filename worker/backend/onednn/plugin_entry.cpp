#include "worker/backend/onednn/onednn_backend.hpp"

extern "C" rackmark::worker::Backend* rackmark_make_backend() {
  return rackmark::worker::make_onednn_backend().release();
}
