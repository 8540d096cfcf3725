//! The requests of clients that a node's core works on, by the number under which the core will answer. Numbers are places
//! in a list and are used again, so that the core's replies stay small and looking one up is counting.
use crate::core::message::ClientRef;
use crate::cql::front::Pending;

/// A request that the core works on.
#[derive(Debug)]
pub(super) struct Asked {
    /// The connection that asked.
    pub(super) client: u64,
    /// What the front needs for the answer.
    pub(super) pending: Pending,
}

/// All of them, of one process.
#[derive(Debug, Default)]
pub(super) struct AskedList {
    places: Vec<Option<Asked>>,
    free: Vec<u32>,
}

impl AskedList {
    /// Keeps a request; returns what the core calls it.
    pub(super) fn keep(&mut self, asked: Asked) -> ClientRef {
        let conn = asked.client;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        self.places[place as usize] = Some(asked);
        ClientRef {
            conn,
            request: u64::from(place),
        }
    }

    /// Takes the request that is answered; None if it was answered before.
    pub(super) fn take(&mut self, request: u64) -> Option<Asked> {
        let place = u32::try_from(request).ok()?;
        let asked = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(asked)
    }
}
