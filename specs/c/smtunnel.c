/* The tunnel protocol for embedded devices. See smtunnel.h. */

#include "smtunnel.h"

#include <string.h>

#define BASE64_GROUP 4u
#define GROUP_OCTETS 3u
#define NOT_BASE64 0xFFu
#define PADDING ((uint8_t)'=')
#define STORED_BLOCK_OCTETS 65535u
#define ADLER_MODULUS 65521u
/* The most octets whose sums fit 32 bits before they are reduced. */
#define ADLER_RUN 5552u
#define ZLIB_HEAD_OCTETS 2u
#define ZLIB_DICTIONARY_OCTETS 4u
#define ZLIB_CHECK_OCTETS 4u
#define ZLIB_METHOD_DEFLATE 8u
#define ZLIB_FDICT 0x20u
#define ZLIB_FCHECK 31u
/* Decoded octets that are handed on together. */
#define CHUNK_OCTETS 96u

const smt_carrier smt_ecs46a = {110u, true};
const smt_carrier smt_ecs200 = {1062u, true};

/* ---- Checks -------------------------------------------------------------------------------- */

uint32_t smt_adler32(uint32_t value, const uint8_t *octets, size_t count)
{
    uint32_t low = value & 0xFFFFu;
    uint32_t high = value >> 16;
    size_t place = 0u;

    while (place < count) {
        size_t end = count - place;
        end = place + ((end < ADLER_RUN) ? end : ADLER_RUN);
        for (; place < end; place++) {
            low += octets[place];
            high += low;
        }
        low %= ADLER_MODULUS;
        high %= ADLER_MODULUS;
    }
    return (high << 16) | low;
}

uint32_t smt_crc32(uint32_t value, const uint8_t *octets, size_t count)
{
    /* One entry for each four bits: 64 octets of table in place of 1024. */
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,
        0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
        0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    uint32_t crc = ~value;
    size_t place;

    for (place = 0u; place < count; place++) {
        crc ^= octets[place];
        crc = (crc >> 4) ^ table[crc & 0xFu];
        crc = (crc >> 4) ^ table[crc & 0xFu];
    }
    return ~crc;
}

/* ---- Base64: RFC 4648 section 4 ------------------------------------------------------------ */

static uint8_t base64_character(uint32_t value)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    return (uint8_t)alphabet[value & 0x3Fu];
}

static uint8_t base64_value(uint8_t character)
{
    uint8_t value = NOT_BASE64;

    if ((character >= (uint8_t)'A') && (character <= (uint8_t)'Z')) {
        value = (uint8_t)(character - (uint8_t)'A');
    } else if ((character >= (uint8_t)'a') && (character <= (uint8_t)'z')) {
        value = (uint8_t)(character - (uint8_t)'a' + 26u);
    } else if ((character >= (uint8_t)'0') && (character <= (uint8_t)'9')) {
        value = (uint8_t)(character - (uint8_t)'0' + 52u);
    } else if (character == (uint8_t)'+') {
        value = 62u;
    } else if (character == (uint8_t)'/') {
        value = 63u;
    } else {
        /* of no value */
    }
    return value;
}

/* One character of the base64 text of octets, by its place in the text. */
static uint8_t base64_at(const uint8_t *octets, size_t count, size_t place)
{
    size_t start = (place / BASE64_GROUP) * GROUP_OCTETS;
    size_t within = place % BASE64_GROUP;
    uint32_t group = (uint32_t)octets[start] << 16;

    if ((start + 1u) < count) {
        group |= (uint32_t)octets[start + 1u] << 8;
    }
    if ((start + 2u) < count) {
        group |= (uint32_t)octets[start + 2u];
    }
    /* Character 2 has bits of octet 1, character 3 of octet 2. */
    if ((within >= 2u) && ((start + within - 1u) >= count)) {
        return PADDING;
    }
    return base64_character(group >> (18u - (6u * within)));
}

