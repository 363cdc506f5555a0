/* Reads records from the standard input, as they lie in memory, and prints the logits of each as one line. */

#include <stdio.h>

#include "network.h"

int main(void)
{
    static network_record record[NETWORK_RECORD_VALUES];
    static float logits[NETWORK_CLASSES];
    size_t read;

    while ((read = fread(record, sizeof record[0], NETWORK_RECORD_VALUES, stdin)) == NETWORK_RECORD_VALUES) {
        int place;
        network_run(record, logits);
        for (place = 0; place < NETWORK_CLASSES; place++) {
            printf(place ? " %.9g" : "%.9g", (double)logits[place]);
        }
        printf("\n");
    }
    if (read != 0 || ferror(stdin)) {
        fprintf(stderr, "expected records of %u values; the last one has %u\n", (unsigned)NETWORK_RECORD_VALUES,
                (unsigned)read);
        return 2;
    }
    return 0;
}
