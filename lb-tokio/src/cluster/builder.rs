//! Settings of a node, checked when it starts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use lb_core::health::Timers;
use lb_core::member::{Addr, RESERVED_KEY_PREFIX, Role, TAG_BYTES_MAX, Tags, TagsError};
use lb_core::node::{Config, ConfigError};
use ring::rand::SecureRandom;
use tokio::time::Instant;

use super::shared::{Parts, Shared};
use super::{Cluster, CoreNode};
use crate::edge::{self, EdgeListenerConfig, Listener};
use crate::identity::{IdentityError, NodeIdentity};
use crate::server::Server;
use crate::transport::{self, BindError, Settings, Transport};

/// A network and a clock of the caller's, for tests: same seed, same run.
///
/// With a current-thread runtime whose clock is paused, a whole cluster of real endpoints runs in virtual
/// time inside one process.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// The socket; its address is where the node is bound.
    pub socket: Arc<dyn quinn::AsyncUdpSocket>,
    /// Timers and tasks.
    pub runtime: Arc<dyn quinn::Runtime>,
    /// Seeds everything that is random but keys.
    pub seed: u64,
}

/// Settings of a node; [`ClusterBuilder::start`] starts it.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct ClusterBuilder {
    identity: NodeIdentity,
    listen: Option<SocketAddr>,
    advertise: Option<SocketAddr>,
    seeds: Vec<SocketAddr>,
    tags: Vec<(String, String)>,
    timers: Timers,
    epoch: Option<u32>,
    server: Option<Server>,
    edges: Option<EdgeListenerConfig>,
    simulated: Option<Simulated>,
}

impl ClusterBuilder {
    pub(super) fn new(identity: NodeIdentity) -> Self {
        Self {
            identity,
            listen: None,
            advertise: None,
            seeds: Vec::new(),
            tags: Vec::new(),
            timers: Timers::default(),
            epoch: None,
            server: None,
            edges: None,
            simulated: None,
        }
    }

    /// Where to bind. By default any port: on loopback for a worker or when every seed is there, else on
    /// every interface.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = Some(addr);
        self
    }

    /// The address peers are told to dial, if it is another than the bound one.
    pub fn advertise(mut self, addr: SocketAddr) -> Self {
        self.advertise = Some(addr);
        self
    }

    /// Addresses of nodes to join through. One that is reachable is enough; the node itself may be among them.
    pub fn seeds(mut self, addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.seeds.extend(addrs);
        self
    }

    /// Adds a tag; checked at the start. Keys that begin with `lb.` are the node's own.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// The failure detector's time-outs. All nodes of a cluster should have the same.
    pub fn timers(mut self, timers: Timers) -> Self {
        self.timers = timers;
        self
    }

    /// The life this is, at least 1 and higher than any before: a boot counter. By default the seconds since
    /// 1970. Should a former life have had it already, the node learns so and takes a higher one.
    pub fn epoch(mut self, epoch: u32) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Only picks and calls. This is what a node without a server is.
    pub fn observer(mut self) -> Self {
        self.server = None;
        self
    }

    /// Serves: makes the node a worker.
    pub fn server(mut self, server: Server) -> Self {
        self.server = Some(server);
        self
    }

    /// Listens for edges as well, see [`crate::edge`], on a socket of the system's: not when
    /// [`simulated`](Self::simulated).
    pub fn edges(mut self, edges: EdgeListenerConfig) -> Self {
        self.edges = Some(edges);
        self
    }

    /// Runs over a network and clock of the caller's. Without [`edges`](Self::edges), which are not on that network.
    pub fn simulated(mut self, simulated: Simulated) -> Self {
        self.simulated = Some(simulated);
        self
    }

    fn bind_addr(&self) -> SocketAddr {
        let remote = self.seeds.iter().find(|seed| !seed.ip().is_loopback());
        let ip = match remote {
            Some(_) if self.server.is_some() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(SocketAddr::V6(_)) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            Some(SocketAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            None if self.seeds.first().is_some_and(SocketAddr::is_ipv6) => {
                IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)
            }
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        self.listen.unwrap_or(SocketAddr::new(ip, 0))
    }

    /// Binds and joins in the background; [`Cluster::wait_for_workers`] waits for company.
    ///
    /// # Errors
    /// [`StartError`]; nothing is running then.
    #[expect(clippy::unused_async, reason = "it needs the runtime it will run on")]
    pub async fn start(self) -> Result<Cluster, StartError> {
        let mut tags = Tags::new();
        for (key, value) in &self.tags {
            let set = if key.starts_with(RESERVED_KEY_PREFIX) {
                Err(TagsError::Reserved)
            } else {
                tags.set(key, value)
            };
            set.map_err(|error| StartError::Tag {
                key: key.clone(),
                error,
            })?;
        }
        if let Some(method) = self.server.as_ref().and_then(|server| server.bad_method.clone()) {
            return Err(StartError::Method { method });
        }
        if self.simulated.is_some() && self.edges.is_some() {
            return Err(StartError::EdgesSimulated);
        }
        let listen = self.bind_addr();
        let settings = Settings::new(&self.timers);
        let seed = match &self.simulated {
            Some(simulated) => simulated.seed,
            None => random_seed()?,
        };
        let (endpoint, client) = transport::bind(listen, &self.identity, &settings, self.simulated.clone())
            .map_err(|error| StartError::from_bind(error, listen))?;
        let local_addr = endpoint
            .local_addr()
            .map_err(|error| StartError::Bind { addr: listen, error })?;
        let role = if self.server.is_some() {
            Role::Worker
        } else {
            Role::Observer
        };
        let advertised = match (role, self.advertise) {
            (_, Some(addr)) => addr.into(),
            (Role::Observer, None) => Addr::NONE,
            (Role::Worker, None) if local_addr.ip().is_unspecified() => {
                return Err(StartError::Advertise { bound: local_addr });
            }
            (Role::Worker, None) => local_addr.into(),
        };
        let edges = self
            .edges
            .map(|edges| listen_for_edges(edges, &mut tags))
            .transpose()?;
        let origin = Instant::now();
        let config = Config::new(self.identity.id(), self.epoch.unwrap_or_else(epoch_now), role)
            .addr(advertised)
            .tags(tags)
            .timers(self.timers)
            .forget(lb_core::node::FORGET_DEFAULT.max(self.timers.failed()))
            .seed(seed);
        let node = Box::new(CoreNode::new(lb_core::Instant::ZERO, config)?);
        let name = self.identity.cluster();
        let transport = Transport::new(self.identity.id(), name.clone(), endpoint, client, settings, seed);
        let server = self.server.unwrap_or_default();
        let shared = Shared::start(Parts {
            cluster: name.to_string(),
            origin,
            local_addr,
            server,
            transport,
            node,
            seeds: self.seeds,
            edges,
            seed,
        });
        Ok(Cluster::new(shared))
    }
}

