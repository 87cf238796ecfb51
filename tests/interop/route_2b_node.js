"use strict";
// Route 2b written from specs/route-2b.md and its vectors alone, for Node.js with the package ws: a second pair of eyes on the text.
//
//     node route_2b_node.js vectors FILE      prints what it makes of the vectors, as JSON
//     node route_2b_node.js client | server   settings as one line of JSON on standard input; prints one JSON a line
//
// Sections in the comments are those of the specification.
const crypto = require("node:crypto");
const fs = require("node:fs");
const https = require("node:https");
const readline = require("node:readline");
const tls = require("node:tls");

const SUBPROTOCOL = "smtunnel.route-2b.v1";
const CODE = Buffer.from("ff2b", "hex");

class Refusal extends Error {
  constructor(code, reason) {
    super(reason);
    this.code = code;
  }
}
const refuse = (code, reason) => {
  throw new Refusal(code, reason);
};
const say = (object) => process.stdout.write(JSON.stringify(object) + "\n");
const hex = (text) => Buffer.from(text, "hex");

// ---- signatures: 4.2, 5.3 ----

const sign = (key, octets) => crypto.sign("sha256", octets, { key, dsaEncoding: "ieee-p1363" });
const holds = (key, octets, signature) =>
  crypto.verify("sha256", octets, { key, dsaEncoding: "ieee-p1363" }, signature);

// ---- messages: 5 ----

