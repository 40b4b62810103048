"""Who asks, with proof: checks the assertion that vestibule signs for this application, with the keys that it publishes."""

import jwt

# No other token of the same issuer passes for one.
TYPE = "vestibule-assertion+jwt"


class Assertions:
    """`keys`: the URL of the gateway's jwks.json; `issuer`: its `identity.assertion.issuer`; `audience`: this application's name
    under `upstreams`."""

    def __init__(self, keys, issuer, audience):
        # Fetched with the first request and again after five minutes, or when an unknown key signs: at most once a second.
        self.keys = jwt.PyJWKClient(keys, lifespan=300, cooldown_duration=1, timeout=5)
        self.issuer, self.audience = issuer, audience

    def claims(self, headers):
        """The claims of a request that brings an assertion for this application; raises `jwt.PyJWTError` for any other."""
        token = headers.get("X-Auth-Assertion", "")
        if jwt.get_unverified_header(token).get("typ") != TYPE:
            raise jwt.InvalidTokenError("not an assertion")
        return jwt.decode(
            token,
            self.keys.get_signing_key_from_jwt(token),
            algorithms=["ES256", "EdDSA"],
            issuer=self.issuer,
            audience=self.audience,
            leeway=5,
            options={"require": ["iss", "aud", "sub", "iat", "exp"]},
        )
