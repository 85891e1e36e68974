#define RACKMARK_EXCHANGE_TABLE avx512_exchange_table
#define RACKMARK_EXCHANGE_ISA "avx512"
#define RACKMARK_EXCHANGE_F16C
#include "worker/collective/kernels/exchange_kernels.inc"
