#include <ctype.h>
#include <stdio.h>

/* Turns standard input into capitals. */
int main(void) {
    int c;
    while ((c = getchar()) != EOF) putchar(toupper(c));
    return 0;
}
