//! What a client's certificate does for a request: whether a listener takes it, and what applications read of it.

use super::header_value;
use crate::admin::Explanation;
use crate::app::wall_clock;
use crate::config::Config;
use crate::domain::certificate::ClientCertificate;
use crate::net::tls::Shown;
use crate::proxy::settings::RouteSettings;

/// What rules look at: the certificate, where some listener asks for one and believes it. Where none believes it there is no connection,
/// and the error says why.
pub(super) fn shown<'a>(
    config: &Config,
    presented: Option<&'a Shown>,
    lines: &mut Explanation,
) -> Result<Option<&'a ClientCertificate>, String> {
    let Some(presented) = presented else { return Ok(None) };
    let certificate = presented.certificate();
    lines.say("shown", format!("{} (SHA-256 {})", certificate.subject(), certificate.fingerprint()));
    let now = wall_clock();
    let asking = config.listeners.iter().filter_map(|listener| listener.tls.as_ref()?.clients.as_ref());
    let verdicts: Vec<Result<(), String>> = asking.map(|clients| clients.believe(presented, now)).collect();
    match verdicts.iter().find_map(|verdict| verdict.as_ref().err()) {
        _ if verdicts.iter().any(Result::is_ok) => Ok(Some(certificate)),
        Some(why) => Err(format!("no listener believes the certificate: {why}")),
        None => {
            lines.say("note", "no listener asks for a certificate, and so this one is not seen");
            Ok(None)
        }
    }
}

/// What the application reads of it, on every route.
pub(super) fn say_headers(
    config: &Config,
    route: &RouteSettings,
    certificate: Option<&ClientCertificate>,
    lines: &mut Explanation,
) {
    let headers = config.upstreams.get(route.upstream).map_or(&[][..], |upstream| &upstream.identity);
    for header in headers {
        let Some(claim) = header.certificate else { continue };
        let said = match certificate.map(|certificate| certificate.claim(claim)) {
            Some(Some(value)) => header_value(header, value),
            Some(None) => continue,
            None => "(of the client's certificate, where there is one)".to_owned(),
        };
        lines.say("header", format!("{}: {said}", header.name));
    }
}
