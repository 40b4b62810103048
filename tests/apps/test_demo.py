"""`vestibule demo`, followed as its own words say."""

import re
import signal
import subprocess
import urllib.request

from conftest import Process, binary, free_port, vestibule
from playwright.sync_api import expect


def test_the_demonstration_is_walked_with_what_it_prints(visitor, shoot, tmp_path):
    port = free_port()
    url = f"http://localhost:{port}"
    demo = [binary(), "demo", "--port", port, "--folder", tmp_path / "trial"]
    with Process(demo, url + "/public/", tmp_path / "demo.log") as running:
        said = running.log.read_text()
        passwords = dict(re.findall(r"^ +(alice|bob) +(\S+) +groups", said, re.MULTILINE))
        assert set(passwords) == {"alice", "bob"} and url in said, said
        assert "WARN" not in said, said

        page = visitor(locale="en-GB").new_page()
        page.goto(url + "/")
        page.get_by_label("User name").fill("bob")
        page.get_by_label("Password").fill(passwords["bob"])
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Who am I")
        expect(page.locator("dd").first).to_have_text("bob")
        shoot(page, "who-am-i")
        page.goto(url + "/visits")
        page.goto(url + "/visits")
        expect(page.locator(".count")).to_have_text("2 visits")
        shoot(page, "visits")
        page.goto(url + "/ops/")
        expect(page.get_by_role("heading", level=1)).to_have_text("No access")
        page.goto(url + "/public/")
        expect(page.get_by_role("main")).to_contain_text("absent")

        listed = vestibule("sessions", "list", "-c", tmp_path / "trial" / "vestibule.yaml")
        assert listed.returncode == 0, listed.stderr
        assert re.search(r"\bbob\b", listed.stdout), listed.stdout
        ended = vestibule("sessions", "end", "-c", tmp_path / "trial" / "vestibule.yaml", "--subject", "bob")
        assert ended.returncode == 0, ended.stderr
        page.goto(url + "/")
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert (tmp_path / "trial" / "vestibule.yaml").exists()


def test_the_demonstration_ends_at_once_when_interrupted(tmp_path):
    port = free_port()
    with Process([binary(), "demo", "--port", port], f"http://localhost:{port}/public/", tmp_path / "demo.log") as running:
        urllib.request.urlopen(f"http://localhost:{port}/public/").close()
        running.process.send_signal(signal.SIGINT)
        try:
            assert running.process.wait(timeout=5) == 0
        except subprocess.TimeoutExpired:
            raise AssertionError("it still runs 5 s after Ctrl-C") from None
