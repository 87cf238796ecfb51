/* Requests about a receiver over time: one smt_receiver for each peer. */
#include "target.h"

#include <stdio.h>
#include <string.h>

#define MAX_PEERS 4u
#define SESSION_FRAGMENTS 128u
#define SESSION_MESSAGES 8u
#define SESSION_WINDOW 256u

typedef struct peer_memory {
    smt_piece pieces[SESSION_FRAGMENTS];
    uint8_t bodies[SESSION_FRAGMENTS * MAX_CAPACITY];
    smt_partial partials[SESSION_MESSAGES + 1u];
    uint64_t counters[SESSION_WINDOW];
    uint32_t checks[SESSION_WINDOW];
    smt_use uses[SMT_SLOTS];
} peer_memory;

typedef struct peer {
    char name[32];
    peer_memory memory;
    smt_receiver receiver;
} peer;

static peer peers[MAX_PEERS];
static size_t peer_count;
static peer_memory durable; /* what a restart leaves of one peer */

static struct {
    bool begun;
    smt_carrier carrier;
    smt_originator originator;
    size_t partial_messages;
    size_t peers;
    uint32_t lifetime_s;
    size_t replay_window;
} limits;
static smt_decoding session_decoding;

static const char *ignored_name(smt_ignored reason)
{
    static const char *const names[] = {
        "not-a-fragment", "not-mine", "replay", "duplicate", "delivered", "ended",
        "older-message", "counter-reused", "stale", "busy",
    };
    return names[reason];
}

static const char *aborted_name(smt_abort_code code)
{
    switch (code) {
    case SMT_ABORT_TOO_MANY_PARTIAL: return "too-many-partial";
    case SMT_ABORT_MEMORY: return "memory";
    case SMT_ABORT_WITHDRAWN: return "by-caller";
    default: return "superseded";
    }
}

static void print_message(const smt_event *event)
{
    printf(",%c,%u,%llu", event->control ? 'c' : 'd', event->message_id,
           (unsigned long long)event->key);
}

static void print_ignored(const smt_event *event)
{
    printf(" ignored,%s", ignored_name(event->reason));
    if (event->reason == SMT_IGNORED_DUPLICATE || event->reason == SMT_IGNORED_DELIVERED) {
        print_message(event);
    } else if (event->reason == SMT_IGNORED_ENDED) {
        print_message(event);
        printf(",%d,%lu", (int)event->code, (unsigned long)event->detail);
    } else {
        /* of no message */
    }
}

static void print_event(void *context, const smt_event *event)
{
    (void)context;
    switch (event->kind) {
    case SMT_EVENT_ACCEPTED:
        printf(" accepted");
        print_message(event);
        printf(",%u,%u", event->index, event->last ? 1u : 0u);
        break;
    case SMT_EVENT_IGNORED:
        print_ignored(event);
        break;
    case SMT_EVENT_MESSAGE:
        printf(" message,%u,%llu,", event->message_id, (unsigned long long)event->key);
        print_digits(event->octets, event->count);
        break;
    case SMT_EVENT_CONTROL:
        printf(" control,%u,%llu,%lu,%lu", event->message_id, (unsigned long long)event->key,
               (unsigned long)count_records(event->octets, event->count, true),
               (unsigned long)count_records(event->octets, event->count, false));
        break;
    case SMT_EVENT_REJECTED:
        printf(" rejected");
        print_message(event);
        printf(",%s", error_name(event->error));
        break;
    case SMT_EVENT_EXPIRED:
        printf(" expired");
        print_message(event);
        break;
    case SMT_EVENT_ABORTED:
    default:
        printf(" aborted");
        print_message(event);
        printf(",%s", aborted_name(event->code));
        break;
    }
}

static smt_memory memory_of(peer *of)
{
    smt_memory memory;

    memory.pieces = of->memory.pieces;
    memory.bodies = of->memory.bodies;
    memory.fragments = SESSION_FRAGMENTS;
    memory.partials = of->memory.partials;
    memory.messages = limits.partial_messages;
    memory.counters = of->memory.counters;
    memory.checks = of->memory.checks;
    memory.window = limits.replay_window;
    memory.uses = of->memory.uses;
    return memory;
}

