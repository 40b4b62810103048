//! "Did you mean": the nearest known word to one that is not known.

/// The known word that a slip of the hand turns into `word`, if one is near enough.
///
/// Near: at most a third of the letters differ (inserted, left out, replaced, swapped with their neighbour), case and
/// `-` for `_` not counted.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The table of the distance grows with both lengths; nobody mistypes a name of hundreds of letters.
    const LETTERS_MAX: usize = 64;
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_").chars().collect::<Vec<_>>();
    let wanted = plain(word);
    if wanted.len() > LETTERS_MAX {
        return None;
    }
    let near = |candidate: &'a str| {
        let letters = plain(candidate);
        let allowed = (wanted.len().max(letters.len()) / 3).max(1);
        let distance = if letters.len() > LETTERS_MAX { usize::MAX } else { distance(&wanted, &letters) };
        (distance <= allowed && distance < letters.len()).then_some((distance, candidate))
    };
    known.into_iter().filter_map(near).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// What to write instead of `word`: the nearest known one, else all of them.
pub(super) fn remedy<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(nearest) = nearest(word, known.clone()) {
        return format!("did you mean `{nearest}`?");
    }
    let all: Vec<String> = known.into_iter().take(30).map(|word| format!("`{word}`")).collect();
    match all.as_slice() {
        [] => "remove it".to_owned(),
        [only] => format!("write {only}"),
        _ => format!("write one of {}", all.join(", ")),
    }
}

/// Edit distance with swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let plain = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { plain.min(rows[i - 2][j - 2] + 1) } else { plain }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_finds_its_word() {
        let known = ["upstream", "path", "methods", "idle_timeout", "host", "to"];
        for (word, expected) in [
            ("upsteam", Some("upstream")),
            ("Path", Some("path")),
            ("idle-timeout", Some("idle_timeout")),
            ("hots", Some("host")),
            ("hosts", Some("host")),
            ("method", Some("methods")),
            ("tls", None),
            ("proxy_protocol", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), known), None);
    }
}
