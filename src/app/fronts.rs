//! The listeners of a file, as requests see them; and what becomes of those that are bound when a newer file comes.

use crate::config::Config;
use crate::domain::time::Timestamp;
use crate::proxy::settings::{External, ListenerSettings};
use crate::proxy::snapshot::{Front, Snapshot};
use std::collections::HashMap;

/// One listener: its address as logs name it, what browsers see, and what else is settled for it.
pub(super) struct Placed {
    pub(super) name: String,
    pub(super) outside: External,
    pub(super) front: Front,
}

/// The listeners by number: those of the file, or where the process runs already those that are bound.
///
/// A bound one takes what the newer file says about its address, wherever it stands in there. One whose address the file
/// does not name stays what it was: it is bound until a restart, and what was written for another address was checked for that
/// one alone. The same for one that would begin or cease to speak TLS: its clients know it as what it is.
pub(super) fn placed(config: &Config, before: Option<&Snapshot>) -> Vec<Placed> {
    let Some(before) = before else {
        return config.listeners.iter().map(|listener| place(listener, None)).collect();
    };
    let named = config.listeners.iter().map(|listener| (listener.address.to_string(), listener));
    let newer: HashMap<String, &ListenerSettings> = named.collect();
    let running = before.listener_names.iter().zip(&before.outside).zip(&before.fronts);
    running
        .map(|((name, outside), front)| {
            let newer = newer.get(name).filter(|newer| newer.tls.is_some() == front.tls.is_some());
            newer.map_or_else(
                || Placed { name: name.clone(), outside: *outside, front: front.clone() },
                |newer| place(newer, Some(front)),
            )
        })
        .collect()
}

fn place(listener: &ListenerSettings, before: Option<&Front>) -> Placed {
    let plain = External { https: false, port: listener.address.port() };
    let terms = before.and_then(|before| before.tls.as_ref());
    Placed {
        name: listener.address.to_string(),
        outside: listener.external.unwrap_or(plain),
        front: Front {
            tls: listener.tls.as_ref().map(|tls| tls.terms(terms)),
            hsts: listener.hsts.clone(),
            redirect: listener.redirect.clone(),
        },
    }
}

/// Leaves OCSP responses off that have become too old by this instant of the wall clock, and tells of each.
pub(super) fn look_at_staples(fronts: &[Front], now: Timestamp) {
    for terms in fronts.iter().filter_map(|front| front.tls.as_ref()) {
        for expired in terms.look_at_staples(now) {
            tracing::warn!(
                "`{}` has expired at {}, and is no longer handed out; write a newer answer of the responder into it",
                expired.file,
                expired.until
            );
        }
    }
}
