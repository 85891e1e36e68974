#define RACKMARK_KERNEL_TABLE avx2_table
#define RACKMARK_KERNEL_ISA "avx2"
#include "worker/backend/onednn/kernels/kernels_body.inc"
