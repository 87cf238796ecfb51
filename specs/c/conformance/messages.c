/* Requests about single headers, payloads, labels and messages. */
#include "target.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

static smt_piece pieces[SMT_MAX_FRAGMENTS];
static uint8_t bodies[SMT_MAX_FRAGMENTS * MAX_CAPACITY];
static smt_store store;
static smt_assembly assembly;
static smt_carrier decode_carrier;
static smt_decoding decoding;

static void print_header(const smt_header *header)
{
    printf(" ok %u %u %u %u %u %u", header->originator, header->compression, header->base64,
           header->last, header->index, header->message_id);
}

smt_status header_unpack(char **words)
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

smt_status header_pack(char **words)
{
    wide fields[6];
    static const wide most[6] = {1u, 3u, 1u, 1u, 65535u, 255u};
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

smt_status payload_parse(char **words)
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

smt_status labels_join(char **words, size_t count)
{
    smt_label labels[SMT_MAX_LABELS + 1u];
    uint8_t payload[SMT_MAX_LABELS * SMT_LABEL_CHARS];
    size_t octets;
    size_t place;

    for (place = 0u; place < count; place++) {
        char *text = strchr(words[place], ':');
        wide number;
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

smt_status labels_split(char **words)
{
    smt_label labels[SMT_MAX_LABELS];
    uint8_t *payload;
    size_t octets;
    size_t count;
    size_t place;
    smt_status status;

    if (!read_octets(words[0], &payload, &octets)) {
        return SMT_LOCAL_ERROR;
    }
    status = smt_labels_split(payload, octets, labels, &count);
    if (status == SMT_OK) {
        printf(" ok");
        for (place = 0u; place < count; place++) {
            printf(" %u:", labels[place].number);
            print_digits(labels[place].text, labels[place].chars);
        }
    }
    return status;
}

static smt_status print_payloads(const smt_carrier *carrier, wide originator,
                                 smt_compression compression, wide message_id,
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

smt_status cut(char **words)
{
    smt_carrier carrier;
    wide originator;
    wide compression;
    wide message_id;
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

smt_status encode(char **words)
{
    smt_carrier carrier;
    wide originator;
    wide message_id;
    wide window_bits;
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

smt_status decode(char **words)
{
    wide octets;
    wide window_bits;

    if (!read_carrier(words[0], &decode_carrier) || !read_number(words[1], MAX_MESSAGE, &octets) ||
        !read_number(words[2], SMT_MAX_WINDOW_BITS, &window_bits)) {
        return SMT_LOCAL_ERROR;
    }
    decoding = decoding_of((size_t)octets, (uint8_t)window_bits);
    smt_store_init(&store, &decode_carrier, pieces, bodies, SMT_MAX_FRAGMENTS);
    smt_assembly_init(&assembly, &store, 1u, (size_t)octets);
    printf(" ok");
    return SMT_OK;
}

smt_status fragment(char **words)
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
        print_octets(decoding.message, octets);
    } else if (status == SMT_UNKNOWN_DICTIONARY) {
        printf(" error UnknownDictionary %08lx", (unsigned long)dictionary_id);
        status = SMT_OK;
    } else {
        /* the caller prints it */
    }
    return status;
}
