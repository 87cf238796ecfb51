"use strict";
// The tunnel protocol without its sender and timers of receipts, written from specs/tunnel-protocol.md alone, for Node.js and
// nothing else: a second pair of eyes on the text, not a library. It speaks the conversation of specs/vectors/README.md:
//
//     smtunnel conformance --command "node tests/interop/tunnel_node.js specs/dictionary-1.bin"
//
// Sections in the comments are those of the specification.
const fs = require("node:fs");
const readline = require("node:readline");
const zlib = require("node:zlib");

const HOLDS_OCTETS = 1 << 20;
const MAX_CONTROL_OCTETS = 4096;
const MAX_FRAGMENTS = 2048;
const LABEL = 22;
const ABORT_CODES = {
  Base64Error: 1, ZlibError: 2, UnknownDictionary: 3, WindowTooLarge: 4, LimitExceeded: 5,
  FragmentConflict: 6, UnsupportedCompression: 7, ControlInvalid: 0,
};

class Fault extends Error {
  constructor(name, detail = 0) {
    super(name);
    this.fault = name;
    this.detail = detail;
  }
}

// ---- sums ----

function adler32(octets) {
  let a = 1, b = 0;
  for (const octet of octets) {
    a = (a + octet) % 65521;
    b = (b + a) % 65521;
  }
  return ((b << 16) | a) >>> 0;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  return c >>> 0;
});

function crc32(octets) {
  let c = 0xffffffff;
  for (const octet of octets) c = (c >>> 8) ^ CRC_TABLE[(c ^ octet) & 255];
  return (c ^ 0xffffffff) >>> 0;
}

const hex32 = (n) => n.toString(16).padStart(8, "0");
// Preset dictionaries by DICTID: the files that the command line names.
const DICTIONARIES = new Map(process.argv.slice(2).map((name) => fs.readFileSync(name)).map((octets) => [hex32(adler32(octets)), octets]));

// ---- words of the conversation ----

const toHex = (octets) => (octets.length ? octets.toString("hex") : "-");

function fromHex(word) {
  if (word === "-") return Buffer.alloc(0);
  if (!/^([0-9a-f]{2})+$/.test(word)) throw new Fault("LocalError");
  return Buffer.from(word, "hex");
}

function toNumber(word, low, high) {
  const number = Number(word);
  if (!/^[0-9]+$/.test(word) || number < low || number > high) throw new Fault("LocalError");
  return number;
}

function toCarrier(word) {
  return { printable: word[0] === "t", capacity: Number(word.slice(1)), header: word[0] === "t" ? 4 : 3 };
}

// ---- sections 2 and 3: labels and headers ----

function joinLabels(labels) {
  const right = labels.length >= 1 && labels.length <= 5 && labels.every(([number, text], i) =>
    number === i + 1 && (i === labels.length - 1 ? text.length >= 1 && text.length <= LABEL : text.length === LABEL) &&
    text.every((c) => c >= 0x20 && c <= 0x7e));
  return right ? Buffer.concat(labels.map(([, text]) => text)) : null;
}

function splitLabels(payload) {
  if (!payload.length || payload.length > 5 * LABEL || !payload.every((c) => c >= 0x20 && c <= 0x7e)) throw new Fault("LocalError");
  const labels = [];
  for (let at = 0; at < payload.length; at += LABEL) labels.push([labels.length + 1, payload.subarray(at, at + LABEL)]);
  return labels;
}

function unpackHeader(octets) {
  const n = octets.readUIntBE(0, 3);
  return { originator: n >> 23, compression: (n >> 21) & 3, encoding: (n >> 20) & 1, last: (n >> 19) & 1, index: (n >> 8) & 2047, id: n & 255 };
}

function packHeader(h) {
  const octets = Buffer.alloc(3);
  octets.writeUIntBE((h.originator << 23 | h.compression << 21 | h.encoding << 20 | h.last << 19 | h.index << 8 | h.id) >>> 0, 0, 3);
  return octets;
}

const BASE64 = /^[A-Za-z0-9+/]*$/;

function unpackHeaderText(text) {
  if (text.length !== 4 || !BASE64.test(text.toString("latin1"))) throw new Fault("NotAFragment");
  return unpackHeader(Buffer.from(text.toString("latin1"), "base64"));
}

const headerWords = (h) => [h.originator, h.compression, h.encoding, h.last, h.index, h.id];

