#define RACKMARK_KERNEL_TABLE baseline_table
#define RACKMARK_KERNEL_ISA "baseline"
#include "worker/backend/onednn/kernels/kernels_body.inc"
