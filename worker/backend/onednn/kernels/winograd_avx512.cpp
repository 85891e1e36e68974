#define RACKMARK_WINOGRAD_TABLE avx512_winograd
#define RACKMARK_WINOGRAD_NAME "rackmark:avx512_winograd"
#define RACKMARK_WINOGRAD_BLOCK 16
#define RACKMARK_WINOGRAD_ROWS 12
#include "worker/backend/onednn/kernels/winograd_body.inc"
