/*
 * The tunnel protocol for embedded devices: fragments to messages and back.
 *
 * C99. No allocation, no input or output, no clock, no state but what the caller owns; of the C
 * library only memcpy, memmove, memcmp and memset. Section numbers are those of
 * ../tunnel-protocol.md.
 *
 * Sizes. All memory is the caller's, given as arrays:
 *   - one smt_piece and one body (106 octets on ECS46a) for each fragment that may be held;
 *   - one smt_partial for each incomplete message, and one more;
 *   - 12 octets for each counter of the replay window;
 *   - 512 smt_use: 12288 octets;
 *   - one buffer for a whole message, which also is the limit of a message's size.
 * The stack takes less than 1024 octets below any function of this file (gcc -Os, 64 bits), without
 * what the inflater and the listener take.
 *
 * Nothing here is safe to be called from two threads at once for the same object.
 */
#ifndef SMTUNNEL_H
#define SMTUNNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SMT_HEADER_OCTETS 3u
#define SMT_HEADER_CHARS 4u
#define SMT_MAX_INDEX 2047u
#define SMT_MAX_FRAGMENTS 2048u
#define SMT_LABEL_CHARS 22u
#define SMT_MAX_LABELS 5u
#define SMT_MIN_WINDOW_BITS 9u
#define SMT_MAX_WINDOW_BITS 15u

/* What a zlib stream without compression has beside the message: header, check, and the
 * blocks' headers, one for each 65535 octets begun. */
#define SMT_STORED_OCTETS(message_octets) \
    ((message_octets) + 6u + (5u * (((message_octets) / 65535u) + 1u)))

typedef enum smt_status {
    SMT_OK = 0,
    SMT_DUPLICATE,               /* not an error: this very fragment is here already */
    SMT_INCOMPLETE,              /* not an error: fragments are missing */
    SMT_NOT_A_FRAGMENT,          /* section 6 */
    SMT_UNSUPPORTED_COMPRESSION, /* section 7 */
    SMT_FRAGMENT_CONFLICT,       /* section 7 */
    SMT_BASE64_ERROR,            /* section 4.4 */
    SMT_ZLIB_ERROR,              /* section 4.2 */
    SMT_UNKNOWN_DICTIONARY,      /* section 4.2 */
    SMT_WINDOW_TOO_LARGE,        /* section 4.2 */
    SMT_LIMIT_EXCEEDED,          /* section 8 */
    SMT_CONTROL_INVALID,         /* control records */
    SMT_NO_MEMORY,               /* no free piece: try again when a message has ended */
    SMT_MESSAGE_TOO_LONG,        /* sending: more than 2048 fragments, or a buffer too small */
    SMT_LOCAL_ERROR              /* an argument is out of range */
} smt_status;

typedef enum smt_originator { SMT_FROM_DSRSP = 0, SMT_FROM_CEM = 1 } smt_originator;

typedef enum smt_compression {
    SMT_COMPRESSION_NONE = 0,
    SMT_COMPRESSION_ZLIB = 1,
    SMT_COMPRESSION_RESERVED = 2,
    SMT_COMPRESSION_CONTROL = 3
} smt_compression;

/* ---- Carriers and headers: sections 2 and 3 ------------------------------------------------ */

typedef struct smt_carrier {
    uint16_t capacity; /* characters if printable, else octets */
    bool printable;
} smt_carrier;

extern const smt_carrier smt_ecs46a; /* down: 110 characters, of them 106 body */
extern const smt_carrier smt_ecs200; /* up: 1062 characters, of them 1058 body */

typedef struct smt_header {
    uint8_t originator;  /* smt_originator */
    uint8_t compression; /* smt_compression */
    bool base64;
    bool last;
    uint16_t index;      /* 0 to 2047 */
    uint8_t message_id;
} smt_header;

/* Characters or octets of a fragment's body on this carrier. */
size_t smt_body_capacity(const smt_carrier *carrier);

/* Builds the three octets. SMT_LOCAL_ERROR: a field is out of range. */
smt_status smt_header_pack(const smt_header *header, uint8_t octets[SMT_HEADER_OCTETS]);

