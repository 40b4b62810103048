//! A value that nothing prints.
//!
//! `Debug` shows dots, there is no `Display` and no serialisation; [`Secret::expose`] is the one way in, easy to
//! search for. The memory is wiped when the value is dropped.

use std::fmt;
use zeroize::Zeroize;

/// Wraps a key, a token or a password.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value in.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value to read a secret into.
    pub const fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }

    /// The value itself: for the comparison, the hash or the header that needs it, never for a log.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new(String::from("hunter2"))), "Secret(…)");
    }
}
