//! Keeps answers that depend on who asks out of shared caches (RFC 9111 §5.2.2).

/// Rewrites a `Cache-Control` value for an answer that is meant for one visitor: `public` and `s-maxage` go,
/// `private` comes, unless `no-store` says more already. Directives are separated by commas outside quotes.
pub fn make_private(value: &str) -> String {
    let mut kept: Vec<&str> = directives(value)
        .filter(|directive| {
            let name = directive.split('=').next().unwrap_or_default().trim();
            !name.is_empty()
                && !["public", "s-maxage", "private"].iter().any(|gone| name.eq_ignore_ascii_case(gone))
        })
        .collect();
    if !kept.iter().any(|directive| directive.eq_ignore_ascii_case("no-store")) {
        kept.insert(0, "private");
    }
    kept.join(", ")
}

fn directives(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let mut escaped = false;
        let end = text.find(|letter| {
            let ends = letter == ',' && !quoted;
            match letter {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ => {}
            }
            ends
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(text[..end.unwrap_or(text.len())].trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_for_one_visitor_is_kept_from_shared_caches() {
        for (before, after) in [
            ("", "private"),
            ("public, max-age=60", "private, max-age=60"),
            ("s-maxage=9,max-age=1, S-MaxAge=3", "private, max-age=1"),
            ("no-store", "no-store"),
            ("Public", "private"),
            ("no-cache=\"a, public\", public", "private, no-cache=\"a, public\""),
            ("private=\"x\"", "private"),
            ("no-cache=\"a\\\", s-maxage=1\"", "private, no-cache=\"a\\\", s-maxage=1\""),
        ] {
            assert_eq!(make_private(before), after, "{before}");
        }
    }
}
