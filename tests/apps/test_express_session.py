"""Express sessions kept by the gateway: two processes of one application, asked in turn."""

import contextlib
import json
import os
import random
import shutil
import subprocess

import pytest
from conftest import ROOT, TARGET, Process, binary, free_port, vestibule
from test_flask_session import merged

EXPRESS = ROOT / "deploy" / "examples" / "express"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The address of the gateway before both processes."""
    folder = tmp_path_factory.mktemp("express")
    for source in [*EXPRESS.glob("*.js"), EXPRESS / "package.json"]:
        shutil.copy(source, folder)
    (folder / "node_modules").symlink_to(TARGET / "express" / "node_modules")
    gateway, *ports = (free_port() for _ in range(3))
    text = (EXPRESS / "vestibule.yaml").read_text()
    for written, free in zip(["8080", "3000", "3001"], [gateway, *ports], strict=True):
        text = text.replace(written, str(free))
    (folder / "vestibule.yaml").write_text(text)
    (folder / "session.key").write_text(vestibule("keys", "generate").stdout)
    (folder / "session.key").chmod(0o600)
    url = f"http://localhost:{gateway}"
    with contextlib.ExitStack() as running:
        for port in ports:
            environment = {**os.environ, "PORT": str(port)}
            log = folder / f"{port}.log"
            running.enter_context(
                Process(["node", "app.js"], f"http://127.0.0.1:{port}/cart", log, cwd=folder, env=environment)
            )
        run = [binary(), "run", "-c", folder / "vestibule.yaml"]
        running.enter_context(Process(run, url + "/cart", folder / "gateway.log"))
        yield url


def test_both_processes_know_the_cart(shop, curl):
    def cart():
        answer = curl(shop + "/cart")
        assert answer.status == 200, answer.body
        assert answer.header("X-Session-Patch") is None
        return json.loads(answer.body)

    assert cart()["cart"] == [] and curl.cookies() == {}
    for item in ["tea", "乌龙 ☕ \u2028"]:
        assert curl(shop + "/cart", "--data-urlencode", f"item={item}").status == 303
    assert list(curl.cookies()) == ["session"]
    assert curl(shop + "/name", "--data", "name=pure").status == 303
    seen = [cart() for _ in range(6)]
    assert len({one["process"] for one in seen}) == 2, "only one process answered"
    wanted = [{"item": "tea", "count": 1}, {"item": "乌龙 ☕ \u2028", "count": 1}]
    assert all(one["cart"] == wanted and one["name"] == "pure" for one in seen)
    curl(shop + "/name/forget", "--data", "")
    assert [cart()["name"] for _ in range(2)] == [None, None]
    curl(shop + "/clear", "--data", "")
    assert [cart()["cart"] for _ in range(2)] == [[], []]


def anything(chance, depth=0):
    if depth > 2 or chance.random() < 0.5:
        return chance.choice([True, False, 0, 1, -7.5, "", "a", "ä\n", [None]])
    if chance.random() < 0.4:
        return [anything(chance, depth + 1) for _ in range(chance.randrange(3))]
    names = ["a", "b", "__proto__", "constructor", "", "ä"]
    return {chance.choice(names): anything(chance, depth + 1) for _ in range(chance.randrange(3))}


def test_the_difference_leads_from_any_values_to_any_others():
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    names = ["a", "__proto__", "c"]
    pairs = [
        [{name: anything(chance) for name in names if chance.random() < 0.7} for _ in range(2)] for _ in range(3000)
    ]
    script = """
        import { difference } from "./vestibule-session.js";
        import { readFileSync } from "node:fs";
        const pairs = JSON.parse(readFileSync(0, "utf8"));
        console.log(JSON.stringify(pairs.map(([before, after]) => difference(before, after))));
    """
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", script],
        input=json.dumps(pairs), capture_output=True, text=True, timeout=60, cwd=EXPRESS,
    )
    assert done.returncode == 0, done.stderr
    for (before, after), patch in zip(pairs, json.loads(done.stdout), strict=True):
        assert merged(before, patch) == after, f"seed {seed}: {before} -> {after}: {patch}"
