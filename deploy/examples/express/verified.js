// An Express application that believes the gateway's signature, and no network in between.

import express from "express";
import { vestibuleAssertion } from "./vestibule-assertion.js";

const gateway = process.env.GATEWAY ?? "http://localhost:8080";

const app = express();
app.use(
  vestibuleAssertion({
    keys: `${gateway}/_vestibule/jwks.json`,
    // As `identity.assertion.issuer` says, and the name of this application under `upstreams`.
    issuer: "https://gw.example.com",
    audience: process.env.AUDIENCE ?? "verified",
  }),
);

app.get("/verified", (req, res) => {
  const { sub, source, email, groups = [] } = req.claims;
  res.json({ sub, source, email, groups });
});

const port = Number(process.env.PORT ?? 3002);
app.listen(port, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${port}`));