static size_t base64_chars(size_t octets)
{
    return ((octets + 2u) / GROUP_OCTETS) * BASE64_GROUP;
}

/*
 * Reads one group of four characters.
 * Returns how many octets it stands for, 0 if it is not canonical.
 */
static size_t base64_group(const uint8_t text[BASE64_GROUP], uint8_t octets[GROUP_OCTETS])
{
    uint32_t group = 0u;
    size_t chars = BASE64_GROUP;
    size_t place;

    while ((chars > 2u) && (text[chars - 1u] == PADDING)) {
        chars--;
    }
    for (place = 0u; place < chars; place++) {
        uint8_t value = base64_value(text[place]);
        if (value == NOT_BASE64) {
            return 0u;
        }
        group |= (uint32_t)value << (18u - (6u * place));
    }
    /* Bits behind the last octet must be zero, or two texts would mean the same octets. */
    if ((group & (0x00FFFFFFu >> (8u * (chars - 1u)))) != 0u) {
        return 0u;
    }
    octets[0] = (uint8_t)(group >> 16);
    octets[1] = (uint8_t)((group >> 8) & 0xFFu);
    octets[2] = (uint8_t)(group & 0xFFu);
    return chars - 1u;
}

/* ---- Carriers and headers ------------------------------------------------------------------ */

static size_t header_size(const smt_carrier *carrier)
{
    return carrier->printable ? SMT_HEADER_CHARS : SMT_HEADER_OCTETS;
}

size_t smt_body_capacity(const smt_carrier *carrier)
{
    return (size_t)carrier->capacity - header_size(carrier);
}

smt_status smt_header_pack(const smt_header *header, uint8_t octets[SMT_HEADER_OCTETS])
{
    uint32_t bits;

    if ((header->originator > 1u) || (header->compression > 3u) ||
        (header->index > SMT_MAX_INDEX)) {
        return SMT_LOCAL_ERROR;
    }
    bits = ((uint32_t)header->originator << 23) | ((uint32_t)header->compression << 21) |
           ((uint32_t)(header->base64 ? 1u : 0u) << 20) |
           ((uint32_t)(header->last ? 1u : 0u) << 19) | ((uint32_t)header->index << 8) |
           (uint32_t)header->message_id;
    octets[0] = (uint8_t)(bits >> 16);
    octets[1] = (uint8_t)((bits >> 8) & 0xFFu);
    octets[2] = (uint8_t)(bits & 0xFFu);
    return SMT_OK;
}

void smt_header_unpack(const uint8_t octets[SMT_HEADER_OCTETS], smt_header *header)
{
    header->originator = (uint8_t)(octets[0] >> 7);
    header->compression = (uint8_t)((octets[0] >> 5) & 3u);
    header->base64 = ((octets[0] >> 4) & 1u) != 0u;
    header->last = ((octets[0] >> 3) & 1u) != 0u;
    header->index = (uint16_t)(((octets[0] & 7u) << 8) | octets[1]);
    header->message_id = octets[2];
}

smt_status smt_header_encode(const smt_header *header, uint8_t text[SMT_HEADER_CHARS])
{
    uint8_t octets[SMT_HEADER_OCTETS];
    size_t place;
    smt_status status = smt_header_pack(header, octets);

    if (status == SMT_OK) {
        for (place = 0u; place < SMT_HEADER_CHARS; place++) {
            text[place] = base64_at(octets, SMT_HEADER_OCTETS, place);
        }
    }
    return status;
}

smt_status smt_header_decode(const uint8_t *text, size_t chars, smt_header *header)
{
    uint8_t octets[SMT_HEADER_OCTETS];

    if ((chars != SMT_HEADER_CHARS) || (base64_group(text, octets) != SMT_HEADER_OCTETS)) {
        return SMT_NOT_A_FRAGMENT;
    }
    smt_header_unpack(octets, header);
    return SMT_OK;
}

