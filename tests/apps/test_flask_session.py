"""Flask's `session` kept by the gateway: real Flask, two worker processes of gunicorn, and no state in either."""

import datetime
import html
import json
import random
import re
import sys
import uuid

import pytest
from conftest import FLASK, Curl
from playwright.sync_api import expect

sys.path.insert(0, str(FLASK))

PAGE = ("--header", "Accept: text/html")


class Visitor:
    """A cookie jar before the books."""

    def __init__(self, curl, url):
        self.curl, self.url, self.processes = curl, url + "/books/", set()

    def shown(self):
        """Name, age and books as the page has them."""
        page = self.curl(self.url, *PAGE)
        assert page.status == 200, page.body
        self.processes.add(page.body.split('id="process">')[1].split("<")[0])
        text = html.unescape(page.body)
        return {
            "name": text.split('id="name">')[1].split("<")[0],
            "age": text.split('id="age">')[1].split("<")[0],
            "books": re.findall(r"<li>(.*?)</li>", text),
        }

    def post(self, path, *fields):
        answer = self.curl(self.url + path, "--data", "", *fields)
        assert answer.status == 302, answer.body
        return answer


BLANK = {"name": "–", "age": "–", "books": ["no books"]}
FILLED = {"name": "pure", "age": "18", "books": ["Water Margin, 68.5", "红楼梦, 59"]}


def test_what_is_set_is_read_by_every_worker_until_it_is_deleted(guarded, curl):
    visitor = Visitor(curl, guarded.url)
    assert visitor.shown() == BLANK
    assert curl.cookies() == {}, "a visit alone opens nothing"

    filled = visitor.post("fill")
    assert [name for name, _ in filled.fields if name.lower().startswith("x-session")] == []
    assert list(curl.cookies()) == ["session"], "the gateway's cookie, and none of Flask's"
    # The kernel hands connections to whichever worker is idle: a bounded number of tries shows both.
    for _ in range(200):
        assert visitor.shown() == FILLED
        if len(visitor.processes) == 2:
            break
    assert len(visitor.processes) == 2, "only one worker answered"

    for title in ["<b>&\\u2028", "三国演义"]:
        visitor.post("add", "--data-urlencode", f"title={title}")
    assert visitor.shown()["books"] == [*FILLED["books"], "<b>&\\u2028, 0", "三国演义, 0"]
    visitor.post("forget/name")
    assert visitor.shown()["name"] == "–" and visitor.shown()["age"] == "18"
    visitor.post("clear")
    assert visitor.shown() == BLANK


def test_visitors_do_not_see_each_other(guarded, tmp_path):
    visitors = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        visitors.append(Visitor(Curl(folder), guarded.url))
    visitors[0].post("fill")
    visitors[1].post("add", "--data-urlencode", "title=mine")
    assert [visitor.shown()["books"] for visitor in visitors] == [FILLED["books"], ["mine, 0"], ["no books"]]


def test_values_from_outside_are_not_believed(guarded, curl):
    forged = json.dumps({"name": "root", "age": 99})
    for name in ["X-Session-Data", "X_Session_Data", "x-session.data"]:
        page = curl(guarded.url + "/books/", *PAGE, "--header", f"{name}: {forged}")
        assert page.status == 200 and "root" not in page.body, name


def test_more_than_a_session_holds_is_refused_whole(guarded, curl):
    visitor = Visitor(curl, guarded.url)
    visitor.post("fill")
    for number in range(100):
        answer = curl(visitor.url + "add", "--data-urlencode", f"title={number} {'x' * 90}")
        if answer.status != 302:
            break
    assert answer.status == 502
    kept = visitor.shown()
    assert kept["name"] == "pure" and len(kept["books"]) == 2 + number, "what was there before stays"


def test_a_person_fills_and_clears_it(guarded, visitor, shoot):
    page = visitor(locale="en-GB", java_script_enabled=False).new_page()
    page.goto(guarded.url + "/books/")
    page.get_by_role("button", name="Fill the session").click()
    expect(page.locator("#name")).to_have_text("pure")
    page.get_by_label("Title").fill("Dream <i>")
    page.get_by_role("button", name="Add a book").click()
    expect(page.get_by_role("listitem")).to_have_text(["Water Margin, 68.5", "红楼梦, 59", "Dream <i>, 0"])
    shoot(page, "books")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#name")).to_have_text("–")


@pytest.fixture
def session():
    import vestibule_session

    return vestibule_session


def merged(target, patch):
    """RFC 7396 §2, as it stands there."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merged(target.get(name), value)
    return target


def anything(random, depth=0):
    plain = [None, True, False, 0, 1, 1.0, -7, 2**70, 0.1, "", "a", "ä\n", datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC),
             uuid.UUID(int=7), b"\0\xff", (1, "a")]
    if depth > 2 or random.random() < 0.5:
        return random.choice(plain)
    if random.random() < 0.4:
        return [anything(random, depth + 1) for _ in range(random.randrange(3))]
    return {random.choice(["a", "b", " t", " n", "", "ä"]): anything(random, depth + 1) for _ in range(random.randrange(3))}


def test_the_difference_leads_from_any_values_to_any_others(session):
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(3000):
        before, after = ({"a": anything(chance), "b": anything(chance), " x": 1} for _ in range(2))
        after.pop(chance.choice(["a", "b", "none"]), None)
        sent, wanted = (json.loads(session.TAGGED.dumps(values)) for values in (before, after))
        got = merged(sent, session.difference(sent, wanted))
        assert json.dumps(got, sort_keys=True) == json.dumps(wanted, sort_keys=True), f"seed {seed}: {before} -> {after}"
        opened = session.VestibuleSession(json.dumps(got))
        assert opened == after, f"seed {seed}: {after}"
    assert session.difference(sent, sent) == {}


def test_an_unchanged_flask_application_has_all_its_habits(session):
    import flask

    app = flask.Flask(__name__)
    app.session_interface = session.VestibuleSessions()

    @app.get("/<step>")
    def walk(step):
        if step == "flash":
            flask.flash("saved", "good")
        elif step == "permanent":
            flask.session.permanent = True
        elif step == "deep":
            flask.session["list"][0]["price"] = 2
        elif step == "broken":
            flask.session["before"] = "the error"
            flask.abort(418)
        return json.dumps(flask.get_flashed_messages(with_categories=True) if step == "flashed" else None)

    client, data = app.test_client(), {"list": [{"price": 1}]}
    for step, expected, body in [
        ("nothing", None, None),
        ("deep", {"list": [{"price": 2}]}, None),
        ("flash", {"_flashes": [{" t": ["good", "saved"]}]}, None),
        ("flashed", {"_flashes": None}, [["good", "saved"]]),
        ("permanent", {"_permanent": True}, None),
        ("broken", {"before": "the error"}, ...),
    ]:
        answer = client.get(f"/{step}", headers={"X-Session-Data": json.dumps(data)})
        patch = answer.headers.get("X-Session-Patch")
        assert (json.loads(patch) if patch else None) == expected, step
        assert "Set-Cookie" not in answer.headers, step
        if body is not ...:
            assert json.loads(answer.data) == body, step
        data = merged(data, json.loads(patch or "{}"))