/* Reads three octets: every value has a meaning. */
void smt_header_unpack(const uint8_t octets[SMT_HEADER_OCTETS], smt_header *header);

/* Builds the four characters of a header on a printable carrier. */
smt_status smt_header_encode(const smt_header *header, uint8_t text[SMT_HEADER_CHARS]);

/* Reads a header's text. SMT_NOT_A_FRAGMENT: not four characters of the base64 alphabet. */
smt_status smt_header_decode(const uint8_t *text, size_t chars, smt_header *header);

/* One fragment as read; body points into the payload. */
typedef struct smt_fragment {
    smt_header header;
    const uint8_t *body;
    size_t body_octets;
} smt_fragment;

/* Reads one payload as far as it can be judged alone. SMT_NOT_A_FRAGMENT: section 6, step 1. */
smt_status smt_parse_payload(const smt_carrier *carrier, const uint8_t *payload, size_t octets,
                             smt_fragment *fragment);

/* ---- Labels of ECS46a: section 2 ----------------------------------------------------------- */

typedef struct smt_label {
    uint8_t number; /* 1 to 5 */
    size_t chars;
    const uint8_t *text;
} smt_label;

/* Joins labels. Returns false, and writes nothing, if they are somebody's own: no tunnel. */
bool smt_labels_join(const smt_label *labels, size_t count,
                     uint8_t payload[SMT_MAX_LABELS * SMT_LABEL_CHARS], size_t *octets);

/* Spreads a payload; the labels point into it. SMT_LOCAL_ERROR: it does not fit. */
smt_status smt_labels_split(const uint8_t *payload, size_t octets, smt_label labels[SMT_MAX_LABELS],
                            size_t *count);

/* ---- Sending: sections 4 and 5 ------------------------------------------------------------- */

/* A message on its way: its stream, which stays the caller's, and how it is cut. */
typedef struct smt_outgoing {
    smt_carrier carrier;
    smt_header header; /* of fragment 0 */
    const uint8_t *stream;
    size_t stream_octets;
    uint16_t fragments; /* 1 to 2048 */
} smt_outgoing;

/*
 * Prepares a stream for sending: the message itself (SMT_COMPRESSION_NONE, one fragment only), a
 * zlib stream of it, or a control message. SMT_MESSAGE_TOO_LONG: it needs more fragments.
 */
smt_status smt_outgoing_init(smt_outgoing *outgoing, const smt_carrier *carrier,
                             smt_originator originator, smt_compression compression,
                             uint8_t message_id, const uint8_t *stream, size_t stream_octets);

/*
 * Writes the payload of one fragment; any one, in any order, as often as needed.
 * payload has room for the carrier's capacity. SMT_LOCAL_ERROR: there is no such fragment.
 */
smt_status smt_outgoing_payload(const smt_outgoing *outgoing, uint16_t index, uint8_t *payload,
                                size_t *octets);

/* The most octets that one fragment takes as they are; longer messages need a zlib stream. */
size_t smt_plain_octets(const smt_carrier *carrier);

/*
 * Builds a zlib stream without compression, for senders that have no compressor.
 * capacity: at least SMT_STORED_OCTETS(octets), else SMT_MESSAGE_TOO_LONG.
 */
smt_status smt_stored_stream(const uint8_t *message, size_t octets, uint8_t *stream,
                             size_t capacity, size_t *stream_octets);

/* ---- Inflating: the caller's part ---------------------------------------------------------- */

typedef enum smt_inflate_result {
    SMT_INFLATE_MORE,    /* all input taken, the stream goes on */
    SMT_INFLATE_END,     /* the final block has ended; input behind it is not taken */
    SMT_INFLATE_FULL,    /* there is more output than room */
    SMT_INFLATE_CORRUPT
} smt_inflate_result;

/*
 * An inflater of raw DEFLATE data (RFC 1951). This library reads zlib's header and checks the
 * Adler-32 itself. Output of one stream goes to consecutive places of one buffer, so an inflater
 * may use what it wrote as its window.
 */
