// Escape times of 256 x 192 points, at most 300 iterations each.
#include "kernel.h"

static u32 escape(double cx, double cy) {
    double x = 0, y = 0, xx = 0, yy = 0;
    u32 i = 0;
    do {
        y = 2 * x * y + cy;
        x = xx - yy + cx;
        xx = x * x;
        yy = y * y;
        i++;
    } while (xx + yy <= 4 && i < 300);
    return i;
}

void _start(void) {
    u64 sum = 0;
    for (u32 row = 0; row < 192; row++)
        for (u32 column = 0; column < 256; column++)
            sum += escape(column / 96.0 - 2, row / 96.0 - 1);
    RESULT = sum;
}
