//! One case for each strategy: what of ours, which kernel, which peers.

use crate::kernels;
use crate::measure::Contender;
use crate::ours;
#[cfg(feature = "pingora")]
use crate::peers::pingora;
use crate::peers::{consistent, poise, tower, weighted};

/// Makes a contender that picks among this many endpoints.
type Make = fn(usize) -> Contender;

/// A strategy and what it is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The strategy, named as its module in `lb_core::pick`, or as that with weights.
    pub name: &'static str,
    /// The strategy itself.
    pub ours: Make,
    /// The least code that does the same.
    pub kernel: Make,
    /// Other crates with the same operation.
    pub peers: &'static [Make],
    /// More of them, which take seconds and gigabytes to build for more than [`SMALL`] endpoints.
    pub small_peers: &'static [Make],
}

/// The most endpoints that [`Case::small_peers`] are measured with.
const SMALL: usize = 256;

impl Case {
    /// Ours, the kernel, and then the peers.
    #[must_use]
    pub fn contenders(&self, n: usize) -> Vec<Contender> {
        let small = self.small_peers.iter().filter(|_| n <= SMALL);
        let peers = self.peers.iter().chain(small);
        [self.ours, self.kernel]
            .iter()
            .chain(peers)
            .map(|make| make(n))
            .collect()
    }
}

/// All cases, in the order of the output.
pub const CASES: &[Case] = &[
    Case {
        name: "round_robin",
        ours: ours::rotation::round_robin,
        kernel: kernels::rotation::round_robin,
        peers: &[
            poise::round_robin,
            weighted::unweighted_round_robin,
            #[cfg(feature = "pingora")]
            pingora::round_robin,
        ],
        small_peers: &[],
    },
    Case {
        name: "random",
        ours: ours::rotation::random,
        kernel: kernels::chance::random,
        peers: &[
            poise::random,
            weighted::unweighted_random,
            #[cfg(feature = "pingora")]
            pingora::random,
        ],
        small_peers: &[],
    },
    Case {
        name: "smooth",
        ours: ours::rotation::smooth,
        kernel: kernels::rotation::smooth,
        peers: &[poise::smooth, weighted::smooth, weighted::smooth_scan],
        small_peers: &[],
    },
    Case {
        name: "stride",
        ours: ours::rotation::stride,
        kernel: kernels::rotation::stride,
        peers: &[
            weighted::round_robin,
            #[cfg(feature = "pingora")]
            pingora::weighted_round_robin,
        ],
        small_peers: &[],
    },
    Case {
        name: "alias",
        ours: ours::rotation::alias,
        kernel: kernels::chance::alias,
        peers: &[
            poise::weighted_random,
            weighted::random,
            weighted::alias,
            #[cfg(feature = "pingora")]
            pingora::weighted_random,
        ],
        small_peers: &[],
    },
    Case {
        name: "least_connections",
        ours: ours::load::least_connections,
        kernel: kernels::load::scan,
        peers: &[poise::least_loaded],
        small_peers: &[],
    },
    Case {
        name: "buckets",
        ours: ours::load::buckets,
        kernel: kernels::load::buckets,
        peers: &[poise::least_loaded],
        small_peers: &[],
    },
    Case {
        name: "weighted_least",
        ours: ours::load::weighted_least,
        kernel: kernels::load::weighted,
        peers: &[],
        small_peers: &[],
    },
    Case {
        name: "choices",
        ours: ours::load::choices,
        kernel: kernels::load::choices,
        peers: &[poise::two_choices, tower::pending_requests],
        small_peers: &[],
    },
    Case {
        name: "latency",
        ours: ours::latency::peak_ewma,
        kernel: kernels::latency::choices,
        peers: &[poise::peak_ewma, tower::peak_ewma],
        small_peers: &[],
    },
    Case {
        name: "hot_cold",
        ours: ours::latency::hot_cold,
        kernel: kernels::latency::hot_cold,
        peers: &[],
        small_peers: &[],
    },
    Case {
        name: "first_fit",
        ours: ours::load::first_fit,
        kernel: kernels::load::first_fit,
        peers: &[],
        small_peers: &[],
    },
    Case {
        name: "corrected",
        ours: ours::load::corrected,
        kernel: kernels::report::corrected,
        peers: &[],
        small_peers: &[],
    },
    Case {
        name: "adaptive",
        ours: ours::load::adaptive,
        kernel: kernels::adaptive::adaptive,
        peers: &[],
        small_peers: &[],
    },
    Case {
        name: "hybrid",
        ours: ours::load::hybrid,
        kernel: kernels::report::hybrid,
        peers: &[],
        small_peers: &[],
    },
    Case {
        name: "rendezvous",
        ours: ours::affinity::rendezvous,
        kernel: kernels::affinity::rendezvous,
        peers: &[poise::rendezvous, consistent::rendezvous],
        small_peers: &[],
    },
    Case {
        name: "weighted_rendezvous",
        ours: ours::affinity::weighted_rendezvous,
        kernel: kernels::affinity::weighted_rendezvous,
        peers: &[poise::weighted_rendezvous],
        small_peers: &[],
    },
    Case {
        name: "maglev",
        ours: ours::affinity::maglev,
        kernel: kernels::affinity::maglev,
        peers: &[
            poise::maglev,
            consistent::maglev_hash,
            consistent::anchor,
            consistent::jump,
        ],
        small_peers: &[consistent::maglev],
    },
    Case {
        name: "bounded",
        ours: ours::affinity::bounded,
        kernel: kernels::affinity::bounded,
        peers: &[poise::bounded],
        small_peers: &[],
    },
    Case {
        name: "ring",
        ours: ours::affinity::ring,
        kernel: kernels::affinity::ring,
        peers: &[poise::ring, consistent::hashring, consistent::hash_rings],
        small_peers: &[consistent::consistent_hash_ring],
    },
    Case {
        name: "ketama",
        ours: ours::affinity::ketama,
        kernel: kernels::affinity::ring,
        peers: &[
            consistent::ketama,
            #[cfg(feature = "pingora")]
            pingora::consistent,
        ],
        small_peers: &[],
    },
];
