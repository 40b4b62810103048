"""A Flask application that believes the gateway's signature, and no network in between."""

import os

import jwt
from flask import Flask, abort, g, jsonify, request

from vestibule_assertion import Assertions

app = Flask(__name__)
gateway = os.environ.get("GATEWAY", "http://localhost:8080")
assertions = Assertions(
    keys=f"{gateway}/_vestibule/jwks.json",
    # As `identity.assertion.issuer` says, and the name of this application under `upstreams`.
    issuer="https://gw.example.com",
    audience=os.environ.get("AUDIENCE", "verified"),
)


@app.before_request
def who_asks():
    try:
        g.claims = assertions.claims(request.headers)
    except jwt.PyJWTError as refused:
        app.logger.warning("refused: %s", refused)
        abort(401)


@app.get("/verified")
def claims():
    return jsonify({name: g.claims.get(name) for name in ["sub", "source", "email", "groups"]})