static bool is_base64_text(const uint8_t *text, size_t chars)
{
    size_t place;

    for (place = 0u; place < chars; place++) {
        if ((text[place] != PADDING) && (base64_value(text[place]) == NOT_BASE64)) {
            return false;
        }
    }
    return true;
}

/* Whether a sender could have written this header before this body: section 6, step 1. */
static bool header_possible(const smt_carrier *carrier, const smt_fragment *fragment)
{
    const smt_header *header = &fragment->header;

    if (header->base64 != carrier->printable) {
        return false;
    }
    if (header->compression == (uint8_t)SMT_COMPRESSION_NONE) {
        return (header->index == 0u) && header->last;
    }
    return fragment->body_octets > 0u;
}

smt_status smt_parse_payload(const smt_carrier *carrier, const uint8_t *payload, size_t octets,
                             smt_fragment *fragment)
{
    size_t head = header_size(carrier);

    if ((octets < head) || (octets > carrier->capacity)) {
        return SMT_NOT_A_FRAGMENT;
    }
    if (carrier->printable) {
        if (smt_header_decode(payload, head, &fragment->header) != SMT_OK) {
            return SMT_NOT_A_FRAGMENT;
        }
        if (!is_base64_text(&payload[head], octets - head)) {
            return SMT_NOT_A_FRAGMENT;
        }
    } else {
        smt_header_unpack(payload, &fragment->header);
    }
    fragment->body = &payload[head];
    fragment->body_octets = octets - head;
    return header_possible(carrier, fragment) ? SMT_OK : SMT_NOT_A_FRAGMENT;
}

/* ---- Labels of ECS46a ---------------------------------------------------------------------- */

static bool is_printable(const uint8_t *text, size_t chars)
{
    size_t place;

    for (place = 0u; place < chars; place++) {
        if ((text[place] < 0x20u) || (text[place] > 0x7Eu)) {
            return false;
        }
    }
    return true;
}

bool smt_labels_join(const smt_label *labels, size_t count,
                     uint8_t payload[SMT_MAX_LABELS * SMT_LABEL_CHARS], size_t *octets)
{
    size_t place;
    size_t written = 0u;

    if ((count < 1u) || (count > SMT_MAX_LABELS)) {
        return false;
    }
    for (place = 0u; place < count; place++) {
        const smt_label *label = &labels[place];
        bool last = (place + 1u) == count;
        if (((size_t)label->number != (place + 1u)) || (label->chars < 1u) ||
            (label->chars > SMT_LABEL_CHARS) || (!last && (label->chars != SMT_LABEL_CHARS)) ||
            !is_printable(label->text, label->chars)) {
            return false;
        }
    }
    for (place = 0u; place < count; place++) {
        (void)memcpy(&payload[written], labels[place].text, labels[place].chars);
        written += labels[place].chars;
    }
    *octets = written;
    return true;
}

smt_status smt_labels_split(const uint8_t *payload, size_t octets, smt_label labels[SMT_MAX_LABELS],
                            size_t *count)
{
    size_t place;

    if ((octets < 1u) || (octets > (SMT_MAX_LABELS * SMT_LABEL_CHARS)) ||
        !is_printable(payload, octets)) {
        return SMT_LOCAL_ERROR;
    }
    *count = (octets + SMT_LABEL_CHARS - 1u) / SMT_LABEL_CHARS;
    for (place = 0u; place < *count; place++) {
        size_t start = place * SMT_LABEL_CHARS;
        size_t left = octets - start;
        labels[place].number = (uint8_t)(place + 1u);
        labels[place].text = &payload[start];
        labels[place].chars = (left < SMT_LABEL_CHARS) ? left : SMT_LABEL_CHARS;
    }
    return SMT_OK;
}

/* ---- Sending ------------------------------------------------------------------------------- */

