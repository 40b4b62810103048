//! `vestibule check`: the access table that is in effect, or (from [`crate::config::load`]) what is wrong.

use super::{ConfigArgs, Failure, print};
use crate::app::build;
use crate::auth::{SignInKind, SignInSettings};
use crate::config::{Config, Warning};
use crate::domain::access::{Access, EntryId, Protected};
use crate::proxy::settings::RouteSettings;
use std::fmt::Write;

/// Reads the file and everything it names, and prints the table.
pub(super) fn check(args: &ConfigArgs) -> Result<(), Failure> {
    let loaded = build::load(&args.config).map_err(Failure::refused)?;
    print(&table(&loaded.config, &loaded.warnings))
}

/// What stands between who may pass and where the request goes.
const ARROW: &str = "→";

/// The table in the order in which routes are tried: host, method, path → who → upstream; then the warnings.
///
/// A route with several hosts has a row for each. Every column but the last is padded, so that a diff of two tables
/// shows what changed.
pub fn table(config: &Config, warnings: &[Warning]) -> String {
    let mut rows: Vec<[String; 7]> = Vec::new();
    let head = ["host", "method", "path", "", "who", "", "upstream"];
    rows.push(head.map(str::to_owned));
    for route in &config.routes {
        let hosts: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
        let hosts = if hosts.is_empty() { vec!["any".to_owned()] } else { hosts };
        for host in hosts {
            let arrow = || ARROW.to_owned();
            let (path, who) = (route.path.to_string(), who(config, &route.access));
            rows.push([host, methods(route), path, arrow(), who, arrow(), upstream(config, route)]);
        }
    }
    let arrow = || ARROW.to_owned();
    let rest = ["any", "any", "any other"].map(str::to_owned);
    let [host, method, path] = rest;
    rows.push([host, method, path, arrow(), "nobody".to_owned(), arrow(), "404".to_owned()]);

    let mut text = aligned(&rows);
    let vouching: Vec<[String; 2]> = config.sign_in.iter().filter_map(vouching).collect();
    if !vouching.is_empty() {
        write!(text, "\nanswers that sign visitors in\n{}", aligned(&vouching)).expect("a String takes all");
    }
    if !warnings.is_empty() {
        let plural = if warnings.len() == 1 { "" } else { "s" };
        write!(text, "\n{} warning{plural}\n", warnings.len()).expect("a String takes all");
        for warning in warnings {
            writeln!(text, "  {warning}").expect("a String takes all");
        }
    }
    text
}

/// A way whose upstream opens sessions by its answers: its name, and where that holds.
fn vouching(way: &SignInSettings) -> Option<[String; 2]> {
    let SignInKind::Upstream(asked) = &way.kind else { return None };
    let paths: Vec<String> = asked.paths.iter().map(ToString::to_string).collect();
    let groups = if asked.groups.is_empty() {
        "into no groups".to_owned()
    } else {
        format!("into {} at most", asked.groups.join(", "))
    };
    let of = format!("those of {} on {}, {groups}", asked.upstream, paths.join(" or "));
    Some([format!("  {}", way.name), of])
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn methods(route: &RouteSettings) -> String {
    let methods: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
    if methods.is_empty() { "any".to_owned() } else { methods.join(" ") }
}

/// The upstream of a route with its servers.
pub(super) fn upstream(config: &Config, route: &RouteSettings) -> String {
    let Some(upstream) = config.upstreams.get(route.upstream) else { return String::new() };
    let weights = upstream.servers.iter().any(|server| server.weight != 1);
    let servers = upstream.servers.iter().map(|server| {
        if weights { format!("{} ×{}", server.place, server.weight) } else { server.place.to_string() }
    });
    let servers: Vec<String> = servers.collect();
    format!("{} ({})", upstream.name, servers.join(", "))
}

/// Who may pass: the ways in, then what must hold.
pub(super) fn who(config: &Config, access: &Access) -> String {
    let Access::Protected(protected) = access else { return "everybody, without identity".to_owned() };
    let optional = if protected.optional { "anybody, known " } else { "" };
    format!("{optional}by {}: {}", ways(config, protected), protected.allow)
}

/// The ways in: `session local or staff, or token api`.
pub(super) fn ways(config: &Config, protected: &Protected) -> String {
    let names = |ids: &[EntryId]| -> String {
        let named: Vec<&str> = ids.iter().filter_map(|id| entry(config, *id)).map(|(name, _)| name).collect();
        named.join(" or ")
    };
    let mut ways = Vec::new();
    if !protected.sign_in.is_empty() {
        ways.push(format!("session {}", names(&protected.sign_in)));
    }
    if !protected.tokens.is_empty() {
        ways.push(format!("token {}", names(&protected.tokens)));
    }
    ways.join(", or ")
}

/// Name and source of an entry of `sign_in` or `tokens`.
pub(super) fn entry(config: &Config, id: EntryId) -> Option<(&str, &str)> {
    let way =
        config.sign_in.iter().find(|way| way.id == id).map(|way| (way.name.as_str(), way.source.as_str()));
    let token = || config.tokens.iter().find(|token| token.id == id);
    way.or_else(|| token().map(|token| (token.name.as_str(), token.issuer.as_str())))
}
