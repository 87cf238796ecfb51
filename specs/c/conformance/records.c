/* Requests about control messages. */
#include "target.h"

#include <stdio.h>
#include <string.h>

static void print_names(const char *kind, const smt_record *record)
{
    smt_name name;
    size_t place;

    printf(" %s", kind);
    for (place = 0u; smt_record_name(record, place, &name); place++) {
        printf(",%u,%lu", name.message_id, (unsigned long)name.key32);
    }
}

static wide number_at(const uint8_t *octets, size_t count)
{
    wide number = 0u;
    size_t place;

    for (place = 0u; place < count; place++) {
        number = number << 8 | octets[place];
    }
    return number;
}

static void print_named(const char *kind, const smt_record *record)
{
    smt_name name = {0u, 0u};

    (void)smt_record_name(record, 0u, &name);
    printf(" %s,%u,%lu", kind, name.message_id, (unsigned long)name.key32);
}

static void print_missing(const smt_record *record)
{
    smt_range range;
    size_t place;

    print_named("missing", record);
    for (place = 0u; smt_record_range(record, place, &range); place++) {
        printf(",%u,%u", range.start, range.count);
    }
}

static void print_abort(const smt_record *record)
{
    smt_abort_code code;
    uint32_t detail;

    smt_record_abort(record, &code, &detail);
    print_named("abort", record);
    printf(",%d,%lu", (int)code, (unsigned long)detail);
}

static void print_echo(const char *kind, const smt_record *record)
{
    printf(" %s,", kind);
    print_digits(record->body, 8u);
    putchar(',');
    print_digits(&record->body[8], record->octets - 8u);
}

static void print_capabilities(const smt_record *record)
{
    smt_capabilities capabilities;
    size_t place;

    smt_record_capabilities(record, &capabilities);
    printf(" capabilities,%u,%u,%u,%u,%lu", capabilities.version, capabilities.receipts,
           capabilities.window_bits, capabilities.partial_messages,
           (unsigned long)capabilities.message_octets);
    for (place = 0u; place < capabilities.dictionary_count; place++) {
        printf(",%08lx", (unsigned long)capabilities.dictionaries[place]);
    }
}

static void print_fields(const smt_record *record, uint8_t tag, const char *before, bool number)
{
    const uint8_t *value;
    size_t count;
    size_t place;

    for (place = 0u; smt_record_field(record, tag, place, &value, &count); place++) {
        printf(",%s", before);
        if (number) {
            printf("%llu", number_at(value, count));
        } else {
            print_digits(value, count);
        }
    }
}

static void print_route_offer(const smt_record *record)
{
    printf(" route-offer,%llu", number_at(record->body, 4u));
    print_fields(record, SMT_ROUTE_NOT_BEFORE, "", true);
    print_fields(record, SMT_ROUTE_NOT_AFTER, "", true);
    print_fields(record, SMT_ROUTE_MESSAGE_OCTETS, "", true);
    print_fields(record, SMT_ROUTE_VERSIONS, "", false);
    print_fields(record, SMT_ROUTE_ADDRESS, "a:", false);
    print_fields(record, SMT_ROUTE_PIN, "p:", false);
}

static void print_record(const smt_record *record)
{
    switch (record->kind) {
    case SMT_RECORD_RECEIPT: print_names("receipt", record); break;
    case SMT_RECORD_CONTROL_RECEIPT: print_names("control-receipt", record); break;
    case SMT_RECORD_MISSING: print_missing(record); break;
    case SMT_RECORD_ABORT: print_abort(record); break;
    case SMT_RECORD_CANCELLED: print_named("cancelled", record); break;
    case SMT_RECORD_ECHO_REQUEST: print_echo("echo-request", record); break;
    case SMT_RECORD_ECHO_REPLY: print_echo("echo-reply", record); break;
    case SMT_RECORD_CAPABILITIES: print_capabilities(record); break;
    case SMT_RECORD_CAPABILITIES_WANTED: printf(" capabilities-wanted"); break;
    case SMT_RECORD_ROUTE_OFFER: print_route_offer(record); break;
    case SMT_RECORD_ROUTE_ANSWER:
        /* Above 4 are those of later versions. */
        printf(" route-answer,%llu,%u", number_at(record->body, 4u),
               record->body[4] > 4u ? 255u : record->body[4]);
        break;
    case SMT_RECORD_ROUTE_WITHDRAWN:
        printf(" route-withdrawn,%llu", number_at(record->body, 4u));
        break;
    default: break;
    }
}

