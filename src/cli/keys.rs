//! `keys generate`: a key for `keys` of the file, or one that signs assertions.

use super::{Failure, print};
use crate::auth::assertion::{self, KeyKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Prints 32 bytes of the system's random generator in base64, or a private key of the kind that the word stands for.
pub(super) fn generate(assertion: Option<&str>) -> Result<(), Failure> {
    let kind = match assertion {
        None => return print(&key()?),
        Some("eddsa") => KeyKind::EdDsa,
        Some(_) => KeyKind::Es256,
    };
    let pem = assertion::generate(kind)
        .map_err(|_| Failure::failed("the system's random generator failed".to_owned()))?;
    print(&pem)
}

fn key() -> Result<Zeroizing<String>, Failure> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *random)
        .map_err(|cause| Failure::failed(format!("the system's random generator failed: {cause}")))?;
    // With room for all of it: a string that grows leaves its former bytes behind.
    let mut line = Zeroizing::new(String::with_capacity(64));
    STANDARD.encode_string(&random[..], &mut line);
    line.push('\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_line_of_32_bytes_and_never_the_same() {
        let (one, other) = (key().expect("there is randomness"), key().expect("there is randomness"));
        assert_eq!(STANDARD.decode(one.trim_end()).map(|bytes| bytes.len()), Ok(32));
        assert!(one.ends_with("=\n"));
        assert_ne!(one, other);
    }
}
