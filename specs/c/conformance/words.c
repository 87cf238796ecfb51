/* The words of a line, and the memory that the requests share. */
#include "target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char kinds[] = "header-unpack,header-pack,payload-parse,labels-join,labels-split,cut,encode,"
                     "decode,control-parse,control-build,session,session-restart";

uint8_t scratch[2u * MAX_LINE];

#define MAX_DICTIONARY 32768u
#define MAX_LOADED 4u

static uint8_t message[MAX_MESSAGE];
static uint8_t dictionary_octets[MAX_LOADED][MAX_DICTIONARY];
static smt_dictionary dictionaries[MAX_LOADED];
static size_t dictionary_count;

smt_decoding decoding_of(size_t message_octets, uint8_t window_bits)
{
    smt_decoding decoding;

    decoding.inflater = zlib_inflater;
    decoding.dictionaries = dictionaries;
    decoding.dictionary_count = dictionary_count;
    decoding.window_bits = window_bits;
    decoding.message = message;
    decoding.message_octets = message_octets;
    return decoding;
}

bool load_dictionary(const char *path)
{
    FILE *file = fopen(path, "rb");
    smt_dictionary *dictionary = &dictionaries[dictionary_count];
    uint8_t *octets = dictionary_octets[dictionary_count];

    if (file == NULL || dictionary_count == MAX_LOADED) {
        return false;
    }
    dictionary->octets = octets;
    dictionary->count = fread(octets, 1u, MAX_DICTIONARY, file);
    dictionary->id = smt_adler32(1u, octets, dictionary->count);
    dictionary_count++;
    return fclose(file) == 0 && dictionary->count > 0u;
}

void print_dictionaries(void)
{
    size_t place;

    for (place = 0u; place < dictionary_count; place++) {
        printf("%s%08lx", place == 0u ? " dictionaries=" : ",",
               (unsigned long)dictionaries[place].id);
    }
}

const char *error_name(smt_status status)
{
    switch (status) {
    case SMT_NOT_A_FRAGMENT: return "NotAFragment";
    case SMT_UNSUPPORTED_COMPRESSION: return "UnsupportedCompression";
    case SMT_FRAGMENT_CONFLICT: return "FragmentConflict";
    case SMT_BASE64_ERROR: return "Base64Error";
    case SMT_ZLIB_ERROR: return "ZlibError";
    case SMT_UNKNOWN_DICTIONARY: return "UnknownDictionary";
    case SMT_WINDOW_TOO_LARGE: return "WindowTooLarge";
    case SMT_LIMIT_EXCEEDED: return "LimitExceeded";
    case SMT_CONTROL_INVALID: return "ControlInvalid";
    case SMT_MESSAGE_TOO_LONG: return "MessageTooLong";
    case SMT_NO_MEMORY: return "NoMemory";
    default: return "LocalError";
    }
}

static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

bool read_octets(char *word, uint8_t **octets, size_t *count)
{
    size_t length = strlen(word);
    size_t place;

    *octets = (uint8_t *)word;
    *count = 0u;
    if (strcmp(word, "-") == 0) {
        return true;
    }
    for (place = 0u; place + 1u < length; place += 2u) {
        int high = digit_value(word[place]);
        int low = digit_value(word[place + 1u]);
        if (high < 0 || low < 0) {
            return false;
        }
        (*octets)[place / 2u] = (uint8_t)(high * 16 + low);
    }
    *count = length / 2u;
    return length % 2u == 0u && length > 0u;
}

bool read_number(const char *word, wide most, wide *number)
{
    char *end;

    *number = strtoull(word, &end, 10);
    return *word >= '0' && *word <= '9' && *end == '\0' && *number <= most;
}

bool read_carrier(const char *word, smt_carrier *carrier)
{
    wide capacity;

    if ((word[0] != 't' && word[0] != 'o') || !read_number(&word[1], MAX_CAPACITY, &capacity)) {
        return false;
    }
    carrier->printable = word[0] == 't';
    carrier->capacity = (uint16_t)capacity;
    return capacity > (carrier->printable ? SMT_HEADER_CHARS : SMT_HEADER_OCTETS);
}

void print_digits(const uint8_t *octets, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    size_t place;

    for (place = 0u; place < count; place++) {
        putchar(digits[octets[place] >> 4]);
        putchar(digits[octets[place] & 15u]);
    }
    if (count == 0u) {
        putchar('-');
    }
}

void print_octets(const uint8_t *octets, size_t count)
{
    putchar(' ');
    print_digits(octets, count);
}
