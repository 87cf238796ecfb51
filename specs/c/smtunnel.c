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

/* ---- Control records ------------------------------------------------------------------------ */

#define CRC_OCTETS 4u
#define LONG_LENGTH 0x80u
#define MAX_RECORDS 256u
#define NAME_OCTETS 5u
#define RANGE_OCTETS 4u
#define NONCE_OCTETS 8u
#define MAX_OPAQUE_OCTETS 64u
#define CAPABILITIES_OCTETS 8u
#define DICTIONARY_ID_OCTETS 4u
#define MAX_DICTIONARIES 32u
#define OFFER_OCTETS 4u
#define MAX_ADDRESSES 8u
#define MAX_ADDRESS_OCTETS 255u
#define MAX_PINS 4u
#define PIN_OCTETS 32u
#define TIME_OCTETS 8u

static uint16_t read_short(const uint8_t *octets)
{
    return (uint16_t)(((uint32_t)octets[0] << 8) | octets[1]);
}

static bool window_bits_valid(uint32_t window_bits)
{
    return (window_bits >= SMT_MIN_WINDOW_BITS) && (window_bits <= SMT_MAX_WINDOW_BITS);
}

/*
 * Takes a length, and the octets that it counts, from the front of what is left.
 * Returns false if they are not there, or the length has two octets where one would do.
 */
static bool take_counted(const uint8_t **octets, size_t *left, const uint8_t **value,
                         size_t *count)
{
    size_t head = 1u;

    if (*left < 1u) {
        return false;
    }
    *count = (*octets)[0];
    if (*count >= LONG_LENGTH) {
        if (*left < 2u) {
            return false;
        }
        *count = ((*count - LONG_LENGTH) << 8) | (*octets)[1];
        head = 2u;
        if (*count < LONG_LENGTH) {
            return false;
        }
    }
    if ((*left - head) < *count) {
        return false;
    }
    *value = &(*octets)[head];
    *octets = &(*octets)[head + *count];
    *left -= head + *count;
    return true;
}

static bool missing_valid(const smt_record *record)
{
    size_t place;

    if ((record->octets < (NAME_OCTETS + RANGE_OCTETS)) ||
        (((record->octets - NAME_OCTETS) % RANGE_OCTETS) != 0u)) {
        return false;
    }
    for (place = NAME_OCTETS; place < record->octets; place += RANGE_OCTETS) {
        uint32_t start = read_short(&record->body[place]);
        uint32_t count = read_short(&record->body[place + 2u]);
        if ((start > SMT_MAX_INDEX) || (count > (SMT_MAX_FRAGMENTS - start))) {
            return false;
        }
        /* Only the last range may be open; none touches the next. */
        if (((place + RANGE_OCTETS) < record->octets) &&
            ((count == 0u) ||
             ((start + count) >= read_short(&record->body[place + RANGE_OCTETS])))) {
            return false;
        }
    }
    return true;
}

static size_t abort_detail_octets(uint8_t code)
{
    switch (code) {
    case SMT_ABORT_UNKNOWN_DICTIONARY:
    case SMT_ABORT_TOO_LONG:
        return 4u;
    case SMT_ABORT_WINDOW_TOO_LARGE:
        return 1u;
    default:
        return 0u;
    }
}

static bool abort_valid(const smt_record *record)
{
    uint8_t code;

    if (record->octets <= NAME_OCTETS) {
        return false;
    }
    code = record->body[NAME_OCTETS];
    if (code > (uint8_t)SMT_ABORT_WITHDRAWN) {
        /* Of a later version: counts as other, whatever follows. */
        return true;
    }
    if (record->octets != (NAME_OCTETS + 1u + abort_detail_octets(code))) {
        return false;
    }
    return (code != (uint8_t)SMT_ABORT_WINDOW_TOO_LARGE) ||
           window_bits_valid(record->body[NAME_OCTETS + 1u]);
}

static bool capabilities_valid(const smt_record *record)
{
    const uint8_t *body = record->body;
    size_t place;

    if ((record->octets < CAPABILITIES_OCTETS) ||
        (((record->octets - CAPABILITIES_OCTETS) % DICTIONARY_ID_OCTETS) != 0u) ||
        (record->octets > (CAPABILITIES_OCTETS + (MAX_DICTIONARIES * DICTIONARY_ID_OCTETS)))) {
        return false;
    }
    if ((body[0] == 0u) || (body[1] > 2u) || !window_bits_valid(body[2]) || (body[3] == 0u) ||
        (read_number(&body[4]) == 0u)) {
        return false;
    }
    for (place = CAPABILITIES_OCTETS + DICTIONARY_ID_OCTETS; place < record->octets;
         place += DICTIONARY_ID_OCTETS) {
        if (read_number(&body[place]) <= read_number(&body[place - DICTIONARY_ID_OCTETS])) {
            return false;
        }
    }
    return true;
}

