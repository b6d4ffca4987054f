//! Settings of the edge listener.

use std::net::SocketAddr;
use std::sync::Arc;

use super::keys::EdgeKeys;

/// Edges known at once unless configured: [`EdgeListenerConfig::capacity`].
pub const EDGES_DEFAULT: usize = 16_384;

/// Most edges that can be configured. Each takes about 1 KB, another once it has called, and its last sixteen
/// responses for a minute.
pub const EDGES_MAX: usize = 1 << 20;

/// Where a node listens for edges, and whom it lets in.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use lb_tokio::edge::{EdgeKeyFile, EdgeListenerConfig};
/// use lb_tokio::identity::ClusterName;
///
/// let keys = Arc::new(EdgeKeyFile::open("devices.toml", &ClusterName::new("orchard")?)?);
/// let edges = EdgeListenerConfig::new("0.0.0.0:7500".parse()?, keys).advertise("10.0.0.1:7500".parse()?);
/// // Cluster::builder(identity).edges(edges)…
/// # let _ = edges;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct EdgeListenerConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: Option<SocketAddr>,
    pub(crate) capacity: usize,
    pub(crate) keys: Arc<dyn EdgeKeys>,
}

impl EdgeListenerConfig {
    /// Listens on this UDP address (port 0: any) for the devices of this store.
    #[must_use]
    pub fn new(listen: SocketAddr, keys: Arc<dyn EdgeKeys>) -> Self {
        Self {
            listen,
            advertise: None,
            capacity: EDGES_DEFAULT,
            keys,
        }
    }

    /// The address edges are told to use, if it is another than the bound one. Other nodes learn it from the
    /// tag `lb.edge`, and recommend it to their edges.
    #[must_use]
    pub fn advertise(mut self, addr: SocketAddr) -> Self {
        self.advertise = Some(addr);
        self
    }

    /// How many edges are known at once; taken as at least 1 and at most [`EDGES_MAX`]. When all are alive, another one is
    /// refused; else the one that is silent for the longest time makes room.
    #[must_use]
    pub fn capacity(mut self, edges: usize) -> Self {
        self.capacity = edges.clamp(1, EDGES_MAX);
        self
    }
}
