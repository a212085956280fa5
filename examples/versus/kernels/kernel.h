// What all kernels share: the address of their 64-bit result.
typedef unsigned int u32;
typedef unsigned long long u64;
#define RESULT (*(volatile u64 *)8)
