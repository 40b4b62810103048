// Express behind vestibule, with proof: `app.use(vestibuleAssertion({ … }))`, and `req.claims` says who asks.
//
// The gateway signs X-Auth-Assertion (a JWT) for this application alone and publishes its keys. Whoever reaches the application's
// port without the gateway has none, and gets 401.

import { createRemoteJWKSet, jwtVerify } from "jose";

export function vestibuleAssertion({ keys, issuer, audience }) {
  // The set is fetched with the first request and again after ten minutes, or when an unknown key signs: at most once a second.
  const set = createRemoteJWKSet(new URL(keys), { cooldownDuration: 1_000 });
  const expected = {
    issuer,
    audience,
    algorithms: ["ES256", "EdDSA"],
    // No other token of the same issuer passes for one.
    typ: "vestibule-assertion+jwt",
    requiredClaims: ["sub", "iat", "exp"],
    clockTolerance: 5,
  };
  return async (req, res, next) => {
    try {
      const { payload } = await jwtVerify(req.get("X-Auth-Assertion") ?? "", set, expected);
      req.claims = payload;
    } catch (error) {
      console.warn(`refused: ${error.code}`);
      return res.sendStatus(401);
    }
    next();
  };
}
