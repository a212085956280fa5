// Quicksort (Hoare's partition) of 400 000 words, then a digest that depends on their order.
#include "kernel.h"

#define WORDS 400000
static u32 words[WORDS];

static void sort(u32 *low, u32 *high) {
    if (low >= high) return;
    u32 pivot = low[(high - low) / 2];
    u32 *i = low - 1, *j = high + 1;
    for (;;) {
        do i++; while (*i < pivot);
        do j--; while (*j > pivot);
        if (i >= j) break;
        u32 left = *i;
        *i = *j;
        *j = left;
    }
    sort(low, j);
    sort(j + 1, high);
}

void _start(void) {
    u32 word = 12345;
    for (u32 i = 0; i < WORDS; i++) words[i] = word = word * 1664525 + 1013904223;
    sort(words, words + WORDS - 1);
    u64 digest = 0;
    for (u32 i = 0; i < WORDS; i++) digest = digest * 31 + words[i];
    RESULT = digest;
}
