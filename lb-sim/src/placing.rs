//! Where clients and servers are.

/// The zones of a world, counted from 0. By default there is only one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placing {
    /// The zone of each client; those that are not listed are in the first.
    pub clients: Vec<usize>,
    /// The zone of each server; likewise.
    pub servers: Vec<usize>,
    /// What a request that leaves its zone takes longer. Servers see the same whether a request is on its way
    /// for longer before or after, so all of it comes after.
    pub crossing: f64,
}

impl Placing {
    /// How many zones there are.
    #[must_use]
    pub fn zones(&self) -> usize {
        let all = self.clients.iter().chain(&self.servers);
        all.max().map_or(1, |&last| last + 1)
    }

    /// The zone of a client and that of a server.
    pub(crate) fn of(&self, client: usize, server: usize) -> (usize, usize) {
        let zone = |of: &[usize], who: usize| of.get(who).copied().unwrap_or(0);
        (zone(&self.clients, client), zone(&self.servers, server))
    }

    /// How much longer a request between these two takes.
    pub(crate) fn crossing(&self, client: usize, server: usize) -> f64 {
        let (from, to) = self.of(client, server);
        if from == to { 0.0 } else { self.crossing }
    }
}
