// The 32nd Fibonacci number, by calls.
#include "kernel.h"

static u64 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

void _start(void) { RESULT = fib(32); }