// Section 6, step 1, but for the counter.
function parsePayload(carrier, payload) {
  if (payload.length > carrier.capacity || payload.length < carrier.header) throw new Fault("NotAFragment");
  const head = payload.subarray(0, carrier.header);
  const body = payload.subarray(carrier.header);
  const header = carrier.printable ? unpackHeaderText(head) : unpackHeader(head);
  if (carrier.printable && !/^[A-Za-z0-9+/=]*$/.test(body.toString("latin1"))) throw new Fault("NotAFragment");
  if (header.encoding !== (carrier.printable ? 1 : 0)) throw new Fault("NotAFragment");
  if (header.compression === 0 && (header.index > 0 || !header.last)) throw new Fault("NotAFragment");
  if (header.compression !== 0 && !body.length) throw new Fault("NotAFragment");
  return { header, body };
}

// ---- sections 4 and 5: encoding, cutting, decoding ----

const longestStream = (n) => n + Math.ceil(n / 8) + Math.ceil(n / 64) + 11;
const textLength = (n) => Math.ceil(n / 3) * 4;

function cut(carrier, originator, compression, id, stream) {
  if (compression !== 0 && !stream.length) throw new Fault("LocalError");
  const whole = carrier.printable ? Buffer.from(stream.toString("base64"), "latin1") : stream;
  const size = carrier.capacity - carrier.header;
  const count = Math.max(1, Math.ceil(whole.length / size));
  if (count > (compression === 0 ? 1 : MAX_FRAGMENTS)) throw new Fault("MessageTooLong");
  return Array.from({ length: count }, (_, index) => {
    const head = packHeader({ originator, compression, encoding: carrier.printable ? 1 : 0, last: index === count - 1 ? 1 : 0, index, id });
    return Buffer.concat([carrier.printable ? Buffer.from(head.toString("base64"), "latin1") : head, whole.subarray(index * size, (index + 1) * size)]);
  });
}

function encode(carrier, originator, id, compression, windowBits, message) {
  const size = carrier.capacity - carrier.header;
  const length = carrier.printable ? textLength(message.length) : message.length;
  if (compression === "none" && length <= size) return cut(carrier, originator, 0, id, message);
  const stream = zlib.deflateSync(message, { level: 9, windowBits });
  if (stream.length > longestStream(message.length)) throw new Fault("LocalError");
  return cut(carrier, originator, 1, id, stream);
}

function decodeBase64(text) {
  const written = text.toString("latin1");
  const octets = Buffer.from(written, "base64");
  if (octets.toString("base64") !== written) throw new Fault("Base64Error");
  return octets;
}

function inflate(stream, limits) {
  if (stream.length < 2 || stream.readUInt16BE(0) % 31 || (stream[0] & 15) !== 8 || stream[0] >> 4 > 7) throw new Fault("ZlibError");
  if ((stream[0] >> 4) + 8 > limits.windowBits) throw new Fault("WindowTooLarge", limits.windowBits);
  let dictionary;
  if (stream[1] & 32) {
    if (stream.length < 6) throw new Fault("ZlibError");
    const dictid = hex32(stream.readUInt32BE(2));
    dictionary = DICTIONARIES.get(dictid);
    if (!dictionary) throw new Fault("UnknownDictionary", stream.readUInt32BE(2));
  }
  try {
    const { buffer, engine } = zlib.inflateSync(stream, { info: true, dictionary, maxOutputLength: Math.max(1, limits.messageOctets) });
    if (engine.bytesWritten !== stream.length) throw new Fault("ZlibError");
    return buffer;
  } catch (error) {
    if (error.code === "ERR_BUFFER_TOO_LARGE") throw new Fault("LimitExceeded", limits.messageOctets);
    throw new Fault("ZlibError");
  }
}

// One message while it is incomplete: section 7.
class Collector {
  constructor(limits) {
    this.limits = limits;
    this.bodies = new Map();
    this.length = 0;
    this.last = null;
    this.highest = -1;
  }

