//! The table of a process on its way to another one.

use super::channel::{Broken, Channel};
use super::protocol::{ENDS_MAX, FULL_BYTES, Message, Remembered};
use super::relay::Watch;
use crate::domain::session::{Restored, SessionId};
use crate::store::table::Table;

/// Sessions that may have changed while others were copied, when the cut is made.
const CHANGED_AT_CUT: usize = 256;
/// How often what has changed is copied before the cut is made anyway.
const ROUNDS_MAX: usize = 8;

/// Copies every session, and then again and again what has changed meanwhile, until that is little.
pub(super) fn copy_all(channel: &Channel, table: &Table, watch: &Watch) -> Result<(), Broken> {
    let mut after = None;
    loop {
        let page = table.page(after);
        let Some(last) = page.last() else { break };
        after = Some(last.id());
        send_sessions(channel, page.iter().map(Restored::of))?;
    }
    send_ends(channel, &table.remembered_ends())?;
    channel.send(&Message::Go)?;
    for _ in 0..ROUNDS_MAX {
        let changed = watch.take();
        let is_little = changed.len() <= CHANGED_AT_CUT;
        send_changed(channel, table, &changed)?;
        if is_little {
            break;
        }
    }
    Ok(())
}

pub(super) fn send_changed(
    channel: &Channel,
    table: &Table,
    changed: &[(SessionId, Option<Remembered>)],
) -> Result<(), Broken> {
    let ended: Vec<Remembered> = changed.iter().filter_map(|(_, ended)| *ended).collect();
    let live = changed.iter().filter(|(_, ended)| ended.is_none()).filter_map(|(id, _)| table.held(id));
    send_sessions(channel, live.map(|session| Restored::of(&session)))?;
    send_ends(channel, &ended)
}

fn send_sessions(channel: &Channel, sessions: impl Iterator<Item = Restored>) -> Result<(), Broken> {
    let mut frame = Vec::new();
    let mut bytes = 0;
    for session in sessions {
        bytes += weight(&session);
        frame.push(session);
        if bytes >= FULL_BYTES {
            bytes = 0;
            channel.send(&Message::Sessions(std::mem::take(&mut frame)))?;
        }
    }
    if frame.is_empty() { Ok(()) } else { channel.send(&Message::Sessions(frame)) }
}

/// About so many bytes it takes.
fn weight(session: &Restored) -> usize {
    let packed = |packed: &Option<Box<[u8]>>| packed.as_ref().map_or(0, |packed| packed.len());
    let data: usize = session.data.iter().map(|(_, value)| value.len() + 12).sum();
    let before = session.predecessor.as_ref().map_or(0, |before| before.identity.len());
    data + before + session.identity.len() + packed(&session.gain) + 512
}

fn send_ends(channel: &Channel, ends: &[Remembered]) -> Result<(), Broken> {
    for part in ends.chunks(ENDS_MAX) {
        channel.send(&Message::Ends(part.to_vec()))?;
    }
    Ok(())
}
