// A hook over HTTP, with nothing but what comes with Node.js (18 or later).
//
//     HOOK_SECRET=whsec_… HOOK_PLUGIN_ID=com.example.sample node hook.mjs 127.0.0.1:8081
//
// HOOK_SECRET may have several keys, separated by commas: while one takes over from another, both are good.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

const WINDOW = 300; // seconds that a request may be old, or early
const REMEMBERED = 600_000; // milliseconds that an answer is kept, in case the same request comes again
const LONGEST = 4 << 20; // octets of a request

/** A request that gets a status instead of an answer. */
class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

export function readKeys(text) {
  return text.split(",").map((part) => Buffer.from(part.trim().replace(/^whsec_/, ""), "base64"));
}

/** The signature of these parts: HMAC-SHA256 over what stands between dots. */
export function sign(key, ...parts) {
  const mac = createHmac("sha256", key);
  parts.forEach((part, place) => (place ? mac.update(".").update(part) : mac.update(part)));
  return `sha256=${mac.digest("hex")}`;
}

function isEqual(a, b) {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

/** The key that signed the request. Nothing of the body is believed before. */
export function verify(keys, headers, body, now) {
  const id = headers["x-mairust-request-id"] ?? "";
  const timestamp = headers["x-mairust-timestamp"] ?? "";
  const signatures = (headers["x-mairust-signature"] ?? "").split(", ");
  if (!/^[0-9]+$/.test(timestamp) || Math.abs(now - Number(timestamp)) > WINDOW) {
    throw new Refused(401, "the request is too old or too early");
  }
  for (const key of keys) {
    const wanted = sign(key, id, timestamp, body);
    // All are compared, each in constant time.
    if (signatures.filter((signature) => isEqual(wanted, signature)).length) return key;
  }
  throw new Refused(401, "the signature is wrong");
}

/** What is to become of the message. Parts that may not be seen are absent. */
export function decide(request) {
  const { headers = [], attachments = [] } = request.message ?? {};
  const has = (name, test) => headers.some((field) => field.name.toLowerCase() === name && test(field.value ?? ""));
  if (has("x-test-reject", () => true)) {
    const smtp = { code: 550, enhanced: "5.7.1", text: "refused by the sample hook" };
    return { verdict: "reject", smtp, reason: "X-Test-Reject" };
  }
  if (attachments.some((attachment) => (attachment.filename ?? "").toLowerCase().endsWith(".exe"))) {
    return { verdict: "quarantine", reason: "a program is attached" };
  }
  if (has("subject", (value) => value.toLowerCase().includes("invoice"))) {
    return { verdict: "allow", actions: [{ op: "tag.add", tags: ["invoice"] }] };
  }
  return { verdict: "allow" };
}

async function readBody(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > LONGEST) throw new Refused(413, "too long");
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** A server with these keys, for the hook of this name. */
export function hook(keys, pluginId) {
  const answers = new Map();

  function answer(body) {
    const request = JSON.parse(body);
    if (request.plugin.id !== pluginId) throw new Refused(403, "this is another hook");
    const now = Date.now();
    for (const [id, { at }] of answers) if (now - at > REMEMBERED) answers.delete(id);
    const id = request.invocation_id;
    if (!answers.has(id)) answers.set(id, { at: now, answer: decide(request) });
    return answers.get(id).answer;
  }

  async function serve(request) {
    const isHealth = request.method === "GET" && request.url === "/health";
    if (!isHealth && !(request.method === "POST" && request.url === "/hook")) throw new Refused(404, "not found");
    const body = await readBody(request);
    const key = verify(keys, request.headers, body, Date.now() / 1000);
    const reply = Buffer.from(JSON.stringify(isHealth ? { status: "ok", details: "ready" } : answer(body)));
    const { "x-mairust-request-id": id, "x-mairust-timestamp": timestamp } = request.headers;
    return [reply, sign(key, "resp", id, timestamp, reply)];
  }

  return createServer(async (request, response) => {
    try {
      const [body, signature] = await serve(request);
      response.writeHead(200, { "Content-Type": "application/json", "X-MaiRust-Response-Signature": signature });
      response.end(body);
    } catch (error) {
      const status = error instanceof Refused ? error.status : 400;
      response.writeHead(status, { "Content-Type": "text/plain", Connection: "close" });
      response.end(error.message);
    }
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [, host, port] = /^(.*):([0-9]+)$/.exec(process.argv[2] ?? "127.0.0.1:8081");
  const server = hook(readKeys(process.env.HOOK_SECRET), process.env.HOOK_PLUGIN_ID);
  server.listen(Number(port), host, () => console.log(`listening on ${host}:${server.address().port}`));
}