size_t smt_plain_octets(const smt_carrier *carrier)
{
    size_t body = smt_body_capacity(carrier);

    return carrier->printable ? ((body / BASE64_GROUP) * GROUP_OCTETS) : body;
}

/* What is cut: the base64 text, or the stream itself. */
static size_t outgoing_size(const smt_outgoing *outgoing)
{
    return outgoing->carrier.printable ? base64_chars(outgoing->stream_octets)
                                       : outgoing->stream_octets;
}

smt_status smt_outgoing_init(smt_outgoing *outgoing, const smt_carrier *carrier,
                             smt_originator originator, smt_compression compression,
                             uint8_t message_id, const uint8_t *stream, size_t stream_octets)
{
    size_t size;
    size_t body;
    size_t fragments;

    if (((size_t)carrier->capacity <= header_size(carrier)) ||
        (compression == SMT_COMPRESSION_RESERVED) ||
        ((stream_octets == 0u) && (compression != SMT_COMPRESSION_NONE))) {
        return SMT_LOCAL_ERROR;
    }
    outgoing->carrier = *carrier;
    outgoing->header.originator = (uint8_t)originator;
    outgoing->header.compression = (uint8_t)compression;
    outgoing->header.base64 = carrier->printable;
    outgoing->header.last = false;
    outgoing->header.index = 0u;
    outgoing->header.message_id = message_id;
    outgoing->stream = stream;
    outgoing->stream_octets = stream_octets;
    size = outgoing_size(outgoing);
    body = smt_body_capacity(carrier);
    fragments = (size == 0u) ? 1u : (((size - 1u) / body) + 1u);
    if ((fragments > SMT_MAX_FRAGMENTS) ||
        ((fragments > 1u) && (compression == SMT_COMPRESSION_NONE))) {
        return SMT_MESSAGE_TOO_LONG;
    }
    outgoing->fragments = (uint16_t)fragments;
    return SMT_OK;
}

smt_status smt_outgoing_payload(const smt_outgoing *outgoing, uint16_t index, uint8_t *payload,
                                size_t *octets)
{
    smt_header header = outgoing->header;
    size_t head = header_size(&outgoing->carrier);
    size_t body = smt_body_capacity(&outgoing->carrier);
    size_t start = (size_t)index * body;
    size_t left;
    size_t place;
    smt_status status;

    if (index >= outgoing->fragments) {
        return SMT_LOCAL_ERROR;
    }
    left = outgoing_size(outgoing) - start;
    body = (left < body) ? left : body;
    header.index = index;
    header.last = (index + 1u) == outgoing->fragments;
    if (outgoing->carrier.printable) {
        status = smt_header_encode(&header, payload);
        for (place = 0u; place < body; place++) {
            payload[head + place] =
                base64_at(outgoing->stream, outgoing->stream_octets, start + place);
        }
    } else {
        status = smt_header_pack(&header, payload);
        if (body > 0u) {
            (void)memcpy(&payload[head], &outgoing->stream[start], body);
        }
    }
    *octets = head + body;
    return status;
}

static void write_number(uint8_t *octets, uint32_t value)
{
    octets[0] = (uint8_t)(value >> 24);
    octets[1] = (uint8_t)((value >> 16) & 0xFFu);
    octets[2] = (uint8_t)((value >> 8) & 0xFFu);
    octets[3] = (uint8_t)(value & 0xFFu);
}

static uint32_t read_number(const uint8_t *octets)
{
    return ((uint32_t)octets[0] << 24) | ((uint32_t)octets[1] << 16) | ((uint32_t)octets[2] << 8) |
           (uint32_t)octets[3];
}

