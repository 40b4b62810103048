//! The languages that pages speak, and the choice among them by `Accept-Language` (RFC 9110 §12.5.4).

/// A language of the built-in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Language {
    /// The default.
    #[default]
    English,
    /// Simplified script; shown to readers of any Chinese.
    Chinese,
}

/// More of the field is not looked at: browsers send a few dozen bytes.
const FIELD_BYTES_MAX: usize = 1024;

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// The best of ours for the value of `Accept-Language`.
    ///
    /// The highest weight wins, among equals the first. `zh` and every `zh-…` are Chinese, `en` and every `en-…`
    /// English; other languages, `*`, weight 0 and what cannot be read are passed over. Nothing left: English.
    pub fn choose(header: Option<&[u8]>) -> Self {
        let header = header.unwrap_or_default();
        let mut best = (0, Self::default());
        for range in header[..header.len().min(FIELD_BYTES_MAX)].split(|&byte| byte == b',') {
            let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let tag = parts.next().unwrap_or_default();
            let Some(language) = Self::of_tag(tag) else { continue };
            let Some(weight) = parts.next().map_or(Some(1000), weight) else { continue };
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }

    /// The BCP 47 tag, for `lang` and `Content-Language`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-Hans",
        }
    }

    fn of_tag(tag: &[u8]) -> Option<Self> {
        let primary = tag.split(|&byte| byte == b'-').next().unwrap_or_default();
        match primary {
            primary if primary.eq_ignore_ascii_case(b"en") => Some(Self::English),
            primary if primary.eq_ignore_ascii_case(b"zh") => Some(Self::Chinese),
            _ => None,
        }
    }
}

/// Reads `q=0.8` in thousandths (RFC 9110 §12.4.2: at most three decimals, at most 1).
fn weight(parameter: &[u8]) -> Option<u16> {
    let value = std::str::from_utf8(parameter).ok()?;
    let value = value.strip_prefix("q=").or_else(|| value.strip_prefix("Q="))?;
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if !matches!(whole, "0" | "1")
        || decimals.len() > 3
        || !decimals.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let thousandths: u16 = format!("{whole}{decimals:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_heaviest_language_that_we_speak_is_chosen() {
        use Language::{Chinese, English};
        for (header, expected) in [
            ("", English),
            ("zh-CN,zh;q=0.9,en;q=0.8", Chinese),
            ("en-US,en;q=0.9,zh-CN;q=0.8", English),
            ("fr-FR, fr;q=0.9, zh-TW;q=0.3, en;q=0.2", Chinese),
            ("ZH", Chinese),
            ("en;q=0.5, zh;q=0.5", English),
            ("zh;q=0.5, en;q=0.5", Chinese),
            ("zh;q=0", English),
            ("zh;q=0.000, *", English),
            ("*", English),
            ("zhx", English),
            ("zh ; q=0.9 , en;q=0.95", English),
            ("en;q=0.1, zh;q=2", English),
            ("en;q=0.1, zh;q=1.001", English),
            ("en;q=0.1, zh;q=-1", English),
            ("en;q=0.1, zh;level=1", English),
            ("de, ,;,zh", Chinese),
        ] {
            assert_eq!(Language::choose(Some(header.as_bytes())), expected, "{header}");
        }
        assert_eq!(Language::choose(None), English);
    }

    #[test]
    fn a_field_beyond_the_bound_is_not_read_to_its_end() {
        let mut field = vec![b' '; FIELD_BYTES_MAX];
        field.extend_from_slice(b",zh");
        assert_eq!(Language::choose(Some(&field)), Language::English);
    }

    proptest! {
        #[test]
        fn any_bytes_lead_to_a_language(field in proptest::collection::vec(any::<u8>(), 0..2000)) {
            Language::choose(Some(&field));
        }
    }
}