smt_status session(char **words)
{
    wide numbers[7];
    size_t place;

    limits.begun = false;
    if (!read_carrier(words[0], &limits.carrier)) {
        return SMT_LOCAL_ERROR;
    }
    for (place = 0u; place < 7u; place++) {
        if (!read_number(words[place + 1u], 0xFFFFFFFFul, &numbers[place])) {
            return SMT_LOCAL_ERROR;
        }
    }
    if (numbers[0] > 1u || numbers[1] > MAX_MESSAGE || numbers[2] > SMT_MAX_WINDOW_BITS ||
        numbers[3] < 1u || numbers[3] > SESSION_MESSAGES || numbers[4] > MAX_PEERS ||
        numbers[6] < 1u || numbers[6] > SESSION_WINDOW) {
        printf(" beyond");
        return SMT_OK;
    }
    limits.begun = true;
    limits.originator = (smt_originator)numbers[0];
    limits.partial_messages = (size_t)numbers[3];
    limits.peers = (size_t)numbers[4];
    limits.lifetime_s = (uint32_t)numbers[5];
    limits.replay_window = (size_t)numbers[6];
    session_decoding = decoding_of((size_t)numbers[1], (uint8_t)numbers[2]);
    peer_count = 0u;
    printf(" ok");
    return SMT_OK;
}

static peer *known_peer(const char *name)
{
    size_t place;

    for (place = 0u; place < peer_count; place++) {
        if (strcmp(peers[place].name, name) == 0) {
            return &peers[place];
        }
    }
    return NULL;
}

/* Makes room for a peer that is not known; NULL if there is none. */
static peer *new_peer(const char *name)
{
    smt_memory memory;
    size_t place = peer_count;

    if (peer_count >= limits.peers || strlen(name) >= sizeof(peers[0].name)) {
        return NULL;
    }
    strcpy(peers[place].name, name);
    memory = memory_of(&peers[place]);
    smt_receiver_init(&peers[place].receiver, &limits.carrier, limits.originator,
                      limits.lifetime_s, &memory, &session_decoding);
    peer_count++;
    return &peers[place];
}

/* Ends what is over, of all peers. */
static void pass_time(wide now)
{
    size_t place;

    for (place = 0u; place < peer_count; place++) {
        smt_receiver_time(&peers[place].receiver, (uint32_t)now, print_event, NULL);
    }
}

smt_status receive(char **words, size_t count)
{
    wide counter;
    wide now;
    uint8_t *payload;
    size_t octets;
    bool busy = count == 5u;
    bool known;
    smt_answer answer;
    smt_fragment parsed;
    peer *from;

    if (!limits.begun || !read_number(words[1], (unsigned long)-1, &counter) ||
        !read_number(words[2], 0xFFFFFFFFul, &now) || !read_octets(words[3], &payload, &octets) ||
        (busy && strcmp(words[4], "busy") != 0)) {
        return SMT_LOCAL_ERROR;
    }
    from = known_peer(words[0]);
    known = from != NULL;
    printf(" ok");
    pass_time(now);
    /* Only a fragment that is taken makes a peer known. */
    if (from == NULL && (smt_parse_payload(&limits.carrier, payload, octets, &parsed) != SMT_OK ||
                         parsed.header.index > counter)) {
        printf(" ignored,not-a-fragment");
    } else if (from == NULL && parsed.header.originator != (uint8_t)limits.originator) {
        printf(" ignored,not-mine");
    } else if (from == NULL && (from = new_peer(words[0])) == NULL) {
        printf(" ignored,too-many-peers");
    } else {
        answer = smt_receive(&from->receiver, payload, octets, counter, (uint32_t)now, busy,
                             print_event, NULL);
        if (!known && answer == SMT_ANSWER_TEMPORARY_FAILURE) {
            /* Busy: the last of peers is free again. */
            peer_count--;
        }
    }
    return SMT_OK;
}

smt_status time_passes(char **words)
{
    wide now;

    if (!limits.begun || !read_number(words[0], 0xFFFFFFFFul, &now)) {
        return SMT_LOCAL_ERROR;
    }
    printf(" ok");
    pass_time(now);
    return SMT_OK;
}

smt_status restart(char **words)
{
    size_t place;

    (void)words;
    for (place = 0u; place < peer_count; place++) {
        peer *of = &peers[place];
        smt_saved saved = of->receiver.saved;
        smt_memory memory = memory_of(of);
        durable = of->memory;
        memset(&of->memory, 0xA5, sizeof(of->memory));
        memset(&of->receiver, 0xA5, sizeof(of->receiver));
        of->memory = durable;
        smt_receiver_resume(&of->receiver, &limits.carrier, limits.originator, limits.lifetime_s,
                            &memory, &session_decoding, &saved);
    }
    printf(" ok");
    return SMT_OK;
}
