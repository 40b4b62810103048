//! `sessions end --offline`: in the file of the store itself, while no gateway runs.
//!
//! For a backup that was restored: sessions that ended since it was made are live in it. By age alone it ends those of
//! visitors who have not signed in too.

use super::{EndArgs, Failure, print};
use crate::config::{self, StoreSettings};
use crate::domain::identity::encode_text;
use crate::domain::time::Timestamp;
use crate::domain::token::KeyRing;
use crate::store::sqlite::{EndedOffline, Whose, end_opened_before};

pub(super) fn end(args: &EndArgs) -> Result<(), Failure> {
    let Some(file) = &args.admin.config else {
        return Err(Failure::refused("--offline needs the file: write `-c FILE`"));
    };
    let (config, _) = config::load(file, &|name| std::env::var(name).ok()).map_err(Failure::refused)?;
    let (StoreSettings::Sqlite(path), Some(ring)) = (&config.sessions.store, KeyRing::new(config.keys))
    else {
        return Err(Failure::refused(format!(
            "`{}` keeps sessions in memory; --offline is for `sessions.store: {{ sqlite: … }}`",
            file.display()
        )));
    };
    let instant: Timestamp =
        args.filters.opened_before.as_deref().unwrap_or_default().parse().map_err(Failure::refused)?;
    let header_form = |text: &Option<String>| text.as_deref().map(encode_text);
    let (subject, source) = (header_form(&args.filters.subject), header_form(&args.filters.source));
    let whose = match (&subject, &source) {
        (None, None) => None,
        (Some(subject), source) => Some(Whose { subject, source: source.as_deref() }),
        (None, Some(_)) => {
            return Err(Failure::refused("--offline takes --source only beside --subject"));
        }
    };
    let ended = end_opened_before(path, &ring, instant, whose).map_err(|error| {
        let hint = if error.is_in_use() { "; while the gateway runs, leave --offline out" } else { "" };
        Failure::failed(format!("{error}{hint}"))
    })?;
    let EndedOffline { ended, unopened } = ended;
    if unopened > 0 {
        eprintln!(
            "{unopened} more cannot be read with the `keys` of the file; put the dropped key back to find whose"
        );
    }
    if args.json {
        return print(&format!("{{\"ended\":{ended},\"unread\":{unopened}}}\n"));
    }
    print(&format!("ended {ended} {}\n", if ended == 1 { "session" } else { "sessions" }))
}