smt_status smt_stored_stream(const uint8_t *message, size_t octets, uint8_t *stream,
                             size_t capacity, size_t *stream_octets)
{
    size_t place = 0u;
    size_t written = ZLIB_HEAD_OCTETS;
    bool final = false;

    if (capacity < SMT_STORED_OCTETS(octets)) {
        return SMT_MESSAGE_TOO_LONG;
    }
    /* Method 8 and the smallest window: nothing refers back. */
    stream[0] = 0x18u;
    stream[1] = 0x19u;
    while (!final) {
        size_t count = octets - place;
        count = (count < STORED_BLOCK_OCTETS) ? count : STORED_BLOCK_OCTETS;
        final = (place + count) == octets;
        stream[written] = final ? 1u : 0u;
        stream[written + 1u] = (uint8_t)(count & 0xFFu);
        stream[written + 2u] = (uint8_t)(count >> 8);
        stream[written + 3u] = (uint8_t)(~count & 0xFFu);
        stream[written + 4u] = (uint8_t)((~count >> 8) & 0xFFu);
        written += 5u;
        if (count > 0u) {
            (void)memcpy(&stream[written], &message[place], count);
        }
        written += count;
        place += count;
    }
    write_number(&stream[written], smt_adler32(1u, message, octets));
    *stream_octets = written + ZLIB_CHECK_OCTETS;
    return SMT_OK;
}

/* ---- Collecting ---------------------------------------------------------------------------- */

void smt_store_init(smt_store *store, const smt_carrier *carrier, smt_piece *pieces,
                    uint8_t *bodies, size_t count)
{
    store->pieces = pieces;
    store->bodies = bodies;
    store->count = count;
    store->body_octets = smt_body_capacity(carrier);
    (void)memset(pieces, 0, count * sizeof(pieces[0]));
}

static uint8_t *body_of(const smt_store *store, size_t place)
{
    return &store->bodies[place * store->body_octets];
}

/* The place of a piece in the store; the store's count if it is not there. */
static size_t find_piece(const smt_store *store, uint16_t owner, uint16_t index)
{
    size_t place;

    for (place = 0u; place < store->count; place++) {
        const smt_piece *piece = &store->pieces[place];
        /* All free pieces are alike. */
        if ((piece->owner == owner) && ((owner == 0u) || (piece->index == index))) {
            break;
        }
    }
    return place;
}

/* The most that all bodies of a message may have: sections 4.3 and 8. */
static size_t body_bound(size_t message_octets)
{
    size_t stream =
        message_octets + ((message_octets + 7u) >> 3) + ((message_octets + 63u) >> 6) + 11u;

    return base64_chars(stream);
}

void smt_assembly_init(smt_assembly *assembly, smt_store *store, uint16_t owner,
                       size_t message_octets)
{
    (void)memset(assembly, 0, sizeof(*assembly));
    assembly->store = store;
    assembly->owner = owner;
    assembly->max_octets = body_bound(message_octets);
}

static uint8_t kind_of(const smt_header *header)
{
    uint32_t kind = ((uint32_t)header->originator << 3) | ((uint32_t)header->compression << 1);

    return (uint8_t)(kind | (header->base64 ? 1u : 0u));
}

/* Whether a fragment that is not here yet agrees with what is known of the last one. */
static bool last_agrees(const smt_assembly *assembly, const smt_header *header)
{
    if (header->last) {
        return !assembly->last_known &&
               ((assembly->fragments == 0u) || (header->index > assembly->highest));
    }
    return !assembly->last_known || (header->index < assembly->last_index);
}

static smt_status compare(const smt_assembly *assembly, const smt_fragment *fragment, size_t place)
{
    const smt_piece *piece = &assembly->store->pieces[place];
    bool was_last = assembly->last_known && (piece->index == assembly->last_index);

    if ((piece->octets != fragment->body_octets) || (was_last != fragment->header.last) ||
        (memcmp(body_of(assembly->store, place), fragment->body, piece->octets) != 0)) {
        return SMT_FRAGMENT_CONFLICT;
    }
    return SMT_DUPLICATE;
}

