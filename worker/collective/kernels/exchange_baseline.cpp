#define RACKMARK_EXCHANGE_TABLE baseline_exchange_table
#define RACKMARK_EXCHANGE_ISA "baseline"
#include "worker/collective/kernels/exchange_kernels.inc"
