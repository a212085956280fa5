// Keccak-f[1600] (FIPS 202) applied 40 000 times to the zero state.
#include "kernel.h"

static u64 turn(u64 lane, int by) { return by ? lane << by | lane >> (64 - by) : lane; }

static void permute(u64 *a) {
    u32 shift = 1;
    for (int round = 0; round < 24; round++) {
        u64 c[5], b[25];
        for (int x = 0; x < 5; x++) c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
        for (int x = 0; x < 5; x++) {
            u64 d = c[(x + 4) % 5] ^ turn(c[(x + 1) % 5], 1);
            for (int y = 0; y < 25; y += 5) a[x + y] ^= d;
        }
        b[0] = a[0];
        for (int step = 0, x = 1, y = 0; step < 24; step++) {
            int next = (2 * x + 3 * y) % 5;
            b[y + 5 * next] = turn(a[x + 5 * y], (step + 1) * (step + 2) / 2 % 64);
            x = y;
            y = next;
        }
        for (int y = 0; y < 25; y += 5)
            for (int x = 0; x < 5; x++) a[x + y] = b[x + y] ^ (~b[(x + 1) % 5 + y] & b[(x + 2) % 5 + y]);
        for (int bit = 0; bit < 7; bit++) {
            a[0] ^= (u64)(shift & 1) << ((1 << bit) - 1);
            shift = (shift << 1 ^ (shift & 0x80 ? 0x171 : 0)) & 0xff;
        }
    }
}

static u64 a[25];

void _start(void) {
    for (u32 i = 0; i < 40000; i++) permute(a);
    RESULT = a[0];
}