static smt_status keep(smt_assembly *assembly, const smt_fragment *fragment)
{
    smt_store *store = assembly->store;
    const smt_header *header = &fragment->header;
    size_t place = find_piece(store, 0u, 0u);

    if ((place == store->count) || (fragment->body_octets > store->body_octets)) {
        return SMT_NO_MEMORY;
    }
    store->pieces[place].owner = assembly->owner;
    store->pieces[place].index = header->index;
    store->pieces[place].octets = (uint16_t)fragment->body_octets;
    (void)memcpy(body_of(store, place), fragment->body, fragment->body_octets);
    if (header->last) {
        assembly->last_known = true;
        assembly->last_index = header->index;
    }
    if ((assembly->fragments == 0u) || (header->index > assembly->highest)) {
        assembly->highest = header->index;
    }
    assembly->kind = kind_of(header);
    assembly->begun = true;
    assembly->fragments++;
    assembly->octets += fragment->body_octets;
    return SMT_OK;
}

smt_status smt_assembly_add(smt_assembly *assembly, const smt_fragment *fragment)
{
    const smt_header *header = &fragment->header;
    size_t place;

    if (header->compression == (uint8_t)SMT_COMPRESSION_RESERVED) {
        return SMT_UNSUPPORTED_COMPRESSION;
    }
    if (assembly->begun && (kind_of(header) != assembly->kind)) {
        return SMT_FRAGMENT_CONFLICT;
    }
    place = find_piece(assembly->store, assembly->owner, header->index);
    if (place < assembly->store->count) {
        return compare(assembly, fragment, place);
    }
    if (!last_agrees(assembly, header)) {
        return SMT_FRAGMENT_CONFLICT;
    }
    if (fragment->body_octets > (assembly->max_octets - assembly->octets)) {
        return SMT_LIMIT_EXCEEDED;
    }
    return keep(assembly, fragment);
}

bool smt_assembly_complete(const smt_assembly *assembly)
{
    return assembly->last_known && (assembly->fragments == (assembly->last_index + 1u));
}

void smt_assembly_clear(smt_assembly *assembly)
{
    smt_store *store = assembly->store;
    size_t place;

    for (place = 0u; place < store->count; place++) {
        if (store->pieces[place].owner == assembly->owner) {
            store->pieces[place].owner = 0u;
        }
    }
    assembly->begun = false;
    assembly->last_known = false;
    assembly->fragments = 0u;
    assembly->octets = 0u;
}

/* ---- Decoding ------------------------------------------------------------------------------ */

typedef enum zlib_stage { ZLIB_HEAD, ZLIB_DICTIONARY, ZLIB_DATA, ZLIB_CHECK } zlib_stage;

/* Takes the octets of a message after compression, as they come, and makes the message of them. */
typedef struct sink {
    const smt_decoding *decoding;
    bool compressed;
    zlib_stage stage;
    bool inflating;      /* begin has been called and end has not */
    uint8_t window_bits;
    uint8_t waiting[4];  /* octets of a header or check that is not complete */
    size_t waiting_octets;
    size_t written;
    bool whole;          /* the check holds; nothing may follow */
    uint32_t dictionary_id;
} sink;

static smt_status sink_begin(sink *to, const smt_dictionary *dictionary)
{
    const smt_inflater *inflater = &to->decoding->inflater;

    to->stage = ZLIB_DATA;
    to->inflating = inflater->begin(inflater->context, to->window_bits,
                                    (dictionary != NULL) ? dictionary->octets : NULL,
                                    (dictionary != NULL) ? dictionary->count : 0u);
    return to->inflating ? SMT_OK : SMT_NO_MEMORY;
}

