/*
 * Answers the conformance requests of ../vectors/README.md with smtunnel.c and zlib.
 *
 * It also shows how smtunnel.c is used: the inflater's callbacks, the caller's memory, sending.
 */
#include "smtunnel.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX_LINE 8192
#define MAX_WORDS 16
#define MAX_MESSAGE 65536u
#define MAX_CAPACITY 1062u
#define KINDS "header-unpack,header-pack,payload-parse,labels-join,labels-split,cut,encode,decode"

/* ---- The inflater: raw DEFLATE by zlib ----------------------------------------------------- */

static bool inflater_begin(void *context, uint8_t window_bits, const uint8_t *dictionary,
                           size_t dictionary_octets)
{
    z_stream *stream = context;

    memset(stream, 0, sizeof(*stream));
    if (inflateInit2(stream, -(int)window_bits) != Z_OK) {
        return false;
    }
    if (dictionary_octets > 0u &&
        inflateSetDictionary(stream, dictionary, (uInt)dictionary_octets) != Z_OK) {
        (void)inflateEnd(stream);
        return false;
    }
    return true;
}

static smt_inflate_result inflater_inflate(void *context, const uint8_t *in, size_t *in_octets,
                                           uint8_t *out, size_t *out_octets)
{
    z_stream *stream = context;
    int result;

    stream->next_in = (z_const Bytef *)in;
    stream->avail_in = (uInt)*in_octets;
    stream->next_out = out;
    stream->avail_out = (uInt)*out_octets;
    result = inflate(stream, Z_NO_FLUSH);
    *in_octets -= stream->avail_in;
    *out_octets -= stream->avail_out;
    if (result == Z_STREAM_END) {
        return SMT_INFLATE_END;
    }
    if (result != Z_OK && result != Z_BUF_ERROR) {
        return SMT_INFLATE_CORRUPT;
    }
    /* zlib goes on without room as long as it has nothing to write. */
    return stream->avail_in > 0u ? SMT_INFLATE_FULL : SMT_INFLATE_MORE;
}

static void inflater_end(void *context)
{
    (void)inflateEnd(context);
}

/* ---- The caller's memory ------------------------------------------------------------------- */

static smt_piece pieces[SMT_MAX_FRAGMENTS];
static uint8_t bodies[SMT_MAX_FRAGMENTS * MAX_CAPACITY];
static uint8_t message[MAX_MESSAGE];
static uint8_t scratch[2u * MAX_LINE];
static z_stream inflater_state;

static smt_store store;
static smt_assembly assembly;
static smt_carrier decode_carrier;
static smt_decoding decoding = {
    {&inflater_state, inflater_begin, inflater_inflate, inflater_end},
    NULL, 0u, SMT_MAX_WINDOW_BITS, message, MAX_MESSAGE,
};

/* ---- Words --------------------------------------------------------------------------------- */

static const char *error_name(smt_status status)
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

/* Replaces a word's hexadecimal digits by the octets, in place. */
static bool read_octets(char *word, uint8_t **octets, size_t *count)
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

static bool read_number(const char *word, unsigned long most, unsigned long *number)
{
    char *end;

    *number = strtoul(word, &end, 10);
    return *word >= '0' && *word <= '9' && *end == '\0' && *number <= most;
}

static bool read_carrier(const char *word, smt_carrier *carrier)
{
    unsigned long capacity;

    if ((word[0] != 't' && word[0] != 'o') || !read_number(&word[1], MAX_CAPACITY, &capacity)) {
        return false;
    }
    carrier->printable = word[0] == 't';
    carrier->capacity = (uint16_t)capacity;
    return capacity > (carrier->printable ? SMT_HEADER_CHARS : SMT_HEADER_OCTETS);
}

static void print_octets(const uint8_t *octets, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    size_t place;

    putchar(' ');
    if (count == 0u) {
        putchar('-');
    }
    for (place = 0u; place < count; place++) {
        putchar(digits[octets[place] >> 4]);
        putchar(digits[octets[place] & 15u]);
    }
}

static void print_header(const smt_header *header)
{
    printf(" ok %u %u %u %u %u %u", header->originator, header->compression, header->base64,
           header->last, header->index, header->message_id);
}

/* ---- Requests: each prints the answer's words, or returns a status that is printed --------- */

static smt_status header_unpack(char **words)
{
    smt_header header;
    uint8_t *text;
    size_t chars;
    smt_status status;

    if (!read_octets(words[0], &text, &chars)) {
        return SMT_LOCAL_ERROR;
    }
    status = smt_header_decode(text, chars, &header);
    if (status == SMT_OK) {
        print_header(&header);
    }
    return status;
}

