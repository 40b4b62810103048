//! The one crypto library of all TLS: listeners, upstreams, calls of our own.

/// Makes aws-lc the library of every TLS configuration that is built from now on, also of those that pingora builds: it takes
/// ring only where none is installed. To be called before anything else.
pub fn install() {
    // Fails only where one is installed already: this was called before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
