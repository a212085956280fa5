// Product of two matrices of 240 x 240 floats, rows by columns.
#include "kernel.h"

#define N 240
static float a[N][N], b[N][N], product[N][N];

void _start(void) {
    for (u32 i = 0; i < N * N; i++) {
        a[i / N][i % N] = i & 255;
        b[i / N][i % N] = (i + 77) & 255;
    }
    double total = 0;
    for (u32 row = 0; row < N; row++)
        for (u32 column = 0; column < N; column++) {
            float sum = 0;
            for (u32 k = 0; k < N; k++) sum += a[row][k] * b[k][column];
            product[row][column] = sum;
            total += sum;
        }
    RESULT = (u64)total;
}