static smt_status header_pack(char **words)
{
    unsigned long fields[6];
    static const unsigned long most[6] = {1u, 3u, 1u, 1u, 65535u, 255u};
    uint8_t octets[SMT_HEADER_OCTETS];
    uint8_t text[SMT_HEADER_CHARS];
    smt_header header;
    size_t place;
    smt_status status;

    for (place = 0u; place < 6u; place++) {
        if (!read_number(words[place], most[place], &fields[place])) {
            return SMT_LOCAL_ERROR;
        }
    }
    header.originator = (uint8_t)fields[0];
    header.compression = (uint8_t)fields[1];
    header.base64 = fields[2] != 0u;
    header.last = fields[3] != 0u;
    header.index = (uint16_t)fields[4];
    header.message_id = (uint8_t)fields[5];
    status = smt_header_pack(&header, octets);
    if (status == SMT_OK) {
        status = smt_header_encode(&header, text);
    }
    if (status == SMT_OK) {
        printf(" ok");
        print_octets(octets, sizeof(octets));
        print_octets(text, sizeof(text));
    }
    return status;
}

static smt_status payload_parse(char **words)
{
    smt_carrier carrier;
    smt_fragment fragment;
    uint8_t *payload;
    size_t octets;
    smt_status status;

    if (!read_carrier(words[0], &carrier) || !read_octets(words[1], &payload, &octets)) {
        return SMT_LOCAL_ERROR;
    }
    status = smt_parse_payload(&carrier, payload, octets, &fragment);
    if (status == SMT_OK) {
        print_header(&fragment.header);
        print_octets(fragment.body, fragment.body_octets);
    }
    return status;
}

static smt_status labels_join(char **words, size_t count)
{
    smt_label labels[MAX_WORDS];
    uint8_t payload[SMT_MAX_LABELS * SMT_LABEL_CHARS];
    size_t octets;
    size_t place;

    for (place = 0u; place < count; place++) {
        char *text = strchr(words[place], ':');
        unsigned long number;
        uint8_t *start;
        if (text == NULL) {
            return SMT_LOCAL_ERROR;
        }
        *text = '\0';
        if (!read_number(words[place], 255u, &number) ||
            !read_octets(text + 1, &start, &labels[place].chars)) {
            return SMT_LOCAL_ERROR;
        }
        labels[place].number = (uint8_t)number;
        labels[place].text = start;
    }
    if (smt_labels_join(labels, count, payload, &octets)) {
        printf(" ok");
        print_octets(payload, octets);
    } else {
        printf(" none");
    }
    return SMT_OK;
}

static smt_status labels_split(char **words)
{
    smt_label labels[SMT_MAX_LABELS];
    uint8_t *payload;
    size_t octets;
    size_t count;
    size_t place;
    size_t at;
    smt_status status;

    if (!read_octets(words[0], &payload, &octets)) {
        return SMT_LOCAL_ERROR;
    }
    status = smt_labels_split(payload, octets, labels, &count);
    if (status == SMT_OK) {
        printf(" ok");
        for (place = 0u; place < count; place++) {
            printf(" %u:", labels[place].number);
            for (at = 0u; at < labels[place].chars; at++) {
                printf("%02x", labels[place].text[at]);
            }
        }
    }
    return status;
}

static smt_status print_payloads(const smt_carrier *carrier, unsigned long originator,
                                 smt_compression compression, unsigned long message_id,
                                 const uint8_t *stream, size_t octets)
{
    static uint8_t payload[MAX_CAPACITY];
    smt_outgoing outgoing;
    uint16_t index;
    smt_status status = smt_outgoing_init(&outgoing, carrier, (smt_originator)originator,
                                          compression, (uint8_t)message_id, stream, octets);

    if (status != SMT_OK) {
        return status;
    }
    printf(" ok");
    for (index = 0u; index < outgoing.fragments; index++) {
        size_t count;
        if (smt_outgoing_payload(&outgoing, index, payload, &count) == SMT_OK) {
            print_octets(payload, count);
        }
    }
    return SMT_OK;
}

static smt_status cut(char **words)
{
    smt_carrier carrier;
    unsigned long originator;
    unsigned long compression;
    unsigned long message_id;
    uint8_t *stream;
    size_t octets;

    if (!read_carrier(words[0], &carrier) || !read_number(words[1], 1u, &originator) ||
        !read_number(words[2], 3u, &compression) || !read_number(words[3], 255u, &message_id) ||
        !read_octets(words[4], &stream, &octets)) {
        return SMT_LOCAL_ERROR;
    }
    return print_payloads(&carrier, originator, (smt_compression)compression, message_id, stream,
                          octets);
}