size_t count_records(const uint8_t *octets, size_t count, bool known)
{
    smt_records records;
    smt_record record;
    size_t found = 0u;

    smt_control_begin(&records, octets, count);
    while (smt_control_next(&records, &record)) {
        found += smt_record_known(&record) == known ? 1u : 0u;
    }
    return found;
}

smt_status control_parse(char **words)
{
    smt_records records;
    smt_record record;
    uint8_t *octets;
    size_t count;
    smt_status status;

    if (!read_octets(words[0], &octets, &count)) {
        return SMT_LOCAL_ERROR;
    }
    status = smt_control_check(octets, count);
    if (status == SMT_OK) {
        printf(" ok %lu", (unsigned long)count_records(octets, count, false));
        smt_control_begin(&records, octets, count);
        while (smt_control_next(&records, &record)) {
            print_record(&record);
        }
    }
    return status;
}

/* A record's body under construction. */
typedef struct body {
    uint8_t octets[1024];
    size_t count;
} body;

static bool put_number(body *to, const char *word, size_t octets)
{
    wide most = octets < 8u ? (1ull << (8u * octets)) - 1u : UINT64_MAX;
    wide number;
    size_t place;

    if (to->count + octets > sizeof(to->octets) || !read_number(word, most, &number)) {
        return false;
    }
    for (place = 0u; place < octets; place++) {
        to->octets[to->count + place] = (uint8_t)(number >> (8u * (octets - 1u - place)));
    }
    to->count += octets;
    return true;
}

static bool put_octets(body *to, char *word)
{
    uint8_t *octets;
    size_t count;

    if (!read_octets(word, &octets, &count) ||
        to->count + count > sizeof(to->octets)) {
        return false;
    }
    memcpy(&to->octets[to->count], octets, count);
    to->count += count;
    return true;
}

/* Puts one field of a route offer: tag, length, value. */
static bool put_field(body *to, uint8_t tag, const body *value)
{
    size_t head = value->count < 128u ? 2u : 3u;

    if (to->count + head + value->count > sizeof(to->octets)) {
        return false;
    }
    to->octets[to->count] = tag;
    if (head == 2u) {
        to->octets[to->count + 1u] = (uint8_t)value->count;
    } else {
        to->octets[to->count + 1u] = (uint8_t)(0x80u | value->count >> 8);
        to->octets[to->count + 2u] = (uint8_t)(value->count & 0xFFu);
    }
    memcpy(&to->octets[to->count + head], value->octets, value->count);
    to->count += head + value->count;
    return true;
}

static bool put_number_field(body *to, uint8_t tag, const char *word, size_t octets)
{
    body value = {{0u}, 0u};

    return put_number(&value, word, octets) && put_field(to, tag, &value);
}

static bool put_octet_field(body *to, uint8_t tag, char *word)
{
    body value = {{0u}, 0u};

    return put_octets(&value, word) && put_field(to, tag, &value);
}

static bool put_route_offer(body *to, char **parts, size_t count)
{
    size_t place;
    bool good = count >= 5u && put_number(to, parts[0], 4u);

    for (place = 5u; good && place < count; place++) {
        uint8_t tag = parts[place][0] == 'a' ? SMT_ROUTE_ADDRESS : SMT_ROUTE_PIN;
        good = strlen(parts[place]) > 2u && put_octet_field(to, tag, &parts[place][2]);
    }
    return good && put_number_field(to, SMT_ROUTE_NOT_BEFORE, parts[1], 8u) &&
           put_number_field(to, SMT_ROUTE_NOT_AFTER, parts[2], 8u) &&
           put_octet_field(to, SMT_ROUTE_VERSIONS, parts[4]) &&
           put_number_field(to, SMT_ROUTE_MESSAGE_OCTETS, parts[3], 4u);
}