function lengthOctets(n) {
  if (n < 128) return Buffer.from([n]);
  const octets = [];
  for (let rest = n; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  return Buffer.from([128 + octets.length, ...octets]);
}

function buildMessage({ cra, counter, originator, target, payload }, key) {
  const count = Buffer.alloc(8);
  count.writeBigUInt64BE(BigInt(counter));
  const body = Buffer.concat([
    Buffer.from([0xdf, 9, cra]), count,
    Buffer.from([8]), hex(originator), Buffer.from([8]), hex(target),
    Buffer.from([0, 2]), CODE, lengthOctets(payload.length + 1), Buffer.from([1]), payload,
  ]);
  return Buffer.concat([body, Buffer.from([0x40]), sign(key, body.subarray(1))]);
}

function readMessage(octets, { cra, originator, target, key, limit }) {
  const bad = (what) => refuse(4400, what);
  if (octets.length > limit) bad("too long");
  if (octets.length < 34) bad("too short");
  const fixed = [[0, 0xdf], [1, 9], [11, 8], [20, 8], [29, 0], [30, 2]];
  for (const [at, value] of fixed) if (octets[at] !== value) bad(`octet ${at}`);
  if (!octets.subarray(31, 33).equals(CODE)) bad("message code");
  if (octets[2] !== 1 && octets[2] !== 3) bad("CRA flag");
  let at = 34, length = octets[33];
  if (length >= 128) {
    const n = length - 128;
    if (n < 1 || n > 4 || octets.length < 34 + n) bad("length");
    length = octets.readUIntBE(34, n);
    at = 34 + n;
    if (!lengthOctets(length).equals(octets.subarray(33, at))) bad("length not shortest");
  }
  const end = at + length;
  if (length < 1 || octets.length !== end + 65) bad("length of content");
  if (octets[at] !== 1) bad("version");
  if (octets[end] !== 0x40) bad("signature length");
  if (octets.subarray(12, 20).toString("hex") !== originator) refuse(4406, "originator");
  if (octets.subarray(21, 29).toString("hex") !== target) refuse(4406, "recipient");
  if (octets[2] !== cra) bad("CRA flag of the other end");
  if (!holds(key, octets.subarray(1, end), octets.subarray(end + 1))) refuse(4401, "signature");
  return { counter: octets.readBigUInt64BE(3), payload: octets.subarray(at + 1, end) };
}

// ---- handshake: 4 ----

const isInteger = (value, low, high) => Number.isInteger(value) && value >= low && value <= high;
const isName = (value) => typeof value === "string" && /^[0-9a-f]{16}$/.test(value);

function octetsOf(value, count) {
  const octets = typeof value === "string" ? Buffer.from(value, "base64") : Buffer.alloc(0);
  if (octets.length !== count || octets.toString("base64") !== value) refuse(4400, `${count} octets in base64`);
  return octets;
}

function fieldsOf(text, type, names) {
  if (typeof text !== "string") refuse(4400, "no text");
  if (text.length > 1024) refuse(4400, "too long");
  let fields;
  try {
    fields = JSON.parse(text);
  } catch {
    refuse(4400, "no JSON");
  }
  if (fields === null || typeof fields !== "object" || Array.isArray(fields)) refuse(4400, "no object");
  if (fields.type !== type) refuse(4400, "type");
  if (Object.keys(fields).sort().join() !== ["type", ...names].sort().join()) refuse(4400, "members");
  return fields;
}

function readHello(text) {
  const fields = fieldsOf(text, "hello", ["version", "device", "dsrsp", "nonce", "offer", "message_octets"]);
  if (!isInteger(fields.version, 0, 255)) refuse(4400, "version");
  if (!isName(fields.device) || !isName(fields.dsrsp)) refuse(4400, "EUI");
  if (!isInteger(fields.offer, 0, 2 ** 32 - 1)) refuse(4400, "offer");
  if (!isInteger(fields.message_octets, 512, 2 ** 32 - 1)) refuse(4400, "message_octets");
  return { ...fields, nonce: octetsOf(fields.nonce, 32) };
}

function readChallenge(text) {
  const fields = fieldsOf(text, "challenge", ["version", "nonce"]);
  if (!isInteger(fields.version, 0, 255)) refuse(4400, "version");
  return { ...fields, nonce: octetsOf(fields.nonce, 32) };
}

const readProof = (text) => octetsOf(fieldsOf(text, "proof", ["signature"]).signature, 64);

function readWelcome(text) {
  const fields = fieldsOf(text, "welcome", ["signature", "message_octets"]);
  if (!isInteger(fields.message_octets, 512, 2 ** 32 - 1)) refuse(4400, "message_octets");
  return { ...fields, signature: octetsOf(fields.signature, 64) };
}

const transcript = (who, s) => Buffer.concat([
  Buffer.from(`smtunnel route 2b ${who}\0`, "ascii"), Buffer.from([1]), hex(s.device), hex(s.dsrsp),
  s.clientNonce, s.serverNonce, s.certificate,
]);

class ClientHandshake {
  constructor(s) {
    this.s = s;
  }
  hello() {
    const { device, dsrsp, offer, clientNonce, messageOctets } = this.s;
    return JSON.stringify({
      type: "hello", version: 1, device, dsrsp, nonce: clientNonce.toString("base64"), offer,
      message_octets: messageOctets,
    });
  }
  challenge(text) {
    const { version, nonce } = readChallenge(text);
    if (version !== 1) refuse(4407, "version");
    if (nonce.equals(this.s.clientNonce)) refuse(4400, "my own nonce");
    this.s.serverNonce = nonce;
    const signature = sign(this.s.key, transcript("client", this.s)).toString("base64");
    return JSON.stringify({ type: "proof", signature });
  }
  welcome(text) {
    const welcome = readWelcome(text);
    if (!holds(this.s.peerKey, transcript("server", this.s), welcome.signature)) refuse(4401, "the DSRSP's proof");
    return welcome;
  }
}

class ServerHandshake {
  constructor(s) {
    this.s = s;
  }
  hello(text) {
    const hello = readHello(text);
    if (hello.version !== 1) refuse(4407, "version");
    if (hello.device !== this.s.device) refuse(4406, "device");
    if (hello.dsrsp !== this.s.dsrsp) refuse(4406, "DSRSP");
    if (hello.offer !== this.s.offer) refuse(4410, "offer");
    this.s.clientNonce = hello.nonce;
    return JSON.stringify({ type: "challenge", version: 1, nonce: this.s.serverNonce.toString("base64") });
  }
  proof(text) {
    const signature = readProof(text);
    if (!holds(this.s.peerKey, transcript("client", this.s), signature)) refuse(4401, "the device's proof");
    const own = sign(this.s.key, transcript("server", this.s)).toString("base64");
    return JSON.stringify({ type: "welcome", signature: own, message_octets: this.s.messageOctets });
  }
}

const deviceOf = (path) => /^\/route-2b\/([0-9a-f]{16})$/.exec(path)?.[1];
const tryLater = (reason) => {
  const found = /^([0-9]{1,5}) /.exec(reason);
  return found ? Number(found[1]) : null;
};

// ---- vectors: 7 ----

function keyOf({ private: d, public: point }) {
  const base64url = (digits) => hex(digits).toString("base64url");
  const jwk = { kty: "EC", crv: "P-256", x: base64url(point.slice(2, 66)), y: base64url(point.slice(66)) };
  return {
    public: crypto.createPublicKey({ key: jwk, format: "jwk" }),
    private: crypto.createPrivateKey({ key: { ...jwk, d: base64url(d) }, format: "jwk" }),
  };
}

const outcome = (work) => {
  try {
    work();
    return null;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return error.code;
  }
};

function tryVectors(vectors) {
  const keys = Object.fromEntries(Object.entries(vectors.keys).map(([name, key]) => [name, keyOf(key)]));
  const h = vectors.handshake;
  const client = () => new ClientHandshake({
    device: h.device, dsrsp: h.dsrsp, offer: h.offer, clientNonce: hex(h.client_nonce), messageOctets: 1048576,
    certificate: hex(h.certificate_sha256), key: keys.device.private, peerKey: keys.supplier.public,
  });
  const server = () => new ServerHandshake({
    device: h.device, dsrsp: h.dsrsp, offer: h.offer, serverNonce: hex(h.server_nonce), messageOctets: 2097152,
    certificate: hex(h.certificate_sha256), key: keys.supplier.private, peerKey: keys.device.public,
  });
  const steps = {
    hello: (text) => server().hello(text),
    challenge: (text) => client().challenge(text),
    proof: (text) => {
      const end = server();
      end.hello(h.hello);
      return end.proof(text);
    },
    welcome: (text) => {
      const end = client();
      end.challenge(h.challenge);
      return end.welcome(text);
    },
  };
  const messages = vectors.messages.map((v) => {
    const payload = Buffer.concat(Array(v.payload_repeated ?? 1).fill(hex(v.payload)));
    const fields = { cra: v.cra_flag, counter: v.originator_counter, originator: v.originator_id, target: v.target_id, payload };
    const octets = buildMessage(fields, keys[v.signed_by].private);
    // Everything but the signature, which differs each time, must be the vector's; that one is verified.
    const signature = v.octets ? hex(v.octets).subarray(-64) : hex(v.signature);
    const theirs = Buffer.concat([octets.subarray(0, -64), signature]);
    const same = v.octets
      ? theirs.toString("hex") === v.octets
      : crypto.createHash("sha256").update(theirs).digest("hex") === v.octets_sha256;
    const expected = { ...fields, key: keys[v.signed_by].public, limit: 1 << 26 };
    const read = [octets, theirs].map((message) => readMessage(message, expected));
    return same && octets.length === v.octet_count &&
      read.every((r) => r.payload.equals(payload) && r.counter === BigInt(v.originator_counter));
  });
  const expected = { cra: 3, originator: h.device, target: h.dsrsp, key: keys.device.public, limit: 1 << 20 };
  const both = client();
  both.challenge(h.challenge);
  return {
    messages,
    refused_messages: vectors.refused_messages.map((v) => outcome(() => readMessage(hex(v.octets), expected))),
    handshake: ["hello", "challenge", "proof", "welcome"].map((step) => outcome(() => steps[step](h[step]))),
    signed: [transcript("client", both.s).toString("hex"), transcript("server", both.s).toString("hex")],
    refused_texts: vectors.refused_texts.map((v) => outcome(() => steps[v.step](v.text))),
    refused_paths: vectors.refused_paths.map((path) => deviceOf(path) === undefined),
    try_later: vectors.try_later.map((v) => tryLater(v.reason)),
  };
}

// ---- both ends, live: what comes is sent back, signed anew ----

const sha256 = (octets) => crypto.createHash("sha256").update(octets).digest();

function echo(socket, octets, s, cra) {
  const { counter, payload } = readMessage(octets, {
    cra: 4 - cra, originator: s.peer, target: s.me, key: s.peerKey, limit: s.messageOctets,
  });
  say({ received: payload.length, counter: String(counter) });
  socket.send(buildMessage({ cra, counter, originator: s.me, target: s.peer, payload }, s.key));
}

function listen(socket, steps, s, cra) {
  let open = false;
  socket.on("message", (data, isBinary) => {
    try {
      if (open) {
        if (!isBinary) refuse(4400, "a text");
        return echo(socket, data, s, cra);
      }
      const answer = steps.shift()(isBinary ? data : data.toString());
      if (typeof answer === "string") socket.send(answer);
      open = steps.length === 0;
      if (open) say({ open: true, message_octets: answer.message_octets });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      socket.close(error.code, error.message);
      say({ refused: error.code, reason: error.message });
    }
  });
  socket.on("close", (code, reason) => say({ closed: code, reason: reason.toString() }));
}

function runClient(WebSocket, s) {
  const plain = tls.connect({ host: "127.0.0.1", port: s.port, rejectUnauthorized: false, minVersion: "TLSv1.3" });
  plain.on("error", (error) => say({ error: error.message }));
  plain.once("secureConnect", () => {
    s.certificate = sha256(plain.getPeerX509Certificate().raw);
    if (s.certificate.toString("hex") !== s.pin) {
      plain.destroy();
      return say({ pin: s.certificate.toString("hex") });
    }
    const socket = new WebSocket(`ws://127.0.0.1:${s.port}/route-2b/${s.me}`, [SUBPROTOCOL], {
      createConnection: () => plain, perMessageDeflate: false,
    });
    const end = new ClientHandshake({ ...s, device: s.me, dsrsp: s.peer, clientNonce: crypto.randomBytes(32) });
    socket.on("open", () => socket.send(end.hello()));
    listen(socket, [(text) => end.challenge(text), (text) => end.welcome(text)], s, 3);
  });
}

function runServer(ws, s) {
  const server = https.createServer({ cert: fs.readFileSync(s.cert), key: fs.readFileSync(s.cert_key), minVersion: "TLSv1.3" });
  const certificate = sha256(new crypto.X509Certificate(fs.readFileSync(s.cert)).raw);
  const sockets = new ws.WebSocketServer({
    noServer: true, perMessageDeflate: false, maxPayload: s.messageOctets,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  });
  server.on("upgrade", (request, plain, head) => {
    const device = deviceOf(request.url);
    if (device !== s.peer) return plain.end("HTTP/1.1 404 Not Found\r\n\r\n");
    sockets.handleUpgrade(request, plain, head, (socket) => {
      const end = new ServerHandshake({ ...s, device, dsrsp: s.me, certificate, serverNonce: crypto.randomBytes(32) });
      listen(socket, [(text) => end.hello(text), (text) => end.proof(text)], s, 1);
    });
  });
  server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
}

function main() {
  const [what, file] = process.argv.slice(2);
  if (what === "vectors") return say(tryVectors(JSON.parse(fs.readFileSync(file))));
  readline.createInterface({ input: process.stdin }).once("line", (line) => {
    const s = JSON.parse(line);
    const ws = require(s.ws);
    s.key = crypto.createPrivateKey(s.key);
    s.peerKey = crypto.createPublicKey(s.peerKey);
    if (what === "client") runClient(ws.WebSocket, s);
    else runServer(ws, s);
  }).on("close", () => process.exit(0));
}

main();
