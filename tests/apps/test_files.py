"""The files that come with the gateway, against the schema it prints and against its own reader."""

import json
import pathlib
import shutil

import pytest
import yaml
from conftest import ROOT, vestibule
from jsonschema import Draft202012Validator

SHIPPED = sorted([*ROOT.glob("config/*.yaml"), *ROOT.glob("deploy/**/vestibule.yaml"), *ROOT.glob("deploy/**/verified.yaml")])


@pytest.fixture(scope="module")
def schema():
    printed = vestibule("schema")
    assert printed.returncode == 0, printed.stderr
    schema = json.loads(printed.stdout)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_a_shipped_file_is_what_the_schema_says(schema, path):
    problems = [f"{error.json_path}: {error.message}" for error in schema.iter_errors(yaml.safe_load(path.read_text()))]
    assert problems == []


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_a_shipped_file_passes_check(path, tmp_path):
    shutil.copy(path, tmp_path / "vestibule.yaml")
    key = vestibule("keys", "generate").stdout
    hashed = vestibule("password", "hash", stdin="open sesame\n").stdout.strip()
    for secret in ["session.key", "admin.token", "jwt.secret"]:
        (tmp_path / secret).write_text(key)
        (tmp_path / secret).chmod(0o600)
    signs = vestibule("keys", "generate", "--assertion").stdout
    (tmp_path / "assertion.pem").write_text(signs)
    (tmp_path / "assertion.pem").chmod(0o600)
    (tmp_path / "users.yaml").write_text(f"alice:\n  password: {hashed}\n")
    checked = vestibule("check", "-c", tmp_path / "vestibule.yaml")
    assert checked.returncode == 0, checked.stderr + checked.stdout
    assert "warning" not in checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda file: file["sessions"].update(idle_timout="30m"), "$.sessions"),
        (lambda file: file["sessions"].update(idle_timeout=30), "$.sessions.idle_timeout"),
        (lambda file: file["keys"].append("c2VjcmV0"), "$.keys[1]"),
        (lambda file: file.pop("version"), "$"),
    ],
    ids=["a misspelt key", "a duration without unit", "a literal secret", "no version"],
)
def test_the_schema_finds_what_the_reader_refuses(schema, change, where, tmp_path):
    file = yaml.safe_load((ROOT / "deploy/examples/flask/vestibule.yaml").read_text())
    change(file)
    assert where in [error.json_path for error in schema.iter_errors(file)]
    (tmp_path / "vestibule.yaml").write_text(yaml.safe_dump(file))
    assert vestibule("check", "-c", tmp_path / "vestibule.yaml").returncode == 2


def test_there_are_shipped_files():
    assert {pathlib.Path("config/vestibule.yaml"), pathlib.Path("config/minimal.yaml")} <= {
        path.relative_to(ROOT) for path in SHIPPED
    }