  // Returns "duplicate", or null when the body was kept; throws Fault.
  add({ header, body }) {
    if (header.compression === 2) throw new Fault("UnsupportedCompression");
    this.first ??= header;
    for (const field of ["originator", "compression", "encoding"]) if (header[field] !== this.first[field]) throw new Fault("FragmentConflict");
    const here = this.bodies.get(header.index);
    if (here) {
      if (here.equals(body) && (header.last === 1) === (this.last === header.index)) return "duplicate";
      throw new Fault("FragmentConflict");
    }
    if (header.last ? this.last !== null || this.highest > header.index : this.last !== null && header.index >= this.last) throw new Fault("FragmentConflict");
    const octets = longestStream(header.compression === 3 ? MAX_CONTROL_OCTETS : this.limits.messageOctets);
    if (this.length + body.length > (header.encoding ? textLength(octets) : octets)) throw new Fault("LimitExceeded", this.limits.messageOctets);
    this.bodies.set(header.index, Buffer.from(body));
    this.length += body.length;
    this.highest = Math.max(this.highest, header.index);
    if (header.last) this.last = header.index;
    return null;
  }

  get whole() {
    return this.last !== null && this.bodies.size === this.last + 1;
  }

  decode() {
    const joined = Buffer.concat(Array.from({ length: this.last + 1 }, (_, i) => this.bodies.get(i)));
    const stream = this.first.encoding ? decodeBase64(joined) : joined;
    if (this.first.compression === 1) return inflate(stream, this.limits);
    const most = this.first.compression === 3 ? MAX_CONTROL_OCTETS : this.limits.messageOctets;
    if (stream.length > most) throw new Fault("LimitExceeded", this.limits.messageOctets);
    return stream;
  }
}

// ---- section 11: control messages ----

const invalid = () => new Fault("ControlInvalid");
const need = (right) => { if (!right) throw invalid(); };

function takeTagged(octets, at) {
  need(at + 2 <= octets.length);
  const tag = octets[at];
  let length = octets[at + 1], start = at + 2;
  if (length & 128) {
    need(start + 1 <= octets.length);
    length = (length & 127) << 8 | octets[start++];
    need(length >= 128);
  }
  need(start + length <= octets.length);
  return { tag, value: octets.subarray(start, start + length), next: start + length };
}

function putTagged(tag, value) {
  const length = value.length < 128 ? [value.length] : [128 | value.length >> 8, value.length & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), value]);
}

function parseNames(body) {
  need(body.length && body.length % 5 === 0);
  const words = [];
  for (let at = 0; at < body.length; at += 5) words.push(body[at], body.readUInt32BE(at + 1));
  return words;
}

function parseMissing(body) {
  need(body.length >= 9 && (body.length - 5) % 4 === 0);
  const words = parseNames(body.subarray(0, 5));
  let free = 0, open = false;
  for (let at = 5; at < body.length; at += 4) {
    const start = body.readUInt16BE(at), count = body.readUInt16BE(at + 2);
    need(!open && start >= free && start < MAX_FRAGMENTS && start + count <= MAX_FRAGMENTS);
    open = count === 0;
    free = start + count + 1;
    words.push(start, count);
  }
  return words;
}

function parseAbort(body) {
  need(body.length >= 6);
  const words = parseNames(body.subarray(0, 5)), code = body[5], detail = body.subarray(6);
  if (code > 11) return [...words, 0, 0];
  need(detail.length === ({ 3: 4, 4: 1, 5: 4 }[code] ?? 0));
  if (code === 4) need(detail[0] >= 9 && detail[0] <= 15);
  return [...words, code, detail.length ? detail.readUIntBE(0, detail.length) : 0];
}

function parseEcho(body) {
  need(body.length >= 8 && body.length <= 72);
  return [toHex(body.subarray(0, 8)), toHex(body.subarray(8))];
}

function parseCapabilities(body) {
  need(body.length >= 8 && body.length % 4 === 0 && body.length <= 8 + 32 * 4);
  const [version, receipts, window, partial] = body;
  const octets = body.readUInt32BE(4), dictids = [];
  for (let at = 8; at < body.length; at += 4) dictids.push(body.readUInt32BE(at));
  need(version >= 1 && receipts <= 2 && window >= 9 && window <= 15 && partial >= 1 && octets >= 1);
  need(dictids.every((d, i) => i === 0 || d > dictids[i - 1]));
  return [version, receipts, window, partial, octets, ...dictids.map(hex32)];
}