/// Binds the edge listener and notes in the tags where it is.
fn listen_for_edges(
    config: EdgeListenerConfig,
    tags: &mut Tags<TAG_BYTES_MAX>,
) -> Result<Arc<Listener>, StartError> {
    let (listen, advertise) = (config.listen, config.advertise);
    let listener = Listener::bind(config).map_err(|error| StartError::EdgeBind { addr: listen, error })?;
    let addr = advertise.unwrap_or(listener.addr());
    if addr.ip().is_unspecified() {
        return Err(StartError::EdgeAdvertise { bound: addr });
    }
    tags.set(edge::TAG, &edge::to_tag(addr))
        .map_err(|error| StartError::Tag {
            key: edge::TAG.to_owned(),
            error,
        })?;
    Ok(listener)
}

fn epoch_now() -> u32 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX).max(1)
}

fn random_seed() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StartError::Random)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A node that could not start. Nothing is running, nothing is bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another socket is bound there.
    #[error("address {addr} is in use: stop the other process or choose another port (0 chooses one)")]
    AddressInUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The address cannot be bound for another reason.
    #[error("cannot bind {addr}: {error}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A worker bound to every interface must be told which address its peers should dial.
    #[error("bound to {bound}, which peers cannot dial: set the address to advertise")]
    Advertise {
        /// The bound address.
        bound: SocketAddr,
    },
    /// The address for edges cannot be bound.
    #[error("cannot bind {addr} for edges: {error}; choose another UDP port (0 chooses one)")]
    EdgeBind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A listener for edges bound to every interface must be told which address they should use.
    #[error("listens for edges on {bound}, which they cannot send to: set the address to advertise to them")]
    EdgeAdvertise {
        /// The address.
        bound: SocketAddr,
    },
    /// A simulated node would listen for edges on the real network.
    #[error(
        "a simulated node cannot listen for edges, as they are not on its network: leave out edges() or simulated()"
    )]
    EdgesSimulated,
    /// The certificate or key is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A tag is not acceptable.
    #[error("tag {key:?}: {error}")]
    Tag {
        /// Its key.
        key: String,
        /// What is wrong.
        error: TagsError,
    },
    /// A setting of the node makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A method name is taken twice, empty, too long, or begins with `lb.`.
    #[error("method {method:?} is registered twice, or its name is empty, too long or begins with \"lb.\"")]
    Method {
        /// The name.
        method: String,
    },
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Random,
}

impl StartError {
    fn from_bind(error: BindError, addr: SocketAddr) -> Self {
        match error {
            BindError::Io(error) if error.kind() == io::ErrorKind::AddrInUse => Self::AddressInUse { addr },
            BindError::Io(error) => Self::Bind { addr, error },
            BindError::Identity(error) => Self::Identity(error),
        }
    }
}
