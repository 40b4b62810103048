//! What a query may say: which sessions are meant, and which page of them.

use super::answer::{Answer, problem};
use crate::domain::identity::encode_text;
use crate::domain::session::SessionId;
use crate::domain::time::{Timestamp, span};
use crate::store::table::Filter;
use http::StatusCode;
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// The longest page.
pub(super) const PAGE_MAX: usize = 500;

/// Names that say which sessions are meant.
pub(super) const FILTERS: [&str; 7] =
    ["subject", "source", "sign_in", "client", "idle_for", "opened_before", "anonymous"];
/// Names that say which page.
pub(super) const PAGING: [&str; 2] = ["cursor", "limit"];

/// A query, read.
#[derive(Default)]
pub(super) struct Query {
    /// Header form, as the table keeps it.
    subject: Option<String>,
    /// The same.
    source: Option<String>,
    sign_in: Option<String>,
    client: Option<IpNet>,
    idle_for: Option<Duration>,
    opened_before: Option<Timestamp>,
    anonymous: bool,
    pub(super) cursor: Option<SessionId>,
    pub(super) limit: Option<usize>,
    /// The filters as they came.
    given: Vec<(&'static str, String)>,
}

impl Query {
    /// Reads a query; `known` are the names that the call understands. A name that it does not is refused:
    /// `DELETE /sessions?subjct=alice` must not end everybody's.
    pub(super) fn parse(query: &str, known: &[&str]) -> Result<Self, Box<Answer>> {
        let bad = |detail: String| Box::new(problem(StatusCode::BAD_REQUEST, &detail));
        let mut parsed = Self::default();
        let mut seen = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&&*name) {
                return Err(bad(format!(
                    "`{name}` is no parameter of this call; it takes {}",
                    known.join(", ")
                )));
            }
            if seen.contains(&name) {
                return Err(bad(format!("`{name}` comes twice; send it once")));
            }
            // A form sends the fields that nobody filled in too.
            if !value.is_empty() {
                parsed.take(&name, &value).map_err(bad)?;
            }
            seen.push(name);
        }
        Ok(parsed)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        if let Some(filter) = FILTERS.into_iter().find(|filter| *filter == name) {
            self.given.push((filter, value.to_owned()));
        }
        match name {
            "subject" => self.subject = Some(encode_text(value)),
            "source" => self.source = Some(encode_text(value)),
            "sign_in" => self.sign_in = Some(value.to_owned()),
            "client" => {
                let network =
                    client(value).ok_or("`client` is an address or a network: `10.0.0.7`, `10.0.0.0/8`")?;
                self.client = Some(network);
            }
            "idle_for" => {
                let span = span(value).ok_or("`idle_for` is digits and a unit: `30m`, `12h`, `7d`")?;
                self.idle_for = Some(span);
            }
            "opened_before" => {
                let instant = value.parse().map_err(|cause| format!("`opened_before` is {cause}"))?;
                self.opened_before = Some(instant);
            }
            "anonymous" => {
                self.anonymous = value.parse().map_err(|_| "`anonymous` is `true` or `false`")?;
            }
            "cursor" => {
                let cursor = value.parse();
                self.cursor =
                    Some(cursor.map_err(|_| "`cursor` is none of ours; send `next` of the page before")?);
            }
            _ => {
                let limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                self.limit = Some(limit.ok_or_else(|| format!("`limit` is a number from 1 to {PAGE_MAX}"))?);
            }
        }
        Ok(())
    }

    /// The sessions that are meant.
    pub(super) fn filter(&self) -> Filter<'_> {
        Filter {
            subject: self.subject.as_deref(),
            source: self.source.as_deref(),
            sign_in: self.sign_in.as_deref(),
            client: self.client,
            idle_for: self.idle_for,
            opened_before: self.opened_before,
            anonymous: self.anonymous,
        }
    }

    /// Nothing says which: all who have signed in are meant.
    pub(super) fn names_nobody(&self) -> bool {
        !self.anonymous && self.given.iter().all(|(name, _)| *name == "anonymous")
    }

    /// A filter as it came; empty where there is none.
    pub(super) fn given(&self, name: &str) -> &str {
        self.given.iter().find(|(given, _)| *given == name).map_or("", |(_, value)| value)
    }

    /// The filters as a query, with the page that begins at `cursor`.
    pub(super) fn again(&self, cursor: Option<SessionId>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.given);
        if let Some(cursor) = cursor {
            query.append_pair("cursor", &cursor.to_string());
        }
        query.finish()
    }
}

/// An address is the network of itself alone; what a network's address has beyond its prefix does not count.
fn client(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().map(|network| network.trunc()).or_else(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Query, u16> {
        let known = [&FILTERS[..], &PAGING].concat();
        Query::parse(query, &known).map_err(|answer| answer.status().as_u16())
    }

    #[test]
    fn a_filter_is_read_whole_or_refused() {
        let query = parse("subject=%E6%9D%8E&sign_in=local&client=10.1.2.3/8&idle_for=2h&opened_before=2026-11-22T08:00:00Z")
            .expect("it reads");
        let filter = query.filter();
        assert_eq!(filter.subject, Some("%E6%9D%8E"), "as the table keeps it");
        assert_eq!((filter.source, filter.sign_in), (None, Some("local")));
        assert_eq!(filter.client.map(|network| network.to_string()).as_deref(), Some("10.0.0.0/8"));
        assert_eq!(filter.idle_for, Some(Duration::from_hours(2)));
        assert_eq!(filter.opened_before, Some(Timestamp::from_secs(1_795_334_400)));
        assert!(!filter.anonymous);
        for bad in [
            "client=example.com",
            "client=10.0.0.0/33",
            "idle_for=2",
            "idle_for=-2h",
            "opened_before=yesterday",
            "opened_before=2026-11-22",
            "anonymous=yes",
            "limit=0",
            "limit=501",
            "cursor=x",
            "subject=a&subject=b",
            "subject=&subject=b",
            "subjct=a",
        ] {
            assert_eq!(parse(bad).err(), Some(400), "{bad}");
        }
    }

    #[test]
    fn a_query_without_a_filter_names_nobody() {
        for (query, expected) in [
            ("", true),
            ("subject=", true),
            ("anonymous=false", true),
            ("limit=5", true),
            ("anonymous=true", false),
            ("subject=a", false),
            ("client=10.0.0.7", false),
            ("opened_before=2026-11-22T08:00:00Z", false),
        ] {
            assert_eq!(parse(query).expect("it reads").names_nobody(), expected, "{query}");
        }
    }

    #[test]
    fn the_next_page_is_of_the_same_sessions() {
        let query = parse("subject=a%26b&source=&limit=5&idle_for=2h").expect("it reads");
        assert_eq!(query.again(None), "subject=a%26b&idle_for=2h");
        let next = query.again(Some(SessionId::from_bytes([1; 16])));
        assert_eq!(next, "subject=a%26b&idle_for=2h&cursor=AQEBAQEBAQEBAQEBAQEBAQ");
        assert_eq!((query.given("subject"), query.given("source")), ("a&b", ""));
    }
}