function parseOffer(body) {
  need(body.length >= 4);
  const fields = new Map([1, 2, 3, 4, 5, 6].map((tag) => [tag, []]));
  for (let at = 4; at < body.length;) {
    const { tag, value, next } = takeTagged(body, at);
    fields.get(tag)?.push(value);
    at = next;
  }
  const [addresses, pins, before, after, versions, largest] = fields.values();
  need(addresses.length >= 1 && addresses.length <= 8 && addresses.every((a) => a.length >= 1 && a.length <= 255 && a.every((c) => c >= 0x21 && c <= 0x7e)));
  need(pins.length >= 1 && pins.length <= 4 && pins.every((p) => p.length === 32));
  for (const [found, length] of [[before, 8], [after, 8], [largest, 4]]) need(found.length === 1 && found[0].length === length);
  need(versions.length === 1 && versions[0].length >= 1 && versions[0].every((v, i) => v > (i ? versions[0][i - 1] : 0)));
  const from = before[0].readBigUInt64BE(), to = after[0].readBigUInt64BE();
  need(to > from);
  return [body.readUInt32BE(0), from, to, largest[0].readUInt32BE(), toHex(versions[0]), ...addresses.map((a) => `a:${toHex(a)}`), ...pins.map((p) => `p:${toHex(p)}`)];
}

function parseFixed(length, read) {
  return (body) => {
    need(body.length === length);
    return read(body);
  };
}

const number = (word, octets) => {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64BE(BigInt(word));
  return buffer.subarray(8 - octets);
};
const buildNames = (words) => Buffer.concat(words.map((w, i) => number(w, i % 2 ? 4 : 1)));
const buildAbort = (words) => {
  const [id, key, code, detail] = words;
  return Buffer.concat([buildNames([id, key]), number(code, 1), number(detail, { 3: 4, 4: 1, 5: 4 }[code] ?? 0)]);
};
const buildOffer = ([offer, before, after, largest, versions, ...rest]) => Buffer.concat([
  number(offer, 4),
  ...rest.filter((w) => w[0] === "a").map((w) => putTagged(1, fromHex(w.slice(2)))),
  ...rest.filter((w) => w[0] === "p").map((w) => putTagged(2, fromHex(w.slice(2)))),
  putTagged(3, number(before, 8)), putTagged(4, number(after, 8)), putTagged(5, fromHex(versions)), putTagged(6, number(largest, 4)),
]);
const buildEcho = (words) => Buffer.concat(words.map(fromHex));

const RECORDS = [
  [1, "receipt", parseNames, buildNames],
  [2, "missing", parseMissing, ([id, key, ...ranges]) => Buffer.concat([buildNames([id, key]), ...ranges.map((w) => number(w, 2))])],
  [3, "abort", parseAbort, buildAbort],
  [4, "echo-request", parseEcho, buildEcho],
  [5, "echo-reply", parseEcho, buildEcho],
  [6, "capabilities", parseCapabilities, (w) => Buffer.concat([...w.slice(0, 4).map((x) => number(x, 1)), number(w[4], 4), ...w.slice(5).map(fromHex)])],
  [7, "capabilities-wanted", parseFixed(0, () => []), () => Buffer.alloc(0)],
  [8, "route-offer", parseOffer, buildOffer],
  [9, "route-answer", parseFixed(5, (b) => [b.readUInt32BE(0), b[4] > 4 ? 255 : b[4]]), (w) => Buffer.concat([number(w[0], 4), number(w[1], 1)])],
  [10, "route-withdrawn", parseFixed(4, (b) => [b.readUInt32BE(0)]), (w) => number(w[0], 4)],
  [11, "control-receipt", parseNames, buildNames],
  [12, "cancelled", parseFixed(5, parseNames), buildNames],
];

function parseControl(octets) {
  need(octets.length >= 6 && octets.length <= MAX_CONTROL_OCTETS);
  const end = octets.length - 4;
  need(octets.readUInt32BE(end) === crc32(octets.subarray(0, end)));
  const records = [];
  let skipped = 0;
  for (let at = 0; at < end;) {
    const { tag, value, next } = takeTagged(octets.subarray(0, end), at);
    const known = RECORDS.find(([kind]) => kind === tag);
    if (known) records.push([known[1], ...known[2](value)].join(","));
    else skipped++;
    at = next;
  }
  need(records.length + skipped >= 1 && records.length + skipped <= 256);
  return { records, skipped };
}

function buildControl(words) {
  const records = Buffer.concat(words.map((word) => {
    const [name, ...values] = word.split(",");
    const [kind, , , build] = RECORDS.find((record) => record[1] === name);
    return putTagged(kind, build(values));
  }));
  return Buffer.concat([records, number(crc32(records), 4)]);
}

// ---- sections 6 and 9: one receiver ----

class Window {
  constructor(size) {
    this.size = size;
    this.known = new Map();
    this.floor = 0n;
  }

