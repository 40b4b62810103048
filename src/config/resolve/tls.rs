//! TLS on listeners: certificates and their keys, clients' certificates, HSTS, and listeners that lead to https.

use super::super::problem::At;
use super::super::raw::{self, ClientCertificateMode};
use super::edges::is_loopback_name;
use super::secrets::read_bounded;
use super::{Resolver, reason};
use crate::domain::route::HostPattern;
use crate::domain::time::Timestamp;
use crate::net::tls::{CertificateError, Clients, ServerCertificate, StapleError, TlsSettings};
use crate::proxy::settings::{External, ListenerSettings, RedirectSettings, RouteSettings};
use http::HeaderValue;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

/// A year: what browsers' lists ask for before they take a host in.
const PRELOAD_MIN: Duration = Duration::from_hours(365 * 24);
/// Responses are some kilobytes long.
const STAPLE_BYTES_MAX: u64 = 64 * 1024;
/// Less left than this is soon, for certificates that live long.
const SOON: Duration = Duration::from_hours(14 * 24);
/// Short-lived ones are renewed in the last third of their life; a fifth is late.
const SOON_PART: u32 = 5;

impl Resolver<'_> {
    /// How a listener speaks TLS; what is wrong is noted.
    pub(super) fn tls(&mut self, raw: &raw::Tls, at: &At) -> Option<TlsSettings> {
        let list_at = at.key("certificates");
        let list = raw.certificates.as_deref().unwrap_or_default();
        if list.is_empty() {
            let remedy = "write `certificates: [{ certificate: wiki.crt, key: wiki.key }]`";
            self.notes.missing(at, "certificates", "is missing or empty", remedy);
        }
        let mut certificates = Vec::new();
        for (index, files) in list.iter().enumerate() {
            let certificate = files.as_ref().and_then(|files| self.certificate(files, &list_at.item(index)));
            certificates.extend(certificate);
        }
        let clients = self.client_certificates(raw, at);
        (!certificates.is_empty()).then_some(TlsSettings { certificates, clients })
    }

    fn certificate(&mut self, raw: &raw::CertificateFiles, at: &At) -> Option<ServerCertificate> {
        let (chain_at, key_at) = (at.key("certificate"), at.key("key"));
        let chain = raw.certificate.as_deref().and_then(|path| self.read_file(path, &chain_at));
        let key = raw.key.as_deref().and_then(|path| self.secret_file(path, &key_at));
        let (Some(chain), Some(key)) = (chain, key) else { return None };
        let (chain_path, key_path) = (raw.certificate.as_deref()?, raw.key.as_deref()?);
        match ServerCertificate::new(chain_path, &chain, key.expose()) {
            Ok(mut certificate) => {
                self.staple(&mut certificate, chain_path, &chain_at);
                self.note_dates(&certificate, chain_path, &chain_at);
                Some(certificate)
            }
            Err(error) => {
                let (at, path) =
                    if error.is_of_key() { (&key_at, key_path) } else { (&chain_at, chain_path) };
                let remedy = match error {
                    CertificateError::NoCertificate => {
                        "name a file with `-----BEGIN CERTIFICATE-----`, the server's own one first, then its issuers"
                            .to_owned()
                    }
                    CertificateError::TooLong => "keep the server's own certificate and its issuers".to_owned(),
                    CertificateError::NoKey => {
                        "name a file with `-----BEGIN PRIVATE KEY-----`, without a passphrase".to_owned()
                    }
                    CertificateError::UnfitKey => {
                        "make an ECDSA key (P-256), or RSA with 2048 bits or more".to_owned()
                    }
                    CertificateError::OtherKey => format!("name the key that `{chain_path}` was made for"),
                };
                self.notes.problem(at, path, error.to_string(), remedy);
                None
            }
        }
    }

    /// The OCSP response beside a certificate, if there is one; its coming and going is a change. A broken or expired one is told and
    /// left out: a certificate serves without.
    fn staple(&mut self, certificate: &mut ServerCertificate, path: &str, at: &At) {
        let path = format!("{path}.ocsp");
        let place = self.place(&path);
        self.files.push(place.clone());
        let mut remedy =
            "write the responder's answer into it as it is (`openssl ocsp -respout`), or remove it";
        let wrong = match read_bounded(&place, STAPLE_BYTES_MAX) {
            Ok(response) if response.len() as u64 <= STAPLE_BYTES_MAX => {
                match certificate.staple(&path, response, self.now) {
                    Ok(()) => return,
                    Err(error) => {
                        if let StapleError::Expired(_) = error {
                            remedy = "write a newer answer of the responder into it; it is taken up when it changes";
                        }
                        error.to_string()
                    }
                }
            }
            Ok(_) => "is longer than 64 KiB".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => format!("cannot be read ({})", reason(&error)),
        };
        self.notes.warn(at, &path, format!("{wrong}, and is not handed out"), remedy);
    }

    fn note_dates(&mut self, certificate: &ServerCertificate, path: &str, at: &At) {
        let Some(now) = self.now else { return };
        let (from, until) = (certificate.not_before(), certificate.not_after());
        let soon = SOON.min(until.since(from) / SOON_PART);
        let day = |instant: Timestamp| instant.to_string().chars().take(10).collect::<String>();
        let wrong = if now > until {
            format!("has expired on {}: browsers refuse it", day(until))
        } else if until.since(now) < soon {
            format!("expires on {}", day(until))
        } else if now < from {
            format!("counts from {} on, and not before", day(from))
        } else {
            return;
        };
        let remedy = if now < from {
            "set the clock of this machine, or wait"
        } else {
            "renew it; the files are taken up when they change"
        };
        self.notes.warn(at, path, wrong, remedy);
    }

    fn client_certificates(&mut self, raw: &raw::Tls, at: &At) -> Option<Clients> {
        let ca_at = at.key("client_ca");
        let Some(path) = &raw.client_ca else {
            if raw.client_certificate.is_some() {
                let wrong = "is missing: nobody says whose certificates count";
                self.notes.missing(
                    at,
                    "client_ca",
                    wrong,
                    "write `client_ca: FILE`, the issuers' certificates",
                );
            }
            return None;
        };
        let authorities = self.read_file(path, &ca_at)?;
        let required = raw.client_certificate != Some(ClientCertificateMode::Ask);
        match Clients::new(&authorities, required) {
            Ok(clients) => Some(clients),
            Err(error) => {
                let remedy = "name a file with the certificates of those who issue the clients'";
                self.notes.problem(&ca_at, path, error.to_string(), remedy);
                None
            }
        }
    }

    /// Browsers see a listener with TLS on its own port; `external_url` may say that they come by another one.
    pub(super) fn port_is_as_seen(&mut self, port: u16, outside: External, at: &At) {
        if outside.https && outside.port != port {
            let wrong = format!("is another port than that of `external_url`, {}", outside.port);
            let remedy = format!(
                "where browsers come by that one write `external: {{ scheme: https, port: {} }}`",
                outside.port
            );
            self.notes.warn(at, &port.to_string(), wrong, remedy);
        }
    }

    /// Hosts of routes that browsers find no certificate for, where TLS is ours.
    pub(super) fn hosts_have_certificates(
        &mut self,
        listeners: &[(At, ListenerSettings)],
        routes: &[RouteSettings],
    ) {
        let serving = listeners.iter().filter(|(_, listener)| listener.redirect.is_none());
        let (secure, others): (Vec<_>, Vec<_>) = serving.partition(|(_, listener)| listener.tls.is_some());
        let Some((at, _)) = secure.first() else { return };
        if others.iter().any(|(_, listener)| listener.external.is_some_and(|external| external.https)) {
            return;
        }
        let settings = secure.iter().filter_map(|(_, listener)| listener.tls.as_ref());
        let certificates: Vec<_> = settings.flat_map(|tls| &tls.certificates).collect();
        let hosts: BTreeSet<&str> = routes
            .iter()
            .flat_map(|route| &route.hosts)
            .filter_map(|host| match host {
                HostPattern::Exact(name) => Some(name.as_str()),
                HostPattern::Suffix(_) => None,
            })
            .collect();
        for host in hosts {
            if !is_loopback_name(host) && !certificates.iter().any(|certificate| certificate.is_for(host)) {
                let wrong = "is a host of `routes` that no certificate names: browsers refuse it";
                let remedy = "add a certificate that has it among its alternative names";
                self.notes.warn(&at.key("tls").key("certificates"), host, wrong, remedy);
            }
        }
    }

    /// The value of `Strict-Transport-Security`.
    pub(super) fn hsts(&mut self, raw: &raw::Hsts, is_https: bool, at: &At) -> Option<HeaderValue> {
        if !is_https {
            let wrong = "stands on a listener whose pages browsers see over http, where they do not heed it";
            self.notes.problem(at, "hsts", wrong, "move it to the listener that speaks TLS");
        }
        let Some(max_age) = &raw.max_age else {
            self.notes.missing(at, "max_age", "is missing", "write `max_age: 365d`; begin with `1h`");
            return None;
        };
        let (below, preload) = (raw.include_subdomains.unwrap_or(false), raw.preload.unwrap_or(false));
        if preload && (!below || max_age.length < PRELOAD_MIN) {
            let remedy = "write `include_subdomains: true` and `max_age: 365d` or longer, or leave it out";
            self.notes.problem(&at.key("preload"), "preload", "is not enough for browsers' lists", remedy);
        }
        let mut value = format!("max-age={}", max_age.length.as_secs());
        if below {
            value.push_str("; includeSubDomains");
        }
        if preload {
            value.push_str("; preload");
        }
        HeaderValue::from_str(&value).ok()
    }

    /// A listener that sends everybody to https; where to is settled once all listeners are known.
    pub(super) fn redirect_listener(&mut self, raw: &raw::Listener, at: &At) -> Option<RedirectSettings> {
        if raw.redirect.is_none() {
            if let Some(path) = &raw.acme_webroot {
                let wrong = "stands on a listener that serves applications, where no challenge is answered";
                self.notes.problem(&at.key("acme_webroot"), path, wrong, "write `redirect: https` beside it");
            }
            return None;
        }
        for (key, stands) in
            [("tls", raw.tls.is_some()), ("external", raw.external.is_some()), ("hsts", raw.hsts.is_some())]
        {
            if stands {
                let wrong = "stands beside `redirect`, which does nothing but send browsers to https";
                self.notes.problem(&at.key(key), key, wrong, "leave it out");
            }
        }
        let acme_webroot = raw.acme_webroot.as_ref().map(|path| self.webroot(path, &at.key("acme_webroot")));
        Some(RedirectSettings { acme_webroot })
    }

    fn webroot(&mut self, path: &str, at: &At) -> PathBuf {
        let place = self.place(path);
        let wrong = match std::fs::metadata(&place) {
            Ok(found) if found.is_dir() => return place,
            Ok(_) => "is not a folder".to_owned(),
            Err(error) => format!("cannot be read ({})", reason(&error)),
        };
        let remedy = "name the folder that the ACME client writes to, such as `/var/www/acme`";
        self.notes.problem(at, path, wrong, remedy);
        place
    }

    /// Tells redirecting listeners where to send browsers: to `external_url` if that is https, else to the first listener that
    /// browsers see over https.
    pub(super) fn redirects_lead_somewhere(
        &mut self,
        listeners: &mut [(At, ListenerSettings)],
        external_url: Option<External>,
    ) {
        let is_https = |external: &External| external.https;
        let seen = listeners.iter().filter(|(_, listener)| listener.redirect.is_none());
        let found = seen.filter_map(|(_, listener)| listener.external).find(is_https);
        let to = external_url.filter(is_https).or(found);
        let mut routes = self.raw.routes.iter().flatten().flatten();
        let names_a_host = external_url.is_some() || routes.any(|route| route.host.is_some());
        for (at, listener) in listeners.iter_mut().filter(|(_, listener)| listener.redirect.is_some()) {
            listener.external = to.or(Some(External { https: true, port: 443 }));
            if to.is_none() {
                let wrong = "leads nowhere: no listener is seen over https";
                let remedy = "write another listener with `tls`, or behind a terminator with `external: { scheme: https }`";
                self.notes.problem(&at.key("redirect"), "https", wrong, remedy);
            } else if !names_a_host {
                let wrong = "leads nowhere: no route names a host, and there is no `external_url`";
                let remedy = "write `external_url: https://wiki.example.com`, or `host` in routes";
                self.notes.problem(&at.key("redirect"), "https", wrong, remedy);
            }
        }
    }

    /// A rule about clients' certificates, where no listener asks for one.
    pub(super) fn certificates_are_asked_for(&mut self, at: &At) {
        let mut listeners = self.raw.listeners.iter().flatten().flatten();
        if !listeners.any(|listener| listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())) {
            let wrong = "never holds: no listener asks for clients' certificates";
            self.notes.problem(at, "client_certificate", wrong, "write `client_ca` in `tls` of a listener");
        }
    }
}
