"""A Flask application that keeps a visitor's name, age and books in `session`, the ordinary way, and no state of its own.

One line tells Flask where sessions live. Every worker, and every machine, answers every visitor alike.
"""

import os

from flask import Flask, redirect, render_template_string, request, session, url_for
from vestibule_session import VestibuleSessions

app = Flask(__name__)
app.session_interface = VestibuleSessions()

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Books</title>
<style>body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
form { display: inline } dt { font-weight: bold }</style>
<h1>Books</h1>
<dl><dt>Name</dt><dd id="name">{{ session.get("name", "–") }}</dd>
<dt>Age</dt><dd id="age">{{ session.get("age", "–") }}</dd></dl>
<ul>{% for book in session.get("book_list", []) %}<li>{{ book.title }}, {{ book.price }}</li>{% else %}<li>no books</li>{% endfor %}</ul>
<form method="post" action="{{ url_for('fill') }}"><button>Fill the session</button></form>
<form method="post" action="{{ url_for('add') }}"><label>Title <input name="title" required></label> <button>Add a book</button></form>
<form method="post" action="{{ url_for('forget', name='name') }}"><button>Forget the name</button></form>
<form method="post" action="{{ url_for('clear') }}"><button>Clear</button></form>
<p>Answered by process <span id="process">{{ process }}</span>.</p>
"""


@app.get("/books/")
def books():
    return render_template_string(PAGE, process=os.getpid())


@app.post("/books/fill")
def fill():
    session["name"] = "pure"
    session["age"] = 18
    session["book_list"] = [{"title": "Water Margin", "price": 68.5}, {"title": "红楼梦", "price": 59}]
    return redirect(url_for("books"))


@app.post("/books/add")
def add():
    # A change inside a list: Flask's own sessions would want `session.modified = True` here.
    session.setdefault("book_list", []).append({"title": request.form["title"][:100], "price": 0})
    return redirect(url_for("books"))


@app.post("/books/forget/<name>")
def forget(name):
    session.pop(name, None)
    return redirect(url_for("books"))


@app.post("/books/clear")
def clear():
    session.clear()
    return redirect(url_for("books"))