  remember(counter, content) {
    if (counter < this.floor) return;
    this.known.set(counter, content);
    if (this.known.size <= this.size) return;
    let least = counter;
    for (const other of this.known.keys()) if (other < least) least = other;
    this.known.delete(least);
    this.floor = least + 1n;
  }
}

class Receiver {
  constructor(carrier, originator, limits) {
    Object.assign(this, { carrier, originator, limits, peers: new Map(), turn: 0 });
  }

  handleTime(now) {
    const events = [];
    for (const peer of this.peers.values()) {
      for (const use of peer.uses.values()) {
        if (use.standing === "partial" && now - use.since >= this.limits.lifetime) {
          this.end(use, 8, 0);
          events.push(`expired,${use.name}`);
        }
      }
    }
    return events;
  }

  end(use, code, detail) {
    Object.assign(use, { standing: "ended", code, detail, message: null });
  }

  receive(peerName, counter, now, payload, busy) {
    const events = this.handleTime(now);
    events.push(...this.judge(peerName, counter, now, payload, busy));
    return events;
  }

  judge(peerName, counter, now, payload, busy) {
    let fragment;
    try {
      fragment = parsePayload(this.carrier, payload);
    } catch {
      return ["ignored,not-a-fragment"];
    }
    const { header } = fragment;
    if (counter < BigInt(header.index)) return ["ignored,not-a-fragment"];
    if (header.originator !== this.originator) return ["ignored,not-mine"];
    if (!this.peers.has(peerName) && this.peers.size >= this.limits.peers) return ["ignored,too-many-peers"];
    const peer = this.peers.get(peerName) ?? { window: new Window(this.limits.replayWindow), uses: new Map() };
    const content = payload.toString("latin1");
    const held = peer.window.known.get(counter);
    if (held !== undefined && held !== content) return ["ignored,counter-reused"];
    const remembered = held !== undefined;
    const fresh = !remembered && counter >= peer.window.floor;
    const space = header.compression === 3 ? "c" : "d";
    const slot = `${space},${header.id}`;
    const use = peer.uses.get(slot);
    if (!use && !fresh) return ["ignored,stale"];
    const key = counter - BigInt(header.index);
    const closed = busy && space === "d";
    if (use && key % 65536n === use.key % 65536n && key >= use.lowest) {
      if (use.standing === "partial") {
        if (closed && !use.message.bodies.has(header.index)) return ["ignored,busy"];
        return this.collect(peer, use, fragment, counter, content, fresh);
      }
      if (fresh) peer.window.remember(counter, content);
      if (use.standing === "ended") return [`ignored,ended,${use.name},${use.code},${use.detail}`];
      return [fresh ? `ignored,delivered,${use.name}` : "ignored,replay"];
    }
    if (use && key <= use.key) return [remembered ? "ignored,replay" : "ignored,older-message"];
    if (closed) return ["ignored,busy"];
    const events = [];
    this.peers.set(peerName, peer);
    if (use && use.standing === "partial") events.push(`aborted,${use.name},superseded`);
    const begun = { name: `${slot},${key}`, space, id: header.id, key, lowest: use ? use.key + 1n : 0n, standing: "partial", since: now, heard: 0, message: new Collector(this.limits) };
    peer.uses.delete(slot);
    const live = [...peer.uses.values()].filter((other) => other.standing === "partial");
    peer.uses.set(slot, begun);
    events.push(...this.collect(peer, begun, fragment, counter, content, fresh));
    if (begun.standing === "partial" && live.length >= this.limits.partial) {
      const silent = live.reduce((a, b) => (a.heard <= b.heard ? a : b));
      this.end(silent, 9, 0);
      events.push(`aborted,${silent.name},too-many-partial`);
    }
    return events;
  }

  collect(peer, use, fragment, counter, content, fresh) {
    peer.window.remember(counter, content);
    const events = [];
    try {
      if (use.message.add(fragment) === "duplicate") return [fresh ? `ignored,duplicate,${use.name}` : "ignored,replay"];
      use.heard = ++this.turn;
      const accepted = `accepted,${use.name},${fragment.header.index},${fragment.header.last}`;
      if (!use.message.whole) return [accepted];
      const octets = use.message.decode();
      if (use.space === "c") {
        const { records, skipped } = parseControl(octets);
        events.push(accepted, `control,${use.id},${use.key},${records.length},${skipped}`);
      } else events.push(accepted, `message,${use.id},${use.key},${toHex(octets)}`);
      use.standing = "delivered";
      use.message = null;
    } catch (error) {
      if (!error.fault) throw error;
      events.push(`rejected,${use.name},${error.fault}`);
      this.end(use, ABORT_CODES[error.fault], error.detail);
    }
    return events;
  }
}