typedef struct smt_inflater {
    void *context; /* given to each function */

    /*
     * Begins a stream that needs a window of 2^window_bits octets and refers to a preset
     * dictionary (none: 0 octets). Returns false if it cannot; then nothing else is called.
     */
    bool (*begin)(void *context, uint8_t window_bits, const uint8_t *dictionary,
                  size_t dictionary_octets);

    /*
     * Takes input and writes at most *out_octets octets.
     * in_octets: in: how many there are; out: how many were taken.
     * out_octets: in: the room; out: how many were written.
     */
    smt_inflate_result (*inflate)(void *context, const uint8_t *in, size_t *in_octets, uint8_t *out,
                                  size_t *out_octets);

    /* Ends a stream that was begun, whole or not. */
    void (*end)(void *context);
} smt_inflater;

typedef struct smt_dictionary {
    uint32_t id; /* its Adler-32: the DICTID */
    const uint8_t *octets;
    size_t count;
} smt_dictionary;

/* How a receiver decodes; what the pointers point at stays the caller's. */
typedef struct smt_decoding {
    smt_inflater inflater;
    const smt_dictionary *dictionaries;
    size_t dictionary_count;
    uint8_t window_bits;    /* the largest zlib window that is taken, 9 to 15 */
    uint8_t *message;       /* where a message is decoded to */
    size_t message_octets;  /* its size: the largest message that is taken */
} smt_decoding;

/* ---- Collecting the fragments of one message: section 7 ------------------------------------ */

typedef struct smt_piece {
    uint16_t owner;  /* which assembly holds it; 0: free */
    uint16_t index;
    uint16_t octets;
} smt_piece;

/* Fragments' bodies of any number of messages. */
typedef struct smt_store {
    smt_piece *pieces;  /* count of them */
    uint8_t *bodies;    /* count times body_octets */
    size_t count;
    size_t body_octets; /* smt_body_capacity of the carrier */
} smt_store;

/* Makes a store of the caller's arrays; all pieces are free. */
void smt_store_init(smt_store *store, const smt_carrier *carrier, smt_piece *pieces,
                    uint8_t *bodies, size_t count);

/* One message that is being collected. */
typedef struct smt_assembly {
    smt_store *store;
    uint16_t owner;        /* marks its pieces in the store */
    uint8_t kind;          /* the header's first four bits, the same in all fragments */
    bool begun;            /* kind is known */
    bool last_known;
    uint16_t last_index;   /* if last_known */
    uint16_t highest;      /* the highest index here, if any is */
    uint16_t fragments;    /* how many are here */
    size_t octets;         /* their bodies */
    size_t max_octets;     /* the most that they may have */
} smt_assembly;

/*
 * Begins a message. owner: not 0, and of no other assembly that uses the store.
 * message_octets: the largest message that is taken.
 */
void smt_assembly_init(smt_assembly *assembly, smt_store *store, uint16_t owner,
                       size_t message_octets);

/*
 * Takes one fragment; its body is copied.
 * SMT_OK: new. SMT_DUPLICATE: here already. SMT_NO_MEMORY: not taken, nothing changed. Every other
 * status ends the message: smt_assembly_clear is all that may follow.
 */
smt_status smt_assembly_add(smt_assembly *assembly, const smt_fragment *fragment);

/* True when every fragment is here. */
bool smt_assembly_complete(const smt_assembly *assembly);

/*
 * Decodes a whole message to decoding->message.
 * octets: how many it has. dictionary_id: with SMT_UNKNOWN_DICTIONARY, the DICTID.
 */
smt_status smt_assembly_decode(const smt_assembly *assembly, const smt_decoding *decoding,
                               size_t *octets, uint32_t *dictionary_id);

/* Gives the pieces back to the store. */
void smt_assembly_clear(smt_assembly *assembly);

/* ---- Control records ------------------------------------------------------------------------ */

#define SMT_MAX_CONTROL_OCTETS 4096u
#define SMT_MAX_DICTIONARIES 32u

