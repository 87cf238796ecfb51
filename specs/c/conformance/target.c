/* Reads requests, one a line, and answers each with one line. */
#include "target.h"

#include <stdio.h>
#include <string.h>

static smt_status answer(const char *kind, char **words, size_t count)
{
    if (strcmp(kind, "hello") == 0) {
        printf(" ok 1 smtunnel-c kinds=%s", kinds);
        print_dictionaries();
        return SMT_OK;
    }
    if (strcmp(kind, "labels-join") == 0 && count <= SMT_MAX_LABELS + 1u) {
        return labels_join(words, count);
    }
    if (strcmp(kind, "control-build") == 0) {
        return control_build(words, count);
    }
    if (strcmp(kind, "receive") == 0 && (count == 4u || count == 5u)) {
        return receive(words, count);
    }
    static const struct {
        const char *kind;
        size_t words;
        smt_status (*answer)(char **words);
    } requests[] = {
        {"header-unpack", 1u, header_unpack}, {"header-pack", 6u, header_pack},
        {"payload-parse", 2u, payload_parse}, {"labels-split", 1u, labels_split},
        {"cut", 5u, cut},                     {"encode", 6u, encode},
        {"decode", 3u, decode},               {"fragment", 1u, fragment},
        {"control-parse", 1u, control_parse}, {"session", 8u, session},
        {"time", 1u, time_passes},            {"restart", 0u, restart},
    };
    for (size_t place = 0u; place < sizeof(requests) / sizeof(requests[0]); place++) {
        if (strcmp(kind, requests[place].kind) == 0 && count == requests[place].words) {
            return requests[place].answer(words);
        }
    }
    return SMT_LOCAL_ERROR;
}

/* The arguments are files of preset dictionaries. */
int main(int argc, char **argv)
{
    static char line[MAX_LINE + 2];

    for (int place = 1; place < argc; place++) {
        if (!load_dictionary(argv[place])) {
            fprintf(stderr, "%s: not a dictionary\n", argv[place]);
            return 2;
        }
    }

    while (fgets(line, (int)sizeof(line), stdin) != NULL) {
        char *words[MAX_WORDS + 2];
        size_t count = 0u;
        char *word = strtok(line, " \r\n");
        smt_status status;
        while (word != NULL && count < MAX_WORDS + 2u) {
            words[count++] = word;
            word = strtok(NULL, " \r\n");
        }
        if (count == 0u) {
            continue;
        }
        printf("%s", words[0]);
        status = count > 1u ? answer(words[1], &words[2], count - 2u) : SMT_LOCAL_ERROR;
        if (status != SMT_OK) {
            printf(" error %s", error_name(status));
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
