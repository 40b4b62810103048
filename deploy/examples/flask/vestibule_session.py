"""Flask sessions whose values lie in vestibule: `app.session_interface = VestibuleSessions()`, and `session[...]` is as ever.

The gateway sends what it keeps in X-Session-Data and takes changes from X-Session-Patch (a JSON merge patch, RFC 7396). No
worker keeps anything, no cookie is set, no secret key is needed. The route must say `session: { data: true }`, and the
application's port must be open to nobody but the gateway.
"""

import json

from flask.json.tag import JSONTag, TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin


class TagNone(JSONTag):
    """In a merge patch null deletes; None is to stay."""

    key = " n"

    def check(self, value):
        return value is None

    def to_json(self, value):
        return True

    def to_python(self, value):
        return None


# Tuples, dates, bytes and the like come back as they were, as in Flask's own sessions.
TAGGED = TaggedJSONSerializer()
TAGGED.register(TagNone)


class VestibuleSession(dict, SessionMixin):
    """A dictionary that knows what the gateway sent. `permanent` changes nothing: the gateway's clocks count."""

    def __init__(self, received):
        super().__init__(TAGGED.loads(received))
        self.received = json.loads(received)


class VestibuleSessions(SessionInterface):
    def open_session(self, app, request):
        # A visitor of whom the gateway keeps nothing yet comes without the header; the first value opens an anonymous session.
        return VestibuleSession(request.headers.get("X-Session-Data", "{}"))

    def save_session(self, app, session, response):
        # Compared as a whole, so that a change deep inside counts without `session.modified`.
        patch = difference(session.received, json.loads(TAGGED.dumps(dict(session))))
        if patch:
            response.headers["X-Session-Patch"] = json.dumps(patch, separators=(",", ":"))


def difference(before, after):
    """The merge patch that makes `before` into `after`."""
    patch = {name: None for name in before if name not in after}
    for name, value in after.items():
        held = before.get(name)
        if isinstance(value, dict) and isinstance(held, dict):
            if inner := difference(held, value):
                patch[name] = inner
        elif name not in before or json.dumps(value) != json.dumps(held):
            patch[name] = value
    return patch
