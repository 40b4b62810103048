//! Forms: read once, bounded in bytes and time, and proved to come from a page of ours.

use super::{host_cookie, own_cookie};
use crate::auth::form::{BrowserSecret, FormTokens};
use crate::domain::decision::Rejection;
use crate::domain::secret::Secret;
use crate::proxy::context::Context;
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

/// A Set-Cookie line: the field's name and its value.
type NewCookie = (&'static str, HeaderValue);

/// The secret that ties forms to this browser, and the cookie to set where it has none yet.
pub(super) fn browser_of(
    forms: &FormTokens,
    head: &RequestHeader,
    ctx: &Context,
) -> Result<(BrowserSecret, Option<NewCookie>), Rejection> {
    if let Some(browser) = known_browser(forms, head, ctx) {
        return Ok((browser, None));
    }
    let name = Snapshot::form_cookie(ctx.outside());
    let (browser, cookie) = forms.new_browser().map_err(|_| Rejection::Internal("random"))?;
    Ok((browser, Some(host_cookie(ctx, name, Some(&cookie), None))))
}

/// The secret of a browser that brings its cookie.
pub(super) fn known_browser(
    forms: &FormTokens,
    head: &RequestHeader,
    ctx: &Context,
) -> Option<BrowserSecret> {
    own_cookie(&head.headers, Snapshot::form_cookie(ctx.outside()))
        .and_then(|value| forms.browser(value.as_bytes()))
}

/// Whether `token` was issued to this browser for `purpose`, and lately.
pub(super) fn is_proved(
    forms: &FormTokens,
    head: &RequestHeader,
    ctx: &Context,
    purpose: &str,
    token: &str,
) -> bool {
    known_browser(forms, head, ctx).is_some_and(|browser| forms.check(token, &browser, purpose, ctx.now))
}

/// The fields of a form (`application/x-www-form-urlencoded`); wiped when dropped.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the request's body as a form.
    pub(super) async fn read(exchange: &mut Exchange) -> Result<Self, Rejection> {
        let head = exchange.req_header();
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
        let reading = async {
            while let Some(part) = exchange.read_request_body().await.map_err(|_| Rejection::TooSlow)? {
                if body.len() + part.len() > FORM_BYTES_MAX {
                    return Err(Rejection::TooLarge);
                }
                body.extend_from_slice(&part);
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