/* RFC 1950 section 2.2: CMF and FLG. */
static smt_status sink_head(sink *to)
{
    uint32_t method = to->waiting[0] & 0x0Fu;
    uint32_t window_bits = ((uint32_t)to->waiting[0] >> 4) + 8u;
    uint32_t both = ((uint32_t)to->waiting[0] << 8) | to->waiting[1];

    if ((method != ZLIB_METHOD_DEFLATE) || ((both % ZLIB_FCHECK) != 0u) ||
        (window_bits > SMT_MAX_WINDOW_BITS)) {
        return SMT_ZLIB_ERROR;
    }
    if (window_bits > to->decoding->window_bits) {
        return SMT_WINDOW_TOO_LARGE;
    }
    to->window_bits = (uint8_t)window_bits;
    if ((to->waiting[1] & ZLIB_FDICT) != 0u) {
        to->stage = ZLIB_DICTIONARY;
        return SMT_OK;
    }
    return sink_begin(to, NULL);
}

static smt_status sink_dictionary(sink *to)
{
    size_t place;

    to->dictionary_id = read_number(to->waiting);
    for (place = 0u; place < to->decoding->dictionary_count; place++) {
        const smt_dictionary *dictionary = &to->decoding->dictionaries[place];
        if (dictionary->id == to->dictionary_id) {
            return sink_begin(to, dictionary);
        }
    }
    return SMT_UNKNOWN_DICTIONARY;
}

static smt_status sink_check(sink *to)
{
    uint32_t expected = read_number(to->waiting);

    to->whole = smt_adler32(1u, to->decoding->message, to->written) == expected;
    return to->whole ? SMT_OK : SMT_ZLIB_ERROR;
}

/* Gives octets to the inflater; those behind the end of its data are not taken. */
static smt_status sink_inflate(sink *to, const uint8_t *octets, size_t count, size_t *taken)
{
    const smt_inflater *inflater = &to->decoding->inflater;
    size_t room = to->decoding->message_octets - to->written;
    smt_inflate_result result;

    *taken = count;
    result = inflater->inflate(inflater->context, octets, taken,
                               &to->decoding->message[to->written], &room);
    to->written += room;
    switch (result) {
    case SMT_INFLATE_MORE:
        return SMT_OK;
    case SMT_INFLATE_END:
        to->stage = ZLIB_CHECK;
        return SMT_OK;
    case SMT_INFLATE_FULL:
        return SMT_LIMIT_EXCEEDED;
    case SMT_INFLATE_CORRUPT:
    default:
        return SMT_ZLIB_ERROR;
    }
}

/* Takes one octet of a header or check; acts when it is complete. */
static smt_status sink_octet(sink *to, uint8_t octet)
{
    size_t needed = (to->stage == ZLIB_HEAD)         ? ZLIB_HEAD_OCTETS
                    : (to->stage == ZLIB_DICTIONARY) ? ZLIB_DICTIONARY_OCTETS
                                                     : ZLIB_CHECK_OCTETS;

    if (to->whole) {
        return SMT_ZLIB_ERROR;
    }
    to->waiting[to->waiting_octets] = octet;
    to->waiting_octets++;
    if (to->waiting_octets < needed) {
        return SMT_OK;
    }
    to->waiting_octets = 0u;
    switch (to->stage) {
    case ZLIB_HEAD:
        return sink_head(to);
    case ZLIB_DICTIONARY:
        return sink_dictionary(to);
    case ZLIB_DATA:
    case ZLIB_CHECK:
    default:
        return sink_check(to);
    }
}

static smt_status sink_write(sink *to, const uint8_t *octets, size_t count)
{
    size_t place = 0u;
    smt_status status = SMT_OK;

    if (!to->compressed) {
        if (count > (to->decoding->message_octets - to->written)) {
            return SMT_LIMIT_EXCEEDED;
        }
        if (count > 0u) {
            (void)memcpy(&to->decoding->message[to->written], octets, count);
        }
        to->written += count;
        return SMT_OK;
    }
    while ((status == SMT_OK) && (place < count)) {
        if (to->stage == ZLIB_DATA) {
            size_t taken;
            status = sink_inflate(to, &octets[place], count - place, &taken);
            place += taken;
        } else {
            status = sink_octet(to, octets[place]);
            place++;
        }
    }
    return status;
}