static bool versions_valid(const uint8_t *versions, size_t count)
{
    size_t place;

    if ((count == 0u) || (versions[0] == 0u)) {
        return false;
    }
    for (place = 1u; place < count; place++) {
        if (versions[place] <= versions[place - 1u]) {
            return false;
        }
    }
    return true;
}

static bool address_valid(const uint8_t *address, size_t count)
{
    size_t place;

    for (place = 0u; place < count; place++) {
        if ((address[place] <= (uint8_t)' ') || (address[place] > (uint8_t)'~')) {
            return false;
        }
    }
    return (count >= 1u) && (count <= MAX_ADDRESS_OCTETS);
}

static bool field_valid(uint8_t tag, const uint8_t *value, size_t count)
{
    switch (tag) {
    case SMT_ROUTE_ADDRESS:
        return address_valid(value, count);
    case SMT_ROUTE_PIN:
        return count == PIN_OCTETS;
    case SMT_ROUTE_NOT_BEFORE:
    case SMT_ROUTE_NOT_AFTER:
        return count == TIME_OCTETS;
    case SMT_ROUTE_VERSIONS:
        return versions_valid(value, count);
    case SMT_ROUTE_MESSAGE_OCTETS:
        return count == 4u;
    default:
        return true;
    }
}

static bool route_offer_valid(const smt_record *record)
{
    size_t counts[SMT_ROUTE_MESSAGE_OCTETS + 1u] = {0u};
    const uint8_t *times[2] = {NULL, NULL};
    const uint8_t *octets;
    size_t left;

    if (record->octets < OFFER_OCTETS) {
        return false;
    }
    octets = &record->body[OFFER_OCTETS];
    left = record->octets - OFFER_OCTETS;
    while (left > 0u) {
        uint8_t tag = octets[0];
        const uint8_t *value;
        size_t count;
        octets = &octets[1];
        left--;
        if (!take_counted(&octets, &left, &value, &count) || !field_valid(tag, value, count)) {
            return false;
        }
        if ((tag >= SMT_ROUTE_ADDRESS) && (tag <= SMT_ROUTE_MESSAGE_OCTETS)) {
            counts[tag]++;
        }
        if ((tag == SMT_ROUTE_NOT_BEFORE) || (tag == SMT_ROUTE_NOT_AFTER)) {
            times[tag - SMT_ROUTE_NOT_BEFORE] = value;
        }
    }
    return (counts[SMT_ROUTE_ADDRESS] >= 1u) && (counts[SMT_ROUTE_ADDRESS] <= MAX_ADDRESSES) &&
           (counts[SMT_ROUTE_PIN] >= 1u) && (counts[SMT_ROUTE_PIN] <= MAX_PINS) &&
           (counts[SMT_ROUTE_NOT_BEFORE] == 1u) && (counts[SMT_ROUTE_NOT_AFTER] == 1u) &&
           (counts[SMT_ROUTE_VERSIONS] == 1u) && (counts[SMT_ROUTE_MESSAGE_OCTETS] == 1u) &&
           (memcmp(times[1], times[0], TIME_OCTETS) > 0);
}

/* Whether a record is as its sender must have built it; of a kind not known, it is. */
static bool record_valid(const smt_record *record)
{
    switch (record->kind) {
    case SMT_RECORD_RECEIPT:
    case SMT_RECORD_CONTROL_RECEIPT:
        return (record->octets > 0u) && ((record->octets % NAME_OCTETS) == 0u);
    case SMT_RECORD_MISSING:
        return missing_valid(record);
    case SMT_RECORD_ABORT:
        return abort_valid(record);
    case SMT_RECORD_ECHO_REQUEST:
    case SMT_RECORD_ECHO_REPLY:
        return (record->octets >= NONCE_OCTETS) &&
               (record->octets <= (NONCE_OCTETS + MAX_OPAQUE_OCTETS));
    case SMT_RECORD_CAPABILITIES:
        return capabilities_valid(record);
    case SMT_RECORD_CAPABILITIES_WANTED:
        return record->octets == 0u;
    case SMT_RECORD_ROUTE_OFFER:
        return route_offer_valid(record);
    case SMT_RECORD_ROUTE_ANSWER:
        return record->octets == (OFFER_OCTETS + 1u);
    case SMT_RECORD_ROUTE_WITHDRAWN:
        return record->octets == OFFER_OCTETS;
    case SMT_RECORD_CANCELLED:
        return record->octets == NAME_OCTETS;
    default:
        return true;
    }
}

