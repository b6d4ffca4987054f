//! Which server is the next to finish something.

/// The next moment of each server in a winner tree: the earliest is at its root, and a change costs one comparison
/// for each factor of two in the number of servers. Of equal moments the lower server's is first.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    leaves: usize,
    nodes: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    at: f64,
    server: u32,
}

impl Calendar {
    /// For this many servers, none of which has anything to do.
    pub(crate) fn new(servers: usize) -> Self {
        let leaves = servers.next_power_of_two();
        let mut nodes: Vec<Entry> = (0..2 * leaves)
            .map(|node| Entry {
                at: f64::INFINITY,
                server: node.saturating_sub(leaves) as u32,
            })
            .collect();
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node];
        }
        Self { leaves, nodes }
    }

    /// The next moment of a server; infinity: none.
    pub(crate) fn set(&mut self, server: usize, at: f64) {
        let mut node = self.leaves + server;
        self.nodes[node].at = at;
        while node > 1 {
            node /= 2;
            let (left, right) = (self.nodes[2 * node], self.nodes[2 * node + 1]);
            let winner = if right.at < left.at { right } else { left };
            if self.nodes[node] == winner {
                break;
            }
            self.nodes[node] = winner;
        }
    }

    /// The earliest moment.
    pub(crate) fn at(&self) -> f64 {
        self.nodes[1].at
    }

    /// Whose it is.
    pub(crate) fn server(&self) -> usize {
        self.nodes[1].server as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Source;

    #[test]
    fn the_root_is_always_the_minimum() {
        for servers in [1, 2, 3, 7, 100] {
            let mut calendar = Calendar::new(servers);
            assert_eq!(calendar.at(), f64::INFINITY);
            let mut plain = vec![f64::INFINITY; servers];
            let mut source = Source::new(servers as u64, 0);
            for _ in 0..5_000 {
                let server = (source.uniform() * servers as f64) as usize;
                let at = (source.uniform() * 50.0).floor();
                plain[server] = at;
                calendar.set(server, at);
                let first = (0..servers)
                    .min_by(|&a, &b| plain[a].total_cmp(&plain[b]))
                    .unwrap();
                assert_eq!((calendar.at(), calendar.server()), (plain[first], first));
            }
        }
    }
}
