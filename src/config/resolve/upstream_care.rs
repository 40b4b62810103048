//! `health` and `tls` of an upstream: how its servers are asked, and how they are proved.

use super::super::problem::At;
use super::super::raw;
use super::Resolver;
use crate::domain::target::{Host, Target};
use crate::proxy::settings::{HealthSettings, Place, Protocol, Server, UpstreamTls};
use crate::proxy::upstream::trust;
use http::StatusCode;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
const UNHEALTHY_AFTER: u32 = 3;
const HEALTHY_AFTER: u32 = 2;

impl Resolver<'_> {
    pub(super) fn health(&mut self, raw: Option<&raw::Health>, at: &At) -> Option<HealthSettings> {
        let raw = raw?;
        let path = raw.path.clone()?;
        if Target::parse(path.as_bytes()).is_err() {
            let remedy = "write a path in normal form, such as `/healthz`";
            self.notes.problem(&at.key("path"), &path, "is not a path", remedy);
        }
        if let Some(host) = raw.host.as_deref().filter(|host| Host::parse(host.as_bytes()).is_err()) {
            self.notes.problem(
                &at.key("host"),
                host,
                "is not a host",
                "write a name such as `wiki.internal`",
            );
        }
        let interval = self.positive(raw.interval.as_ref(), INTERVAL, &at.key("interval"));
        let timeout = self.positive(raw.timeout.as_ref(), TIMEOUT, &at.key("timeout"));
        let mut statuses = Vec::new();
        let status_at = at.key("status");
        for (index, number) in raw.status.iter().flatten().enumerate() {
            let Some(number) = number else { continue };
            match StatusCode::from_u16(*number) {
                Ok(status) if (200..600).contains(number) => statuses.push(status),
                _ => {
                    let remedy = "write a number from 200 to 599";
                    self.notes.problem(
                        &status_at.item(index),
                        &number.to_string(),
                        "is no final status",
                        remedy,
                    );
                }
            }
        }
        if raw.status.as_ref().is_some_and(Vec::is_empty) {
            let remedy = "write at least one, or leave it out: 200 to 399";
            self.notes.problem(&status_at, "status", "is empty", remedy);
        }
        Some(HealthSettings {
            path,
            host: raw.host.clone(),
            interval,
            timeout,
            unhealthy_after: raw.unhealthy_after.unwrap_or(UNHEALTHY_AFTER),
            healthy_after: raw.healthy_after.unwrap_or(HEALTHY_AFTER),
            statuses,
        })
    }

    pub(super) fn upstream_tls(
        &mut self,
        raw: Option<&raw::UpstreamTls>,
        servers: &[(At, Server)],
        at: &At,
    ) -> UpstreamTls {
        let none = raw::UpstreamTls::default();
        let raw_tls = raw.unwrap_or(&none);
        if raw.is_some() && !servers.is_empty() && !servers.iter().any(|(_, server)| server.place.is_https())
        {
            let wrong = "says how https is spoken, and no server speaks it";
            self.notes.problem(at, "tls", wrong, "write `https://` in `servers`, or leave `tls` out");
        }
        let server_name = raw_tls.server_name.clone();
        if let Some(name) = server_name.as_deref().filter(|name| !trust::is_server_name(name)) {
            let remedy = "write a name such as `wiki.internal`, without scheme and port";
            self.notes.problem(&at.key("server_name"), name, "cannot stand in a certificate", remedy);
        }
        if server_name.is_none() {
            self.addresses_have_names(servers);
        }
        let ca_at = at.key("ca");
        let authorities = raw_tls.ca.as_deref().and_then(|path| {
            let pem = self.read_file(path, &ca_at)?;
            match trust::authorities(&pem) {
                Ok(authorities) => Some(authorities),
                Err(wrong) => {
                    let remedy = "name a PEM file with the certificates of authorities";
                    self.notes.problem(&ca_at, path, wrong, remedy);
                    None
                }
            }
        });
        let client = raw_tls.client_certificate.as_ref();
        let client = client.and_then(|client| self.own_certificate(client, &at.key("client_certificate")));
        UpstreamTls { server_name, authorities, client, http2: raw_tls.http2.unwrap_or(false) }
    }

    /// A certificate is verified by a name; an address is one only if somebody says so.
    fn addresses_have_names(&mut self, servers: &[(At, Server)]) {
        for (at, server) in servers {
            let Place::Net { protocol: Protocol::Https, host, .. } = &server.place else { continue };
            let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
            if is_address || !trust::is_server_name(host) {
                let wrong = "does not say what name its certificate must show";
                let remedy = "write that as `tls: { server_name: wiki.internal }`";
                self.notes.problem(at, &server.place.to_string(), wrong, remedy);
            }
        }
    }

    fn own_certificate(
        &mut self,
        raw: &raw::ClientCertificate,
        at: &At,
    ) -> Option<Arc<trust::ClientCertificate>> {
        let path = raw.certificate.as_deref()?;
        let chain = self.read_file(path, &at.key("certificate"));
        let key = self.secret(raw.key.as_ref()?, &at.key("key"));
        match trust::client(&chain?, key?.expose()) {
            Ok(client) => Some(client),
            Err(trust::ClientProblem::Certificate(wrong)) => {
                let remedy = "name a PEM file: the certificate, then those that signed it";
                self.notes.problem(&at.key("certificate"), path, wrong, remedy);
                None
            }
            Err(trust::ClientProblem::Key(wrong)) => {
                let remedy = "name the PEM file with the certificate's own key";
                self.notes.problem(&at.key("key"), "key", wrong, remedy);
                None
            }
        }
    }
}
