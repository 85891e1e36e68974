#define RACKMARK_WINOGRAD_TABLE avx2_winograd
#define RACKMARK_WINOGRAD_NAME "rackmark:avx2_winograd"
#define RACKMARK_WINOGRAD_BLOCK 8
#define RACKMARK_WINOGRAD_ROWS 6
#include "worker/backend/onednn/kernels/winograd_body.inc"