void smt_control_begin(smt_records *records, const uint8_t *octets, size_t count)
{
    records->octets = octets;
    records->left = (count > CRC_OCTETS) ? (count - CRC_OCTETS) : 0u;
}

bool smt_control_next(smt_records *records, smt_record *record)
{
    if (records->left < 1u) {
        return false;
    }
    record->kind = records->octets[0];
    records->octets = &records->octets[1];
    records->left--;
    if (!take_counted(&records->octets, &records->left, &record->body, &record->octets)) {
        records->left = 0u;
        return false;
    }
    return true;
}

smt_status smt_control_check(const uint8_t *octets, size_t count)
{
    smt_records records;
    smt_record record;
    size_t found = 0u;
    size_t used = 0u;

    if ((count <= CRC_OCTETS) || (count > SMT_MAX_CONTROL_OCTETS) ||
        (smt_crc32(0u, octets, count - CRC_OCTETS) != read_number(&octets[count - CRC_OCTETS]))) {
        return SMT_CONTROL_INVALID;
    }
    smt_control_begin(&records, octets, count);
    while (smt_control_next(&records, &record)) {
        found++;
        used = (size_t)(records.octets - octets);
        if ((found > MAX_RECORDS) || !record_valid(&record)) {
            return SMT_CONTROL_INVALID;
        }
    }
    /* The last record must end where the check begins. */
    return (used == (count - CRC_OCTETS)) ? SMT_OK : SMT_CONTROL_INVALID;
}

bool smt_record_known(const smt_record *record)
{
    return (record->kind >= SMT_RECORD_RECEIPT) && (record->kind <= SMT_RECORD_CANCELLED);
}

bool smt_record_name(const smt_record *record, size_t place, smt_name *name)
{
    size_t start = place * NAME_OCTETS;

    if ((record->octets < NAME_OCTETS) || (start > (record->octets - NAME_OCTETS))) {
        return false;
    }
    name->message_id = record->body[start];
    name->key32 = read_number(&record->body[start + 1u]);
    return true;
}

bool smt_record_range(const smt_record *record, size_t place, smt_range *range)
{
    size_t start = NAME_OCTETS + (place * RANGE_OCTETS);

    if ((start + RANGE_OCTETS) > record->octets) {
        return false;
    }
    range->start = read_short(&record->body[start]);
    range->count = read_short(&record->body[start + 2u]);
    return true;
}

void smt_record_abort(const smt_record *record, smt_abort_code *code, uint32_t *detail)
{
    uint8_t said = record->body[NAME_OCTETS];
    const uint8_t *octets = &record->body[NAME_OCTETS + 1u];

    *code = (said > (uint8_t)SMT_ABORT_WITHDRAWN) ? SMT_ABORT_OTHER : (smt_abort_code)said;
    *detail = 0u;
    if (abort_detail_octets((uint8_t)*code) == 4u) {
        *detail = read_number(octets);
    } else if (abort_detail_octets((uint8_t)*code) == 1u) {
        *detail = octets[0];
    } else {
        /* has no detail */
    }
}

void smt_record_capabilities(const smt_record *record, smt_capabilities *capabilities)
{
    size_t place;

    capabilities->version = record->body[0];
    capabilities->receipts = record->body[1];
    capabilities->window_bits = record->body[2];
    capabilities->partial_messages = record->body[3];
    capabilities->message_octets = read_number(&record->body[4]);
    capabilities->dictionary_count =
        (record->octets - CAPABILITIES_OCTETS) / DICTIONARY_ID_OCTETS;
    for (place = 0u; place < capabilities->dictionary_count; place++) {
        capabilities->dictionaries[place] =
            read_number(&record->body[CAPABILITIES_OCTETS + (place * DICTIONARY_ID_OCTETS)]);
    }
}

bool smt_record_field(const smt_record *record, uint8_t tag, size_t place, const uint8_t **value,
                      size_t *count)
{
    const uint8_t *octets = &record->body[OFFER_OCTETS];
    size_t left = record->octets - OFFER_OCTETS;
    size_t found = 0u;

    while (left > 0u) {
        uint8_t here = octets[0];
        octets = &octets[1];
        left--;
        if (!take_counted(&octets, &left, value, count)) {
            return false;
        }
        if (here == tag) {
            if (found == place) {
                return true;
            }
            found++;
        }
    }
    return false;
}

void smt_control_write(smt_writer *writer, uint8_t *octets, size_t capacity)
{
    writer->octets = octets;
    writer->capacity = (capacity < SMT_MAX_CONTROL_OCTETS) ? capacity : SMT_MAX_CONTROL_OCTETS;
    writer->written = 0u;
    writer->records = 0u;
}

