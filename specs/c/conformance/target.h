/*
 * A program that answers the conformance requests of ../../vectors/README.md, in parts:
 * words of a line, single messages, control records, sessions, an inflater by zlib.
 */
#ifndef CONFORMANCE_TARGET_H
#define CONFORMANCE_TARGET_H

#include "../smtunnel.h"

#define MAX_LINE 16384
#define MAX_WORDS 300
#define MAX_MESSAGE 65536u
#define MAX_CAPACITY 1062u

typedef unsigned long long wide;

/* ---- zlib_inflater.c ---- */

/* An inflater by zlib; there is one, for one stream at a time. */
extern const smt_inflater zlib_inflater;

/* ---- words.c ---- */

extern const char kinds[];

/* Room for what is compressed or built. */
extern uint8_t scratch[2u * MAX_LINE];

/* How messages are decoded; with the preset dictionaries of load_dictionary. */
smt_decoding decoding_of(size_t message_octets, uint8_t window_bits);

/* Reads a preset dictionary from its file. */
bool load_dictionary(const char *path);

/* Prints the claim of the dictionaries that are loaded. */
void print_dictionaries(void);

const char *error_name(smt_status status);

/* Reads a decimal number of at most most. */
bool read_number(const char *word, wide most, wide *number);

/* Replaces a word's hexadecimal digits by the octets, in place. */
bool read_octets(char *word, uint8_t **octets, size_t *count);

bool read_carrier(const char *word, smt_carrier *carrier);

/* Prints hexadecimal digits, a minus sign for none. */
void print_digits(const uint8_t *octets, size_t count);

/* The same behind a space. */
void print_octets(const uint8_t *octets, size_t count);

/* ---- Requests: each prints the answer's words, or returns a status that is printed ---- */

/* messages.c */
smt_status header_unpack(char **words);
smt_status header_pack(char **words);
smt_status payload_parse(char **words);
smt_status labels_join(char **words, size_t count);
smt_status labels_split(char **words);
smt_status cut(char **words);
smt_status encode(char **words);
smt_status decode(char **words);
smt_status fragment(char **words);

/* records.c */
smt_status control_parse(char **words);
smt_status control_build(char **words, size_t count);
size_t count_records(const uint8_t *octets, size_t count, bool known);

/* sessions.c */
smt_status session(char **words);
smt_status receive(char **words, size_t count);
smt_status time_passes(char **words);
smt_status restart(char **words);

#endif
