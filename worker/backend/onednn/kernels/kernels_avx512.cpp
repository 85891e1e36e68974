#define RACKMARK_KERNEL_TABLE avx512_table
#define RACKMARK_KERNEL_ISA "avx512"
#include "worker/backend/onednn/kernels/kernels_body.inc"