smt_status smt_write_record(smt_writer *writer, const smt_record *record)
{
    size_t head = (record->octets < LONG_LENGTH) ? 2u : 3u;
    uint8_t *to = &writer->octets[writer->written];

    if (!smt_record_known(record) || !record_valid(record) || (writer->records >= MAX_RECORDS)) {
        return SMT_LOCAL_ERROR;
    }
    if ((writer->written + head + record->octets + CRC_OCTETS) > writer->capacity) {
        return SMT_MESSAGE_TOO_LONG;
    }
    to[0] = record->kind;
    if (head == 2u) {
        to[1] = (uint8_t)record->octets;
    } else {
        to[1] = (uint8_t)(LONG_LENGTH | (record->octets >> 8));
        to[2] = (uint8_t)(record->octets & 0xFFu);
    }
    if (record->octets > 0u) {
        (void)memcpy(&to[head], record->body, record->octets);
    }
    writer->written += head + record->octets;
    writer->records++;
    return SMT_OK;
}

static void put_name(uint8_t octets[NAME_OCTETS], const smt_name *name)
{
    octets[0] = name->message_id;
    write_number(&octets[1], name->key32);
}

smt_status smt_write_abort(smt_writer *writer, const smt_name *name, smt_abort_code code,
                           uint32_t detail)
{
    uint8_t body[NAME_OCTETS + 5u];
    smt_record record = {SMT_RECORD_ABORT, body, NAME_OCTETS + 1u};
    size_t octets = abort_detail_octets((uint8_t)code);

    put_name(body, name);
    body[NAME_OCTETS] = (uint8_t)code;
    if (octets == 4u) {
        write_number(&body[NAME_OCTETS + 1u], detail);
    } else {
        body[NAME_OCTETS + 1u] = (uint8_t)detail;
    }
    record.octets += octets;
    return smt_write_record(writer, &record);
}

smt_status smt_write_capabilities(smt_writer *writer, const smt_capabilities *capabilities)
{
    uint8_t body[CAPABILITIES_OCTETS + (MAX_DICTIONARIES * DICTIONARY_ID_OCTETS)];
    smt_record record = {SMT_RECORD_CAPABILITIES, body, CAPABILITIES_OCTETS};
    size_t place;

    if (capabilities->dictionary_count > MAX_DICTIONARIES) {
        return SMT_LOCAL_ERROR;
    }
    body[0] = capabilities->version;
    body[1] = capabilities->receipts;
    body[2] = capabilities->window_bits;
    body[3] = capabilities->partial_messages;
    write_number(&body[4], capabilities->message_octets);
    for (place = 0u; place < capabilities->dictionary_count; place++) {
        write_number(&body[record.octets], capabilities->dictionaries[place]);
        record.octets += DICTIONARY_ID_OCTETS;
    }
    return smt_write_record(writer, &record);
}

smt_status smt_control_finish(smt_writer *writer, size_t *octets)
{
    if (writer->records == 0u) {
        return SMT_LOCAL_ERROR;
    }
    write_number(&writer->octets[writer->written], smt_crc32(0u, writer->octets, writer->written));
    *octets = writer->written + CRC_OCTETS;
    return SMT_OK;
}

/* ---- The replay window ---------------------------------------------------------------------- */

typedef enum verdict { VERDICT_NEW, VERDICT_REPLAY, VERDICT_REUSED, VERDICT_STALE } verdict;

