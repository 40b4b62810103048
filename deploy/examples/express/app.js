// An Express application that keeps a visitor's shopping cart in `req.session`, and no state of its own.

import express from "express";
import { vestibuleSession } from "./vestibule-session.js";

const app = express();
app.use(vestibuleSession());
app.use(express.urlencoded({ extended: false }));

app.get("/cart", (req, res) => {
  res.json({ cart: req.session.cart ?? [], name: req.session.name ?? null, process: process.pid });
});

app.post("/cart", (req, res) => {
  const cart = (req.session.cart ??= []);
  cart.push({ item: String(req.body.item).slice(0, 100), count: 1 });
  res.redirect(303, "/cart");
});

app.post("/name", (req, res) => {
  req.session.name = req.body.name;
  res.redirect(303, "/cart");
});

app.post("/name/forget", (req, res) => {
  delete req.session.name;
  res.redirect(303, "/cart");
});

app.post("/clear", (req, res) => {
  req.session = {};
  res.redirect(303, "/cart");
});

const port = Number(process.env.PORT ?? 3000);
app.listen(port, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${port}`));