static void sink_end(sink *to)
{
    if (to->inflating) {
        to->decoding->inflater.end(to->decoding->inflater.context);
        to->inflating = false;
    }
}

/* Undoes base64, one character after another. */
typedef struct text_reader {
    sink *to;            /* where the octets go; NULL: only look whether the text is canonical */
    uint8_t group[BASE64_GROUP];
    size_t group_chars;
    uint8_t chunk[CHUNK_OCTETS + GROUP_OCTETS];
    size_t chunk_octets;
    bool padded;         /* a group had padding: nothing may follow */
} text_reader;

static smt_status reader_flush(text_reader *reader)
{
    size_t count = reader->chunk_octets;

    reader->chunk_octets = 0u;
    return (reader->to != NULL) ? sink_write(reader->to, reader->chunk, count) : SMT_OK;
}

static smt_status reader_take(text_reader *reader, uint8_t character)
{
    size_t octets;

    reader->group[reader->group_chars] = character;
    reader->group_chars++;
    if (reader->group_chars < BASE64_GROUP) {
        return SMT_OK;
    }
    reader->group_chars = 0u;
    octets = base64_group(reader->group, &reader->chunk[reader->chunk_octets]);
    if (reader->padded || (octets == 0u)) {
        return SMT_BASE64_ERROR;
    }
    reader->padded = octets < GROUP_OCTETS;
    reader->chunk_octets += octets;
    return (reader->chunk_octets >= CHUNK_OCTETS) ? reader_flush(reader) : SMT_OK;
}

static smt_status decode_text(const smt_assembly *assembly, sink *to)
{
    const smt_store *store = assembly->store;
    text_reader reader;
    smt_status status = SMT_OK;
    uint16_t index;

    (void)memset(&reader, 0, sizeof(reader));
    reader.to = to;
    for (index = 0u; (status == SMT_OK) && (index <= assembly->last_index); index++) {
        size_t found = find_piece(store, assembly->owner, index);
        const uint8_t *body = body_of(store, found);
        size_t place;
        for (place = 0u; (status == SMT_OK) && (place < store->pieces[found].octets); place++) {
            status = reader_take(&reader, body[place]);
        }
    }
    if ((status == SMT_OK) && (reader.group_chars > 0u)) {
        status = SMT_BASE64_ERROR;
    }
    return (status == SMT_OK) ? reader_flush(&reader) : status;
}

static smt_status decode_octets(const smt_assembly *assembly, sink *to)
{
    smt_status status = SMT_OK;
    uint16_t index;

    for (index = 0u; (status == SMT_OK) && (index <= assembly->last_index); index++) {
        size_t found = find_piece(assembly->store, assembly->owner, index);
        status = sink_write(to, body_of(assembly->store, found),
                            assembly->store->pieces[found].octets);
    }
    return status;
}

smt_status smt_assembly_decode(const smt_assembly *assembly, const smt_decoding *decoding,
                               size_t *octets, uint32_t *dictionary_id)
{
    sink to;
    smt_status status;
    bool base64 = (assembly->kind & 1u) != 0u;

    if (!smt_assembly_complete(assembly)) {
        return SMT_INCOMPLETE;
    }
    (void)memset(&to, 0, sizeof(to));
    to.decoding = decoding;
    to.compressed = ((assembly->kind >> 1) & 3u) == (uint8_t)SMT_COMPRESSION_ZLIB;
    /* The whole text is judged before anything of it is used: section 7, step 6. */
    status = base64 ? decode_text(assembly, NULL) : SMT_OK;
    if (status == SMT_OK) {
        status = base64 ? decode_text(assembly, &to) : decode_octets(assembly, &to);
    }
    sink_end(&to);
    if ((status == SMT_OK) && to.compressed && !to.whole) {
        status = SMT_ZLIB_ERROR;
    }
    *octets = to.written;
    *dictionary_id = to.dictionary_id;
    return status;
}
