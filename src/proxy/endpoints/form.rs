//! Forms: read once, bounded in bytes and time, and proved to come from a page of ours.

use super::{host_cookie, is_own_form, own_cookie};
use crate::auth::form::{BrowserSecret, FormTokens};
use crate::domain::decision::Rejection;
use crate::domain::secret::Secret;
use crate::proxy::context::Context;
use crate::proxy::respond::Answer;
use crate::proxy::snapshot::Snapshot;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderValue, Version};
use pingora::http::RequestHeader;
use pingora::proxy::Session as Exchange;
use std::time::Duration;
use zeroize::Zeroize;

/// The largest form: a password of 1 KiB, percent-encoded, with room for the other fields.
const FORM_BYTES_MAX: usize = 8 * 1024;
/// The longest that a form may take to arrive.
const FORM_TIME_MAX: Duration = Duration::from_secs(10);

/// A browser that is about to get a form, or has sent one: what is made for it is worth nothing in another.
pub(super) struct Recipient<'a> {
    pub(super) forms: &'a FormTokens,
    pub(super) browser: BrowserSecret,
    /// The cookie to set where the browser brought none: the field's name and its value.
    fresh: Option<(&'static str, HeaderValue)>,
}

impl<'a> Recipient<'a> {
    /// The browser of this request; one that comes without our cookie gets it with the page.
    ///
    /// # Errors
    ///
    /// Nobody signs in here: there are no forms.
    pub(super) fn of(head: &RequestHeader, ctx: &'a Context) -> Result<Self, Rejection> {
        let forms = ctx.snapshot.forms.as_ref().ok_or(Rejection::NoRoute)?;
        if let Some(known) = Self::known(head, ctx) {
            return Ok(known);
        }
        let name = Snapshot::form_cookie(ctx.outside());
        let (browser, cookie) = forms.new_browser().map_err(|_| Rejection::Internal("random"))?;
        Ok(Self { forms, browser, fresh: Some(host_cookie(ctx, name, Some(&cookie), None)) })
    }

    /// The browser of this request, where it brings our cookie.
    pub(super) fn known(head: &RequestHeader, ctx: &'a Context) -> Option<Self> {
        let forms = ctx.snapshot.forms.as_ref()?;
        let cookie = own_cookie(&head.headers, Snapshot::form_cookie(ctx.outside()))?;
        Some(Self { forms, browser: forms.browser(cookie.as_bytes())?, fresh: None })
    }

    /// The token of a form that is good for `purpose`.
    pub(super) fn token(&self, purpose: &str, ctx: &Context) -> String {
        self.forms.issue(&self.browser, purpose, ctx.now)
    }

    /// The page with the form, and the cookie that the form is tied to.
    pub(super) fn send(self, page: Answer) -> Answer {
        match self.fresh {
            Some((name, value)) => page.with(name, value),
            None => page,
        }
    }
}

/// Whether `token` was made for this browser and `purpose`, and lately.
pub(super) fn is_proved(head: &RequestHeader, ctx: &Context, purpose: &str, token: &str) -> bool {
    Recipient::known(head, ctx)
        .is_some_and(|known| known.forms.check(token, &known.browser, purpose, ctx.now))
}

/// The fields of a form (`application/x-www-form-urlencoded`); wiped when dropped.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the request's body as a form that a page of ours has sent.
    pub(super) async fn read(exchange: &mut Exchange, ctx: &Context) -> Result<Self, Rejection> {
        let head = exchange.req_header();
        if !is_own_form(head, ctx) {
            return Err(Rejection::BadForm("other_origin"));
        }
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Rejection::BadRequest("form_type"));
        }
        let length = head.headers.get(CONTENT_LENGTH).ok_or(Rejection::LengthRequired)?;
        let length: usize = length.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
        if length > FORM_BYTES_MAX {
            return Err(Rejection::TooLarge);
        }
        // An HTTP/1.0 client knows no interim answer (RFC 9110 §10.1.1).
        if head.version != Version::HTTP_10 && head.headers.contains_key(EXPECT) {
            exchange.write_continue_response().await.map_err(|_| Rejection::TooSlow)?;
        }
        let mut body = Vec::with_capacity(length);
        // On a connection of HTTP/1 the wire hears.
        let hearing = ctx.link.as_ref().filter(|_| exchange.req_header().version == Version::HTTP_2);
        let reading = async {
            while let Some(part) = exchange.read_request_body().await.map_err(|_| Rejection::TooSlow)? {
                if body.len() + part.len() > FORM_BYTES_MAX {
                    return Err(Rejection::TooLarge);
                }
                body.extend_from_slice(&part);
                if let Some(link) = hearing {
                    link.hear(part.len());
                }
            }
            if let Some(link) = hearing {
                link.hear_all();
            }
            Ok(())
        };
        tokio::time::timeout(FORM_TIME_MAX, reading).await.map_err(|_| Rejection::TooSlow)??;
        let fields = form_urlencoded::parse(&body).into_owned().collect();
        body.zeroize();
        Ok(Self(fields))
    }

    /// The first field of this name; empty if there is none.
    pub(super) fn field(&self, name: &str) -> &str {
        self.0.iter().find(|(held, _)| held == name).map_or("", |(_, value)| value)
    }

    /// Every field of this name, in order.
    pub(super) fn fields(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(held, _)| held == name).map(|(_, value)| &**value)
    }

    /// A field that nothing may print.
    pub(super) fn secret(&self, name: &str) -> Secret<String> {
        Secret::new(self.field(name).to_owned())
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            value.zeroize();
        }
    }
}