typedef enum smt_record_kind {
    SMT_RECORD_RECEIPT = 1,             /* names */
    SMT_RECORD_MISSING = 2,             /* one name, ranges */
    SMT_RECORD_ABORT = 3,               /* one name, smt_record_abort */
    SMT_RECORD_ECHO_REQUEST = 4,        /* body: nonce(8), 0 to 64 octets more */
    SMT_RECORD_ECHO_REPLY = 5,          /* body: that of the request */
    SMT_RECORD_CAPABILITIES = 6,        /* smt_record_capabilities */
    SMT_RECORD_CAPABILITIES_WANTED = 7, /* no body */
    SMT_RECORD_ROUTE_OFFER = 8,         /* body: offer(4); smt_record_field */
    SMT_RECORD_ROUTE_ANSWER = 9,        /* body: offer(4), status(1) */
    SMT_RECORD_ROUTE_WITHDRAWN = 10,    /* body: offer(4) */
    SMT_RECORD_CONTROL_RECEIPT = 11,    /* names, of control messages */
    SMT_RECORD_CANCELLED = 12           /* one name */
} smt_record_kind;

#define SMT_ROUTE_ADDRESS 1u       /* URI, printable ASCII; 1 to 8 of them, best first */
#define SMT_ROUTE_PIN 2u           /* SHA-256 of a certificate; 1 to 4 of them */
#define SMT_ROUTE_NOT_BEFORE 3u    /* seconds since 1970, 8 octets */
#define SMT_ROUTE_NOT_AFTER 4u     /* the same */
#define SMT_ROUTE_VERSIONS 5u      /* an octet each, rising */
#define SMT_ROUTE_MESSAGE_OCTETS 6u /* 4 octets */

/* Why a message ended without being delivered, as its sender is told in an abort record. */
typedef enum smt_abort_code {
    SMT_ABORT_OTHER = 0,
    SMT_ABORT_BASE64 = 1,
    SMT_ABORT_ZLIB = 2,
    SMT_ABORT_UNKNOWN_DICTIONARY = 3,      /* detail: the DICTID */
    SMT_ABORT_WINDOW_TOO_LARGE = 4,        /* detail: the largest window bits taken */
    SMT_ABORT_TOO_LONG = 5,                /* detail: the largest message taken, in octets */
    SMT_ABORT_CONFLICT = 6,
    SMT_ABORT_UNSUPPORTED_COMPRESSION = 7,
    SMT_ABORT_EXPIRED = 8,
    SMT_ABORT_TOO_MANY_PARTIAL = 9,
    SMT_ABORT_MEMORY = 10,
    SMT_ABORT_WITHDRAWN = 11
} smt_abort_code;

typedef struct smt_record {
    uint8_t kind; /* smt_record_kind, or one of a later version */
    const uint8_t *body;
    size_t octets;
} smt_record;

typedef struct smt_name {
    uint8_t message_id;
    uint32_t key32; /* the low 32 bits of one of the message's keys */
} smt_name;

typedef struct smt_range {
    uint16_t start;
    uint16_t count; /* 0: all from start on */
} smt_range;

typedef struct smt_capabilities {
    uint8_t version;
    uint8_t receipts; /* 0 off, 1 batched, 2 each */
    uint8_t window_bits;
    uint8_t partial_messages;
    uint32_t message_octets;
    uint32_t dictionaries[SMT_MAX_DICTIONARIES]; /* rising */
    size_t dictionary_count;
} smt_capabilities;

/* Reads a control message from its octets. */
typedef struct smt_records {
    const uint8_t *octets;
    size_t left;
} smt_records;

/* SMT_CONTROL_INVALID: the CRC-32, a length, or any record is wrong. The receiver calls it. */
smt_status smt_control_check(const uint8_t *octets, size_t count);

/* Begins to read a message that smt_control_check has passed. */
void smt_control_begin(smt_records *records, const uint8_t *octets, size_t count);

/* Reads the next record; false: there is none. Skip what smt_record_known does not know. */
bool smt_control_next(smt_records *records, smt_record *record);
bool smt_record_known(const smt_record *record);

