"""A Flask application without sign-in of its own, behind vestibule.

It believes three headers, which only the gateway can set: whatever a visitor sends under those names is removed. Keep the
application's port closed to everybody but the gateway.
"""

import os
from urllib.parse import unquote

from flask import Flask, Response, jsonify, redirect, render_template_string, request, session, url_for

app = Flask(__name__)
# Signs Flask's own session cookie, which the gateway passes through as it is. Sign-in does not hang on it.
app.secret_key = os.environ.get("FLASK_SECRET_KEY") or os.urandom(32)
app.config.update(SESSION_COOKIE_NAME="flask_session", SESSION_COOKIE_SAMESITE="Lax")

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
body.dark { background: #222; color: #eee } nav a { margin-right: 1rem } dt { font-weight: bold }</style>
<body class="{{ theme }}">
<nav><a href="{{ url_for('who_am_i') }}">Who am I</a><a href="{{ url_for('notes') }}">Notes</a>
<a href="{{ url_for('public') }}">Public</a><a href="{{ url_for('ops') }}">Ops</a>
<a href="/_vestibule/logout">Sign out</a></nav>
<h1>{{ title }}</h1>
{{ body|safe }}
"""


class Visitor:
    """Who the gateway says this request comes from."""

    def __init__(self, headers):
        self.name = unquote(headers.get("X-Auth-User", "")) or None
        self.email = unquote(headers.get("X-Auth-Email", "")) or None
        # Items are separated by commas; a comma inside one arrives as %2C.
        groups = headers.get("X-Auth-Groups", "")
        self.groups = [unquote(group.strip()) for group in groups.split(",") if group.strip()]


def page(title, template, **values):
    body = render_template_string(template, **values)
    theme = "dark" if request.cookies.get("theme") == "dark" else "light"
    return render_template_string(PAGE, title=title, body=body, theme=theme)


@app.get("/")
def who_am_i():
    session["visits"] = session.get("visits", 0) + 1
    return page(
        "Who am I",
        """<dl><dt>Name</dt><dd id="name">{{ visitor.name }}</dd>
        <dt>E-mail</dt><dd id="email">{{ visitor.email or "–" }}</dd>
        <dt>Groups</dt><dd id="groups">{{ visitor.groups|join(", ") or "–" }}</dd>
        <dt>Visits, counted in Flask's session</dt><dd id="visits">{{ visits }}</dd></dl>
        <p><a href="{{ url_for('theme', name='dark') }}">Dark</a> · <a href="{{ url_for('theme', name='light') }}">Light</a></p>""",
        visitor=Visitor(request.headers),
        visits=session["visits"],
    )


@app.route("/notes", methods=["GET", "POST"])
def notes():
    if request.method == "POST":
        session["notes"] = (session.get("notes", []) + [request.form["note"][:200]])[-10:]
        return redirect(url_for("notes"))
    return page(
        "Notes",
        """<ul>{% for note in notes %}<li>{{ note }}</li>{% else %}<li>none yet</li>{% endfor %}</ul>
        <form method="post"><label>Note <input name="note" required></label> <button>Add</button></form>""",
        notes=session.get("notes", []),
    )


@app.get("/theme/<name>")
def theme(name):
    answer = redirect(url_for("who_am_i"))
    answer.set_cookie("theme", "dark" if name == "dark" else "light", max_age=3600, samesite="Lax")
    return answer


@app.get("/public/")
def public():
    return page("Public", "<p>Open to everybody. Here the gateway names nobody: {{ name }}.</p>",
                name=request.headers.get("X-Auth-User"))


@app.get("/ops/")
def ops():
    return page("Ops", "<p>Only the group ops comes here. {{ name }} does.</p>", name=Visitor(request.headers).name)


@app.route("/echo", methods=["GET", "POST"])
def echo():
    """The request as it arrived here."""
    fields = [[name, value] for name, value in request.headers.items()]
    return jsonify(method=request.method, target=request.environ.get("REQUEST_URI", request.full_path),
                   headers=fields, body=request.get_data(as_text=True))


@app.get("/empty")
def empty():
    return Response(status=204)
