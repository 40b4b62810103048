//! `vestibule check`: the access table that is in effect, or (from [`crate::config::load`]) what is wrong.

use super::{CheckArgs, Failure, print};
use crate::app::build;
use crate::app::wording::{upstream, who};
use crate::auth::{SignInKind, SignInSettings};
use crate::config::{self, Config, Warning};
use crate::proxy::settings::RouteSettings;
use std::fmt::Write;

/// Reads the file and everything it names, and prints the table, or the file with its defaults.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let file = &args.config.config;
    let loaded = build::load(file).map_err(Failure::refused)?;
    if args.print {
        // What is printed is to be kept or compared: warnings go elsewhere.
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        let filled_in = config::filled_in(file, &|name| std::env::var(name).ok());
        return print(&filled_in.map_err(Failure::refused)?);
    }
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
            let (path, who) = (route.path.to_string(), who_from_where(config, route));
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

/// Who may pass, and from which addresses.
fn who_from_where(config: &Config, route: &RouteSettings) -> String {
    let who = who(config, &route.access);
    match &route.limits.clients {
        Some(clients) => format!("{who}; from {clients}"),
        None => who,
    }
}