/* What a valid record of a fitting kind says; false: there are not so many. */
bool smt_record_name(const smt_record *record, size_t place, smt_name *name);
bool smt_record_range(const smt_record *record, size_t place, smt_range *range);
void smt_record_abort(const smt_record *record, smt_abort_code *code, uint32_t *detail);
void smt_record_capabilities(const smt_record *record, smt_capabilities *capabilities);
bool smt_record_field(const smt_record *record, uint8_t tag, size_t place, const uint8_t **value,
                      size_t *count);

/* Builds a control message. */
typedef struct smt_writer {
    uint8_t *octets;
    size_t capacity;
    size_t written;
    size_t records;
} smt_writer;

/* Begins one of at most capacity octets; 79 fit one fragment of ECS46a, 792 one of ECS200. */
void smt_control_write(smt_writer *writer, uint8_t *octets, size_t capacity);

/*
 * Adds a record. SMT_MESSAGE_TOO_LONG: no room, nothing changed. SMT_LOCAL_ERROR: not valid.
 */
smt_status smt_write_record(smt_writer *writer, const smt_record *record);
smt_status smt_write_abort(smt_writer *writer, const smt_name *name, smt_abort_code code,
                           uint32_t detail);
smt_status smt_write_capabilities(smt_writer *writer, const smt_capabilities *capabilities);

/* Adds the CRC-32: octets are then ready for smt_outgoing_init. SMT_LOCAL_ERROR: no record. */
smt_status smt_control_finish(smt_writer *writer, size_t *octets);

/* ---- Receiving over time: which message a fragment is of ------------------------------------ */

#define SMT_SLOTS 512u /* 256 ids of data messages, then 256 of control messages */

typedef enum smt_standing {
    SMT_NEVER_USED = 0,
    SMT_PARTIAL,
    SMT_DELIVERED,
    SMT_ENDED /* without being delivered */
} smt_standing;

/* The newest use of one message id. */
typedef struct smt_use {
    uint64_t key;     /* originator counter minus index, of the fragment that came first */
    uint64_t lowest;  /* no smaller key is of this use */
    uint32_t detail;  /* of code */
    uint8_t standing; /* smt_standing */
    uint8_t code;     /* smt_abort_code, if SMT_ENDED */
} smt_use;

/* A message that lacks fragments. */
typedef struct smt_partial {
    smt_assembly assembly;
    uint32_t started_at; /* seconds, on the caller's clock */
    uint32_t heard_at;
    uint16_t slot;
    bool live;
} smt_partial;

/*
 * The memory of a receiver; all arrays are the caller's. What must survive a restart is what they
 * hold, and `saved`: write them to durable memory before a fragment is answered.
 */
typedef struct smt_memory {
    smt_piece *pieces;       /* fragments of them */
    uint8_t *bodies;         /* fragments times smt_body_capacity */
    size_t fragments;
    smt_partial *partials;   /* messages + 1 of them */
    size_t messages;         /* how many incomplete messages are held */
    uint64_t *counters;      /* window of them: the replay window */
    uint32_t *checks;        /* window of them */
    size_t window;
    smt_use *uses;           /* SMT_SLOTS of them */
} smt_memory;

typedef struct smt_saved {
    uint64_t floor;      /* counters below are too old to be judged */
    uint32_t remembered; /* how many counters are in the window */
} smt_saved;

/* One peer's fragments and messages. A CEM has one: for its DSRSP. */
typedef struct smt_receiver {
    smt_carrier carrier;
    uint8_t originator; /* whose fragments are taken: the other end's */
    uint32_t lifetime_s; /* from a message's first fragment to its expiry */
    smt_memory memory;
    smt_decoding decoding;
    smt_saved saved;
    smt_store store;
} smt_receiver;