// ---- the conversation ----

let decoding, receiver;

const ANSWERS = {
  hello: () => `ok 1 smtunnel-node/1 kinds=header-unpack,header-pack,payload-parse,labels-join,labels-split,cut,encode,decode,control-parse,control-build,session,session-restart message=${HOLDS_OCTETS}${DICTIONARIES.size ? ` dictionaries=${[...DICTIONARIES.keys()]}` : ""}`,
  "header-unpack": ([text]) => `ok ${headerWords(unpackHeaderText(fromHex(text))).join(" ")}`,
  "header-pack": (words) => {
    const [originator, compression, encoding, last, index, id] = words.map((w, i) => toNumber(w, 0, [1, 3, 1, 1, 2047, 255][i]));
    const octets = packHeader({ originator, compression, encoding, last, index, id });
    return `ok ${toHex(octets)} ${toHex(Buffer.from(octets.toString("base64"), "latin1"))}`;
  },
  "payload-parse": ([carrier, payload]) => {
    const { header, body } = parsePayload(toCarrier(carrier), fromHex(payload));
    return `ok ${headerWords(header).join(" ")} ${toHex(body)}`;
  },
  "labels-join": (words) => {
    const payload = joinLabels(words.map((w) => w.split(":")).map(([n, text]) => [Number(n), fromHex(text)]));
    return payload ? `ok ${toHex(payload)}` : "none";
  },
  "labels-split": ([payload]) => `ok ${splitLabels(fromHex(payload)).map(([n, text]) => `${n}:${toHex(text)}`).join(" ")}`,
  cut: ([carrier, originator, compression, id, stream]) =>
    `ok ${cut(toCarrier(carrier), toNumber(originator, 0, 1), toNumber(compression, 0, 3), toNumber(id, 0, 255), fromHex(stream)).map(toHex).join(" ")}`,
  encode: ([carrier, originator, id, compression, bits, message]) =>
    `ok ${encode(toCarrier(carrier), toNumber(originator, 0, 1), toNumber(id, 0, 255), compression, toNumber(bits, 9, 15), fromHex(message)).map(toHex).join(" ")}`,
  decode: ([carrier, octets, bits]) => {
    decoding = { carrier: toCarrier(carrier), message: new Collector({ messageOctets: Number(octets), windowBits: Number(bits) }) };
    return "ok";
  },
  fragment: ([payload]) => {
    const fragment = parsePayload(decoding.carrier, fromHex(payload));
    decoding.message.add(fragment);
    if (!decoding.message.whole) return "more";
    const octets = decoding.message.decode();
    if (fragment.header.compression === 3) parseControl(octets);
    return `message ${toHex(octets)}`;
  },
  "control-parse": ([octets]) => {
    const { records, skipped } = parseControl(fromHex(octets));
    return ["ok", skipped, ...records].join(" ");
  },
  "control-build": (words) => `ok ${toHex(buildControl(words))}`,
  session: ([carrier, originator, octets, bits, partial, peers, lifetime, window]) => {
    receiver = new Receiver(toCarrier(carrier), Number(originator), {
      messageOctets: Number(octets), windowBits: Number(bits), partial: Number(partial), peers: Number(peers), lifetime: Number(lifetime), replayWindow: Number(window),
    });
    return "ok";
  },
  receive: ([peer, counter, now, payload, busy]) => ["ok", ...receiver.receive(peer, BigInt(counter), Number(now), fromHex(payload), busy === "busy")].join(" "),
  time: ([now]) => ["ok", ...receiver.handleTime(Number(now))].join(" "),
  // All that a receiver must keep is what this one has: it goes on from that.
  restart: () => "ok",
};

function answer(line) {
  const [sequence, request, ...words] = line.split(" ");
  try {
    return `${sequence} ${ANSWERS[request](words)}`;
  } catch (error) {
    if (!error.fault) throw error;
    return `${sequence} error ${error.fault}${error.fault === "UnknownDictionary" ? ` ${hex32(error.detail)}` : ""}`;
  }
}

readline.createInterface({ input: process.stdin }).on("line", (line) => process.stdout.write(`${answer(line)}\n`));