/* Where a counter is in the rising window, or would be. */
static size_t window_place(const smt_receiver *receiver, uint64_t counter)
{
    size_t low = 0u;
    size_t high = receiver->saved.remembered;

    while (low < high) {
        size_t middle = low + ((high - low) / 2u);
        if (receiver->memory.counters[middle] < counter) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

static verdict window_judge(const smt_receiver *receiver, uint64_t counter, uint32_t check)
{
    size_t place = window_place(receiver, counter);

    if ((place < receiver->saved.remembered) && (receiver->memory.counters[place] == counter)) {
        return (receiver->memory.checks[place] == check) ? VERDICT_REPLAY : VERDICT_REUSED;
    }
    return (counter < receiver->saved.floor) ? VERDICT_STALE : VERDICT_NEW;
}

/* Remembers a counter; the smallest makes room and raises the floor. */
static void window_accept(smt_receiver *receiver, uint64_t counter, uint32_t check)
{
    smt_memory *memory = &receiver->memory;
    size_t place = window_place(receiver, counter);
    size_t behind = receiver->saved.remembered - place;

    if ((counter < receiver->saved.floor) || (memory->window == 0u) ||
        ((behind > 0u) && (memory->counters[place] == counter))) {
        return;
    }
    if (receiver->saved.remembered < memory->window) {
        (void)memmove(&memory->counters[place + 1u], &memory->counters[place],
                      behind * sizeof(memory->counters[0]));
        (void)memmove(&memory->checks[place + 1u], &memory->checks[place],
                      behind * sizeof(memory->checks[0]));
        receiver->saved.remembered++;
    } else if (place == 0u) {
        /* It would be the smallest itself. */
        receiver->saved.floor = counter + 1u;
        return;
    } else {
        receiver->saved.floor = memory->counters[0] + 1u;
        place--;
        (void)memmove(&memory->counters[0], &memory->counters[1],
                      place * sizeof(memory->counters[0]));
        (void)memmove(&memory->checks[0], &memory->checks[1], place * sizeof(memory->checks[0]));
    }
    memory->counters[place] = counter;
    memory->checks[place] = check;
}

/* ---- Receiving over time -------------------------------------------------------------------- */

#define TAG_MASK 0xFFFFu
#define CONTROL_SLOT 256u

/* One call's parameters, handed down together. */
typedef struct call {
    smt_receiver *receiver;
    uint32_t now;
    smt_listener listener;
    void *context;
} call;

static void emit(const call *in, const smt_event *event)
{
    if (in->listener != NULL) {
        in->listener(in->context, event);
    }
}

static smt_event event_of(smt_event_kind kind, uint16_t slot, const smt_use *use)
{
    smt_event event;

    (void)memset(&event, 0, sizeof(event));
    event.kind = kind;
    event.control = slot >= CONTROL_SLOT;
    event.message_id = (uint8_t)(slot & 0xFFu);
    event.key = use->key;
    event.code = (smt_abort_code)use->code;
    event.detail = use->detail;
    return event;
}

static smt_partial *find_partial(const smt_receiver *receiver, uint16_t slot)
{
    size_t place;

    for (place = 0u; place <= receiver->memory.messages; place++) {
        smt_partial *partial = &receiver->memory.partials[place];
        if (partial->live && (partial->slot == slot)) {
            return partial;
        }
    }
    return NULL;
}

/* The live message that has been silent for longest; except is left out. */
static smt_partial *find_silent(const smt_receiver *receiver, const smt_partial *except)
{
    smt_partial *found = NULL;
    size_t place;

    for (place = 0u; place <= receiver->memory.messages; place++) {
        smt_partial *partial = &receiver->memory.partials[place];
        if (partial->live && (partial != except) &&
            ((found == NULL) || (partial->heard_at < found->heard_at))) {
            found = partial;
        }
    }
    return found;
}

/* Forgets what a message holds; how it ended stays known until its id is used again. */
static void end_message(const call *in, smt_partial *partial, smt_standing standing,
                        smt_abort_code code, uint32_t detail)
{
    smt_use *use = &in->receiver->memory.uses[partial->slot];

    smt_assembly_clear(&partial->assembly);
    partial->live = false;
    use->standing = (uint8_t)standing;
    use->code = (uint8_t)code;
    use->detail = detail;
}

static void give_up(const call *in, smt_partial *partial, smt_event_kind kind, smt_abort_code code)
{
    smt_event event;

    end_message(in, partial, SMT_ENDED, code, 0u);
    event = event_of(kind, partial->slot, &in->receiver->memory.uses[partial->slot]);
    emit(in, &event);
}

static void expire(const call *in)
{
    smt_receiver *receiver = in->receiver;
    size_t place;

    for (place = 0u; place <= receiver->memory.messages; place++) {
        smt_partial *partial = &receiver->memory.partials[place];
        if (partial->live && (in->now >= partial->started_at) &&
            ((in->now - partial->started_at) >= receiver->lifetime_s)) {
            give_up(in, partial, SMT_EVENT_EXPIRED, SMT_ABORT_EXPIRED);
        }
    }
}

static bool has_key(const smt_use *use, uint64_t key)
{
    return (((key - use->key) & TAG_MASK) == 0u) && (key >= use->lowest);
}

/*
 * Why a fragment is taken into no message; false: it joins the use, or begins a new one.
 * The table of the specification, row by row.
 */
static bool refusal(const smt_use *use, uint64_t key, verdict seen, smt_ignored *reason)
{
    bool refused = true;

    if (seen == VERDICT_REUSED) {
        *reason = SMT_IGNORED_COUNTER_REUSED;
    } else if (use->standing == (uint8_t)SMT_NEVER_USED) {
        *reason = SMT_IGNORED_STALE;
        refused = seen != VERDICT_NEW;
    } else if (has_key(use, key)) {
        if (use->standing == (uint8_t)SMT_PARTIAL) {
            refused = false;
        } else if (use->standing == (uint8_t)SMT_ENDED) {
            *reason = SMT_IGNORED_ENDED;
        } else {
            *reason = (seen == VERDICT_NEW) ? SMT_IGNORED_DELIVERED : SMT_IGNORED_REPLAY;
        }
    } else if (key > use->key) {
        refused = false;
    } else {
        *reason = (seen == VERDICT_REPLAY) ? SMT_IGNORED_REPLAY : SMT_IGNORED_OLDER_MESSAGE;
    }
    return refused;
}

static smt_answer answer_to(smt_ignored reason)
{
    switch (reason) {
    case SMT_IGNORED_NOT_A_FRAGMENT: /* somebody's own label, which is a success */
    case SMT_IGNORED_NOT_MINE:
    case SMT_IGNORED_REPLAY:
    case SMT_IGNORED_DUPLICATE:
    case SMT_IGNORED_DELIVERED:
        return SMT_ANSWER_SUCCESS;
    case SMT_IGNORED_STALE:
    case SMT_IGNORED_BUSY:
        return SMT_ANSWER_TEMPORARY_FAILURE;
    case SMT_IGNORED_ENDED:
    case SMT_IGNORED_OLDER_MESSAGE:
    case SMT_IGNORED_COUNTER_REUSED:
    default:
        return SMT_ANSWER_OTHER_REASON;
    }
}

static smt_answer ignore(const call *in, smt_ignored reason, uint16_t slot, const smt_use *use)
{
    static const smt_use none = {0u, 0u, 0u, 0u, 0u};
    smt_event event = event_of(SMT_EVENT_IGNORED, slot, (use != NULL) ? use : &none);

    event.reason = reason;
    emit(in, &event);
    return answer_to(reason);
}

static smt_abort_code code_of(smt_status error)
{
    switch (error) {
    case SMT_UNSUPPORTED_COMPRESSION:
        return SMT_ABORT_UNSUPPORTED_COMPRESSION;
    case SMT_FRAGMENT_CONFLICT:
        return SMT_ABORT_CONFLICT;
    case SMT_BASE64_ERROR:
        return SMT_ABORT_BASE64;
    case SMT_ZLIB_ERROR:
        return SMT_ABORT_ZLIB;
    case SMT_UNKNOWN_DICTIONARY:
        return SMT_ABORT_UNKNOWN_DICTIONARY;
    case SMT_WINDOW_TOO_LARGE:
        return SMT_ABORT_WINDOW_TOO_LARGE;
    case SMT_LIMIT_EXCEEDED:
        return SMT_ABORT_TOO_LONG;
    default:
        return SMT_ABORT_OTHER;
    }
}

static smt_answer reject(const call *in, smt_partial *partial, smt_status error,
                         uint32_t dictionary_id)
{
    const smt_decoding *decoding = &in->receiver->decoding;
    smt_abort_code code = code_of(error);
    uint32_t detail = 0u;
    smt_event event;

    if (code == SMT_ABORT_UNKNOWN_DICTIONARY) {
        detail = dictionary_id;
    } else if (code == SMT_ABORT_WINDOW_TOO_LARGE) {
        detail = decoding->window_bits;
    } else if (code == SMT_ABORT_TOO_LONG) {
        detail = (uint32_t)decoding->message_octets;
    } else {
        /* has no detail */
    }
    end_message(in, partial, SMT_ENDED, code, detail);
    event = event_of(SMT_EVENT_REJECTED, partial->slot, &in->receiver->memory.uses[partial->slot]);
    event.error = error;
    emit(in, &event);
    return SMT_ANSWER_OTHER_REASON;
}

/* Begins a new use of an id. There always is a free partial: one more than may be live. */
static smt_partial *begin(const call *in, uint16_t slot, uint64_t key)
{
    smt_receiver *receiver = in->receiver;
    smt_use *use = &receiver->memory.uses[slot];
    smt_partial *partial = find_partial(receiver, slot);
    uint64_t lowest = (use->standing == (uint8_t)SMT_NEVER_USED) ? 0u : (use->key + 1u);
    size_t place = 0u;
    size_t message_octets = receiver->decoding.message_octets;

    if (partial != NULL) {
        give_up(in, partial, SMT_EVENT_ABORTED, SMT_ABORT_OTHER);
    }
    while (receiver->memory.partials[place].live) {
        place++;
    }
    partial = &receiver->memory.partials[place];
    if (slot >= CONTROL_SLOT) {
        message_octets = SMT_MAX_CONTROL_OCTETS;
    }
    smt_assembly_init(&partial->assembly, &receiver->store, (uint16_t)(place + 1u),
                      message_octets);
    partial->slot = slot;
    partial->live = true;
    partial->started_at = in->now;
    (void)memset(use, 0, sizeof(*use));
    use->key = key;
    use->lowest = lowest;
    use->standing = (uint8_t)SMT_PARTIAL;
    return partial;
}

/* Keeps a fragment; other messages make room for it, those that are silent for longest first. */
static smt_status add_making_room(const call *in, smt_partial *partial,
                                  const smt_fragment *fragment)
{
    smt_status status = smt_assembly_add(&partial->assembly, fragment);
    smt_partial *silent = find_silent(in->receiver, partial);

    while ((status == SMT_NO_MEMORY) && (silent != NULL)) {
        give_up(in, silent, SMT_EVENT_ABORTED, SMT_ABORT_MEMORY);
        status = smt_assembly_add(&partial->assembly, fragment);
        silent = find_silent(in->receiver, partial);
    }
    return status;
}

static smt_status decode_whole(const call *in, const smt_partial *partial, size_t *count,
                               uint32_t *dictionary_id)
{
    smt_decoding decoding = in->receiver->decoding;
    smt_status status;

    if (partial->slot < CONTROL_SLOT) {
        return smt_assembly_decode(&partial->assembly, &decoding, count, dictionary_id);
    }
    if (decoding.message_octets > SMT_MAX_CONTROL_OCTETS) {
        decoding.message_octets = SMT_MAX_CONTROL_OCTETS;
    }
    status = smt_assembly_decode(&partial->assembly, &decoding, count, dictionary_id);
    return (status == SMT_OK) ? smt_control_check(decoding.message, *count) : status;
}

static void tell_accepted(const call *in, const smt_partial *partial, const smt_header *header)
{
    smt_event event =
        event_of(SMT_EVENT_ACCEPTED, partial->slot, &in->receiver->memory.uses[partial->slot]);

    event.index = header->index;
    event.last = header->last;
    emit(in, &event);
}

static smt_answer add(const call *in, smt_partial *partial, const smt_fragment *fragment,
                      bool fresh)
{
    smt_receiver *receiver = in->receiver;
    const smt_use *use = &receiver->memory.uses[partial->slot];
    size_t count = 0u;
    uint32_t dictionary_id = 0u;
    smt_status status = add_making_room(in, partial, fragment);
    bool whole = (status == SMT_OK) && smt_assembly_complete(&partial->assembly);
    smt_partial *silent;
    smt_event event;
    size_t live = 0u;
    size_t place;

    if (status == SMT_DUPLICATE) {
        return ignore(in, fresh ? SMT_IGNORED_DUPLICATE : SMT_IGNORED_REPLAY, partial->slot, use);
    }
    if (whole) {
        status = decode_whole(in, partial, &count, &dictionary_id);
    }
    if (status == SMT_NO_MEMORY) {
        give_up(in, partial, SMT_EVENT_ABORTED, SMT_ABORT_MEMORY);
        return SMT_ANSWER_OTHER_REASON;
    }
    if (status != SMT_OK) {
        return reject(in, partial, status, dictionary_id);
    }
    partial->heard_at = in->now;
    tell_accepted(in, partial, &fragment->header);
    if (whole) {
        end_message(in, partial, SMT_DELIVERED, SMT_ABORT_OTHER, 0u);
        event = event_of((partial->slot >= CONTROL_SLOT) ? SMT_EVENT_CONTROL : SMT_EVENT_MESSAGE,
                         partial->slot, use);
        event.octets = receiver->decoding.message;
        event.count = count;
        emit(in, &event);
        return SMT_ANSWER_SUCCESS;
    }
    for (place = 0u; place <= receiver->memory.messages; place++) {
        live += receiver->memory.partials[place].live ? 1u : 0u;
    }
    silent = find_silent(receiver, partial);
    if ((live > receiver->memory.messages) && (silent != NULL)) {
        give_up(in, silent, SMT_EVENT_ABORTED, SMT_ABORT_TOO_MANY_PARTIAL);
    }
    return SMT_ANSWER_SUCCESS;
}

/* A fragment of the other end, with a key that is not below zero. */
static smt_answer receive_fragment(const call *in, const smt_fragment *fragment,
                                   uint64_t originator_counter, bool busy)
{
    smt_receiver *receiver = in->receiver;
    const smt_header *header = &fragment->header;
    bool control = header->compression == (uint8_t)SMT_COMPRESSION_CONTROL;
    uint16_t slot = (uint16_t)(header->message_id + (control ? CONTROL_SLOT : 0u));
    smt_use *use = &receiver->memory.uses[slot];
    uint64_t key = originator_counter - header->index;
    smt_partial *partial = NULL;
    uint8_t octets[SMT_HEADER_OCTETS] = {0u, 0u, 0u};
    smt_ignored reason;
    uint32_t check;
    verdict seen;
    bool held;

    (void)smt_header_pack(header, octets);
    check = smt_crc32(smt_crc32(0u, octets, sizeof(octets)), fragment->body,
                      fragment->body_octets);
    seen = window_judge(receiver, originator_counter, check);
    if (refusal(use, key, seen, &reason)) {
        bool ended = (reason == SMT_IGNORED_DELIVERED) || (reason == SMT_IGNORED_ENDED);
        if (ended && (seen == VERDICT_NEW)) {
            /* So that whoever repeats it is not taken for the sender. */
            window_accept(receiver, originator_counter, check);
        }
        return ignore(in, reason, slot, ended ? use : NULL);
    }
    if ((use->standing == (uint8_t)SMT_PARTIAL) && has_key(use, key)) {
        partial = find_partial(receiver, slot);
    }
    held = (partial != NULL) && (find_piece(&receiver->store, partial->assembly.owner,
                                            header->index) < receiver->store.count);
    if (busy && !control && !held) {
        return ignore(in, SMT_IGNORED_BUSY, slot, NULL);
    }
    if (partial == NULL) {
        partial = begin(in, slot, key);
    }
    window_accept(receiver, originator_counter, check);
    return add(in, partial, fragment, seen == VERDICT_NEW);
}

smt_answer smt_receive(smt_receiver *receiver, const uint8_t *payload, size_t octets,
                       uint64_t originator_counter, uint32_t now, bool busy, smt_listener listener,
                       void *context)
{
    call in = {receiver, now, listener, context};
    smt_fragment fragment;

    expire(&in);
    if ((smt_parse_payload(&receiver->carrier, payload, octets, &fragment) != SMT_OK) ||
        (fragment.header.index > originator_counter)) {
        return ignore(&in, SMT_IGNORED_NOT_A_FRAGMENT, 0u, NULL);
    }
    if (fragment.header.originator != receiver->originator) {
        return ignore(&in, SMT_IGNORED_NOT_MINE, 0u, NULL);
    }
    return receive_fragment(&in, &fragment, originator_counter, busy);
}

void smt_receiver_time(smt_receiver *receiver, uint32_t now, smt_listener listener, void *context)
{
    call in = {receiver, now, listener, context};

    expire(&in);
}

bool smt_receiver_abort(smt_receiver *receiver, uint8_t message_id, smt_abort_code code,
                        smt_listener listener, void *context)
{
    call in = {receiver, 0u, listener, context};
    smt_partial *partial = find_partial(receiver, message_id);

    if (partial == NULL) {
        return false;
    }
    give_up(&in, partial, SMT_EVENT_ABORTED, code);
    return true;
}

static void receiver_attach(smt_receiver *receiver, const smt_carrier *carrier,
                            smt_originator originator, uint32_t lifetime_s,
                            const smt_memory *memory, const smt_decoding *decoding)
{
    (void)memset(receiver, 0, sizeof(*receiver));
    receiver->carrier = *carrier;
    receiver->originator = (uint8_t)originator;
    receiver->lifetime_s = lifetime_s;
    receiver->memory = *memory;
    receiver->decoding = *decoding;
    receiver->store.pieces = memory->pieces;
    receiver->store.bodies = memory->bodies;
    receiver->store.count = memory->fragments;
    receiver->store.body_octets = smt_body_capacity(carrier);
}

void smt_receiver_init(smt_receiver *receiver, const smt_carrier *carrier,
                       smt_originator originator, uint32_t lifetime_s, const smt_memory *memory,
                       const smt_decoding *decoding)
{
    receiver_attach(receiver, carrier, originator, lifetime_s, memory, decoding);
    (void)memset(memory->pieces, 0, memory->fragments * sizeof(memory->pieces[0]));
    (void)memset(memory->partials, 0, (memory->messages + 1u) * sizeof(memory->partials[0]));
    (void)memset(memory->uses, 0, SMT_SLOTS * sizeof(memory->uses[0]));
}

void smt_receiver_resume(smt_receiver *receiver, const smt_carrier *carrier,
                         smt_originator originator, uint32_t lifetime_s, const smt_memory *memory,
                         const smt_decoding *decoding, const smt_saved *saved)
{
    size_t place;

    receiver_attach(receiver, carrier, originator, lifetime_s, memory, decoding);
    receiver->saved = *saved;
    for (place = 0u; place <= memory->messages; place++) {
        memory->partials[place].assembly.store = &receiver->store;
    }
}