typedef enum smt_event_kind {
    SMT_EVENT_ACCEPTED, /* a new fragment of a live message: index, last */
    SMT_EVENT_IGNORED,  /* reason; of ENDED: code and detail too */
    SMT_EVENT_MESSAGE,  /* a data message is whole: octets, count */
    SMT_EVENT_CONTROL,  /* a control message is whole and valid: octets, count */
    SMT_EVENT_REJECTED, /* error, code, detail: its fragments are wrong, or make no message */
    SMT_EVENT_EXPIRED,  /* fragments were missing for too long */
    SMT_EVENT_ABORTED   /* code; superseded has SMT_ABORT_OTHER */
} smt_event_kind;

typedef enum smt_ignored {
    SMT_IGNORED_NOT_A_FRAGMENT,
    SMT_IGNORED_NOT_MINE,
    SMT_IGNORED_REPLAY,
    SMT_IGNORED_DUPLICATE,
    SMT_IGNORED_DELIVERED,
    SMT_IGNORED_ENDED,
    SMT_IGNORED_OLDER_MESSAGE,
    SMT_IGNORED_COUNTER_REUSED,
    SMT_IGNORED_STALE,
    SMT_IGNORED_BUSY
} smt_ignored;

/* What happened. Members that the kind does not name are zero. */
typedef struct smt_event {
    smt_event_kind kind;
    bool control;        /* of a control message */
    uint8_t message_id;
    uint64_t key;        /* names the message, with the id */
    uint16_t index;
    bool last;
    smt_ignored reason;
    smt_status error;
    smt_abort_code code;
    uint32_t detail;
    const uint8_t *octets; /* valid until the listener returns */
    size_t count;
} smt_event;

typedef void (*smt_listener)(void *context, const smt_event *event);

/* The result that an ECS46a with this fragment is answered with. */
typedef enum smt_answer {
    SMT_ANSWER_SUCCESS = 0x00,
    SMT_ANSWER_TEMPORARY_FAILURE = 0x02, /* the sender tries again later */
    SMT_ANSWER_OTHER_REASON = 0xFA
} smt_answer;

/*
 * Begins knowing nothing. The receiver keeps pointers to what memory and decoding point at.
 * decoding->message_octets is the largest message that is taken.
 */
void smt_receiver_init(smt_receiver *receiver, const smt_carrier *carrier,
                       smt_originator originator, uint32_t lifetime_s, const smt_memory *memory,
                       const smt_decoding *decoding);

/*
 * Goes on after a restart: memory's arrays hold what they held, at any address.
 * Only for octets that this very program, on this very device, has saved.
 */
void smt_receiver_resume(smt_receiver *receiver, const smt_carrier *carrier,
                         smt_originator originator, uint32_t lifetime_s, const smt_memory *memory,
                         const smt_decoding *decoding, const smt_saved *saved);

/*
 * Takes one payload, whose carrier message has been authenticated.
 * originator_counter: of that message. now: seconds, on a clock that never runs backwards.
 * busy: take nothing new of data messages at the moment.
 * Exactly one event tells the fragment's own outcome: ACCEPTED, IGNORED, REJECTED, or ABORTED of its
 * own message where there is no memory even without all others. The answer is to be given after all that the
 * events told has been stored durably; if that fails, answer SMT_ANSWER_TEMPORARY_FAILURE and
 * go back to what was saved.
 */
smt_answer smt_receive(smt_receiver *receiver, const uint8_t *payload, size_t octets,
                       uint64_t originator_counter, uint32_t now, bool busy, smt_listener listener,
                       void *context);

/* Ends the messages whose time is over. */
void smt_receiver_time(smt_receiver *receiver, uint32_t now, smt_listener listener, void *context);

/* Ends a live data message; what comes of it is ignored. Returns false if there is none. */
bool smt_receiver_abort(smt_receiver *receiver, uint8_t message_id, smt_abort_code code,
                        smt_listener listener, void *context);

/* ---- Checks, as others need them too ------------------------------------------------------- */

/* Adler-32 of RFC 1950, continued from a value; begin with 1. */
uint32_t smt_adler32(uint32_t value, const uint8_t *octets, size_t count);

/* CRC-32 of RFC 1952, continued from a value; begin with 0. */
uint32_t smt_crc32(uint32_t value, const uint8_t *octets, size_t count);

#endif
