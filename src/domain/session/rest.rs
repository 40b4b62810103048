//! What few sessions have, behind the cell of a session: data, a gain that waits, a predecessor's token, or the
//! allocation that took over.

use super::stored::Predecessor;
use super::{Session, SpaceId};
use crate::domain::identity::Identity;
use http::HeaderValue;

#[derive(Default)]
pub(super) struct Rest {
    /// The allocation that took over; then nothing else is in here.
    pub(super) moved_to: Option<Session>,
    /// The identity that counts once the next token is presented.
    pub(super) gain: Option<Identity>,
    pub(super) predecessor: Option<Box<Predecessor>>,
    pub(super) spaces: Vec<Space>,
}

impl Rest {
    /// What an allocation leaves behind that has moved.
    #[expect(clippy::unnecessary_box_returns, reason = "it is held in a box everywhere")]
    pub(super) fn moved_to(session: Session) -> Box<Self> {
        Box::new(Self { moved_to: Some(session), ..Self::default() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.moved_to.is_none() && self.gain.is_none() && self.predecessor.is_none() && self.spaces.is_empty()
    }

    pub(super) fn space(&self, id: SpaceId) -> Option<&Space> {
        self.spaces.iter().find(|space| space.id == id)
    }

    /// Spaces that hold something.
    pub(super) fn held(&self) -> usize {
        self.spaces.iter().filter(|space| space.value.is_some()).count()
    }

    /// Does something with a space, and forgets it where nothing is left to know of it.
    pub(super) fn edit<T>(&mut self, id: SpaceId, change: impl FnOnce(&mut Space) -> T) -> T {
        let at = self.spaces.iter().position(|space| space.id == id).unwrap_or_else(|| {
            self.spaces.push(Space { id, value: None, written: None, pending: 0, epoch: 0 });
            self.spaces.len() - 1
        });
        let told = change(&mut self.spaces[at]);
        // The epoch has to outlive a failure: values of the former one may still be on their way to the store.
        self.spaces.retain(|space| space.value.is_some() || space.pending > 0 || space.epoch > 0);
        told
    }
}

/// The data of one space.
pub(super) struct Space {
    pub(super) id: SpaceId,
    /// What the next request sees.
    pub(super) value: Option<HeaderValue>,
    /// What the store surely holds, while others are on their way to it.
    written: Option<HeaderValue>,
    /// How many are.
    pending: u32,
    /// Counts failures: a value that could not be written takes those back that were made from it.
    pub(super) epoch: u32,
}

impl Space {
    /// What the store surely holds.
    pub(super) fn durable(&self) -> Option<&HeaderValue> {
        if self.pending == 0 { self.value.as_ref() } else { self.written.as_ref() }
    }

    /// Nothing is on its way to a store.
    pub(super) fn is_settled(&self) -> bool {
        self.pending == 0
    }

    /// A new value, which a store is told of if `durable`.
    pub(super) fn set(&mut self, value: Option<HeaderValue>, durable: bool) {
        let former = std::mem::replace(&mut self.value, value);
        if durable {
            if self.pending == 0 {
                self.written = former;
            }
            self.pending += 1;
        }
    }

    /// The store's answer about a value of an epoch; answers come in the order of the values.
    pub(super) fn answered(&mut self, epoch: u32, value: Option<&HeaderValue>, ok: bool) {
        if epoch != self.epoch || self.pending == 0 {
            return;
        }
        if ok {
            self.pending -= 1;
            self.written = if self.pending == 0 { None } else { value.cloned() };
        } else {
            self.value = self.written.take();
            self.pending = 0;
            self.epoch = self.epoch.wrapping_add(1);
        }
    }
}

/// Changes what lies behind a cell, and gives its memory back where nothing is left.
pub(super) fn edit<T>(cell: &mut Option<Box<Rest>>, change: impl FnOnce(&mut Rest) -> T) -> T {
    let rest = cell.get_or_insert_default();
    let told = change(rest);
    if rest.is_empty() {
        *cell = None;
    }
    told
}
