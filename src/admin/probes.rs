//! What an orchestrator and a load balancer ask: alive, ready.

use super::ServerState;
use super::answer::{Answer, text};
use http::StatusCode;

/// The process answers: that is all there is to say.
pub(super) fn health() -> Answer {
    text(StatusCode::OK, "alive\n")
}

/// Whether new requests should come here.
///
/// A refused file does not make a process unready: what runs goes on as it was. Nor does a store that cannot be written:
/// whoever is signed in is served. The body says so for people.
pub(super) fn ready(state: ServerState) -> Answer {
    let (status, word) = if state.draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ready")
    };
    let since = state.in_force_since;
    let mut body = match state.rejected_since {
        None => format!("{word}\nconfiguration: in force since {since}\n"),
        Some(rejected) => format!(
            "{word}\nconfiguration: the file is refused since {rejected}; the one of {since} stays in force, \
             `vestibule check` lists the problems\n"
        ),
    };
    if let Some(since) = state.store_down_since {
        let store = format!(
            "store: cannot be written since {since}; sessions that are known go on, what needs a write is refused, \
             the log says why\n"
        );
        body.push_str(&store);
    }
    text(status, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn a_refused_file_is_told_but_keeps_the_process_ready() {
        let noon = Timestamp::from_secs(1_795_348_800);
        let fine = ServerState {
            draining: false,
            in_force_since: noon,
            rejected_since: None,
            store_down_since: None,
        };
        let later = noon.plus(std::time::Duration::from_mins(1));
        for (state, status, body) in [
            (fine, 200, "ready\nconfiguration: in force since 2026-11-22T12:00:00Z\n"),
            (
                ServerState { rejected_since: Some(later), ..fine },
                200,
                "ready\nconfiguration: the file is refused since 2026-11-22T12:01:00Z; the one of \
                 2026-11-22T12:00:00Z stays in force, `vestibule check` lists the problems\n",
            ),
            (
                ServerState { store_down_since: Some(later), ..fine },
                200,
                "ready\nconfiguration: in force since 2026-11-22T12:00:00Z\nstore: cannot be written since \
                 2026-11-22T12:01:00Z; sessions that are known go on, what needs a write is refused, the log says why\n",
            ),
            (
                ServerState { draining: true, ..fine },
                503,
                "draining\nconfiguration: in force since 2026-11-22T12:00:00Z\n",
            ),
        ] {
            let answer = ready(state);
            assert_eq!(answer.status().as_u16(), status);
            assert_eq!(String::from_utf8_lossy(answer.body()), body);
        }
    }
}