static bool compress_message(const uint8_t *octets, size_t count, int window_bits, size_t *written)
{
    z_stream stream;
    bool done;

    memset(&stream, 0, sizeof(stream));
    if (deflateInit2(&stream, 9, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return false;
    }
    stream.next_in = (z_const Bytef *)octets;
    stream.avail_in = (uInt)count;
    stream.next_out = scratch;
    stream.avail_out = (uInt)sizeof(scratch);
    done = deflate(&stream, Z_FINISH) == Z_STREAM_END;
    *written = stream.total_out;
    (void)deflateEnd(&stream);
    return done;
}

static smt_status encode(char **words)
{
    smt_carrier carrier;
    unsigned long originator;
    unsigned long message_id;
    unsigned long window_bits;
    uint8_t *octets;
    size_t count;
    size_t stream_octets;
    smt_status status = SMT_OK;

    if (!read_carrier(words[0], &carrier) || !read_number(words[1], 1u, &originator) ||
        !read_number(words[2], 255u, &message_id) ||
        !read_number(words[4], SMT_MAX_WINDOW_BITS, &window_bits) ||
        !read_octets(words[5], &octets, &count)) {
        return SMT_LOCAL_ERROR;
    }
    if (strcmp(words[3], "none") == 0) {
        if (count <= smt_plain_octets(&carrier)) {
            return print_payloads(&carrier, originator, SMT_COMPRESSION_NONE, message_id, octets,
                                  count);
        }
        status = smt_stored_stream(octets, count, scratch, sizeof(scratch), &stream_octets);
    } else if (!compress_message(octets, count, (int)window_bits, &stream_octets)) {
        status = SMT_LOCAL_ERROR;
    } else {
        /* compressed */
    }
    if (status != SMT_OK) {
        return status;
    }
    return print_payloads(&carrier, originator, SMT_COMPRESSION_ZLIB, message_id, scratch,
                          stream_octets);
}

static smt_status decode(char **words)
{
    unsigned long octets;
    unsigned long window_bits;

    if (!read_carrier(words[0], &decode_carrier) || !read_number(words[1], MAX_MESSAGE, &octets) ||
        !read_number(words[2], SMT_MAX_WINDOW_BITS, &window_bits)) {
        return SMT_LOCAL_ERROR;
    }
    decoding.message_octets = octets;
    decoding.window_bits = (uint8_t)window_bits;
    smt_store_init(&store, &decode_carrier, pieces, bodies, SMT_MAX_FRAGMENTS);
    smt_assembly_init(&assembly, &store, 1u, octets);
    printf(" ok");
    return SMT_OK;
}

static smt_status fragment(char **words)
{
    smt_fragment parsed;
    uint8_t *payload;
    size_t octets;
    uint32_t dictionary_id = 0u;
    smt_status status;

    if (assembly.store == NULL || !read_octets(words[0], &payload, &octets)) {
        return SMT_LOCAL_ERROR;
    }
    status = smt_parse_payload(&decode_carrier, payload, octets, &parsed);
    if (status == SMT_OK) {
        status = smt_assembly_add(&assembly, &parsed);
    }
    if ((status == SMT_OK || status == SMT_DUPLICATE) && !smt_assembly_complete(&assembly)) {
        printf(" more");
        return SMT_OK;
    }
    if (status == SMT_OK || status == SMT_DUPLICATE) {
        status = smt_assembly_decode(&assembly, &decoding, &octets, &dictionary_id);
    }
    smt_assembly_clear(&assembly);
    if (status == SMT_OK) {
        printf(" message");
        print_octets(message, octets);
    } else if (status == SMT_UNKNOWN_DICTIONARY) {
        printf(" error UnknownDictionary %08lx", (unsigned long)dictionary_id);
        status = SMT_OK;
    } else {
        /* the caller prints it */
    }
    return status;
}

static smt_status answer(const char *kind, char **words, size_t count)
{
    if (strcmp(kind, "hello") == 0) {
        printf(" ok 1 smtunnel-c kinds=" KINDS);
        return SMT_OK;
    }
    if (strcmp(kind, "labels-join") == 0) {
        return labels_join(words, count);
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
    };
    for (size_t place = 0u; place < sizeof(requests) / sizeof(requests[0]); place++) {
        if (strcmp(kind, requests[place].kind) == 0 && count == requests[place].words) {
            return requests[place].answer(words);
        }
    }
    return SMT_LOCAL_ERROR;
}

int main(void)
{
    static char line[MAX_LINE + 2];

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
