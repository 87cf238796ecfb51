/* An inflater for smtunnel.c by zlib: what a device with zlib takes over as it is. */
#include "target.h"

#include <string.h>
#include <zlib.h>

static z_stream state;

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

const smt_inflater zlib_inflater = {&state, inflater_begin, inflater_inflate, inflater_end};