/* How many octets the numbers of a record have; '*' repeats what follows; 'x': octets. */
static const struct {
    const char *name;
    uint8_t kind;
    const char *form;
} forms[] = {
    {"receipt", SMT_RECORD_RECEIPT, "*14"},
    {"control-receipt", SMT_RECORD_CONTROL_RECEIPT, "*14"},
    {"missing", SMT_RECORD_MISSING, "14*22"},
    {"cancelled", SMT_RECORD_CANCELLED, "14"},
    {"echo-request", SMT_RECORD_ECHO_REQUEST, "xx"},
    {"echo-reply", SMT_RECORD_ECHO_REPLY, "xx"},
    {"capabilities", SMT_RECORD_CAPABILITIES, "11114*x"},
    {"capabilities-wanted", SMT_RECORD_CAPABILITIES_WANTED, ""},
    {"route-answer", SMT_RECORD_ROUTE_ANSWER, "41"},
    {"route-withdrawn", SMT_RECORD_ROUTE_WITHDRAWN, "4"},
};

static bool put_form(body *to, const char *form, char **parts, size_t count)
{
    const char *repeated = NULL;
    size_t place;

    for (place = 0u; place < count; place++) {
        if (*form == '*') {
            repeated = ++form;
        } else if (*form == '\0' && repeated != NULL) {
            form = repeated;
        } else {
            /* the next of the form */
        }
        if (*form == 'x' ? !put_octets(to, parts[place])
                         : (*form == '\0' || !put_number(to, parts[place],
                                                         (size_t)(*form - '0')))) {
            return false;
        }
        form++;
    }
    return *form == '\0' || *form == '*';
}

static smt_status build_record(smt_writer *writer, char *word)
{
    body made = {{0u}, 0u};
    smt_record record = {0u, made.octets, 0u};
    char *parts[MAX_WORDS];
    size_t count = 0u;
    bool good = false;
    size_t place;

    for (char *at = strchr(word, ','); at != NULL && count < MAX_WORDS; at = strchr(at, ',')) {
        *at++ = '\0';
        parts[count++] = at;
    }
    if (strcmp(word, "abort") == 0 && count == 4u) {
        smt_name name;
        wide numbers[4];
        for (place = 0u; place < 4u; place++) {
            if (!read_number(parts[place], 0xFFFFFFFFul, &numbers[place])) {
                return SMT_LOCAL_ERROR;
            }
        }
        name.message_id = (uint8_t)numbers[0];
        name.key32 = (uint32_t)numbers[1];
        return smt_write_abort(writer, &name, (smt_abort_code)(uint8_t)numbers[2],
                               (uint32_t)numbers[3]);
    }
    if (strcmp(word, "route-offer") == 0) {
        record.kind = SMT_RECORD_ROUTE_OFFER;
        good = put_route_offer(&made, parts, count);
    }
    for (place = 0u; place < sizeof(forms) / sizeof(forms[0]); place++) {
        if (strcmp(word, forms[place].name) == 0) {
            record.kind = forms[place].kind;
            good = put_form(&made, forms[place].form, parts, count);
        }
    }
    record.octets = made.count;
    return good ? smt_write_record(writer, &record) : SMT_LOCAL_ERROR;
}

smt_status control_build(char **words, size_t count)
{
    smt_writer writer;
    smt_status status = SMT_OK;
    size_t octets;
    size_t place;

    smt_control_write(&writer, scratch, sizeof(scratch));
    for (place = 0u; status == SMT_OK && place < count; place++) {
        status = build_record(&writer, words[place]);
    }
    if (status == SMT_OK) {
        status = smt_control_finish(&writer, &octets);
    }
    if (status == SMT_OK) {
        printf(" ok");
        print_octets(scratch, octets);
    }
    return status;
}
