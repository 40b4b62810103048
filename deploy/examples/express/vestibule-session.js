// Express sessions whose values lie in vestibule: `app.use(vestibuleSession())`, and `req.session` is an ordinary object.
//
// The gateway sends what it keeps in X-Session-Data and takes changes from X-Session-Patch (a JSON merge patch, RFC 7396). No
// process keeps anything and no cookie is set. The route must say `session: { data: true }`, and the application's port must be
// open to nobody but the gateway. A member set to null or undefined is deleted.

export function vestibuleSession() {
  return (req, res, next) => {
    // A visitor of whom the gateway keeps nothing yet comes without the header; the first value opens an anonymous session.
    const received = JSON.parse(req.get("X-Session-Data") ?? "{}");
    req.session = structuredClone(received);
    const { writeHead } = res;
    // The last moment at which a header can be set, however the answer is written.
    res.writeHead = function (...head) {
      const patch = difference(received, plain(req.session));
      if (Object.keys(patch).length > 0) res.setHeader("X-Session-Patch", ascii(JSON.stringify(patch)));
      return writeHead.apply(this, head);
    };
    next();
  };
}

// The merge patch that makes `before` into `after`.
export function difference(before, after) {
  const gone = Object.keys(before).filter((name) => !Object.hasOwn(after, name)).map((name) => [name, null]);
  const changed = Object.keys(after).flatMap((name) => {
    const value = after[name];
    const held = Object.hasOwn(before, name) ? before[name] : undefined;
    if (isObject(value) && isObject(held)) {
      const inner = difference(held, value);
      return Object.keys(inner).length > 0 ? [[name, inner]] : [];
    }
    return JSON.stringify(value) === JSON.stringify(held) ? [] : [[name, value]];
  });
  // Not by assignment: a member named `__proto__` is one like others.
  return Object.fromEntries([...gone, ...changed]);
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

// What JSON makes of it: dates become text, undefined goes.
const plain = (session) => JSON.parse(JSON.stringify(session ?? {}));

// A header is ASCII.
const ascii = (json) => json.replace(/[\u007f-\uffff]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
