//! Who can be picked.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use lb_core::NodeId;
use lb_core::member::{TAG_BYTES_MAX, Tags};

/// Whether an endpoint is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Yes.
    #[default]
    Open,
    /// Only when no open one can be: it may not be there.
    Suspect,
    /// No: it is gone, or asked for no requests. It stays known, and so do the requests in flight there.
    Closed,
}

/// An endpoint as its owner describes it.
///
/// ```
/// use lb_tokio::NodeId;
/// use lb_tokio::core::member::Tags;
/// use lb_tokio::pick::Endpoint;
/// let endpoint = Endpoint::new(NodeId::new(7))
///     .tags(Tags::parse("role=worker,zone=eu-1")?)
///     .weight(3)
///     .data("http://10.0.0.7:8080");
/// assert_eq!(endpoint.get::<&str>(), Some(&"http://10.0.0.7:8080"));
/// # Ok::<(), lb_tokio::core::member::TagsError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Endpoint {
    id: NodeId,
    name: Box<[u8]>,
    tags: Tags<TAG_BYTES_MAX>,
    weight: u16,
    standing: Standing,
    addr: Option<SocketAddr>,
    data: Option<Arc<dyn Any + Send + Sync>>,
}

impl Endpoint {
    /// An open endpoint without tags, of weight 1, named after its id.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            name: id.get().to_be_bytes().into(),
            tags: Tags::new(),
            weight: 1,
            standing: Standing::Open,
            addr: None,
            data: None,
        }
    }

    /// What affine strategies hash. It should stay the same wherever the endpoint moves. By default the four
    /// bytes of the id, most significant first, which is what every node of a cluster hashes.
    pub fn name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.name = name.as_ref().into();
        self
    }

    /// What filters match.
    pub fn tags(mut self, tags: Tags<TAG_BYTES_MAX>) -> Self {
        self.tags = tags;
        self
    }

    /// How much it gets compared with the others, for strategies that weigh. 0: nothing, unless all have 0.
    pub const fn weight(mut self, weight: u16) -> Self {
        self.weight = weight;
        self
    }

    /// Whether it is picked.
    pub const fn standing(mut self, standing: Standing) -> Self {
        self.standing = standing;
        self
    }

    /// Where it listens, to be found again with whoever was picked.
    pub const fn addr(mut self, addr: Option<SocketAddr>) -> Self {
        self.addr = addr;
        self
    }

    /// Anything else to be found again with whoever was picked, such as a connection.
    pub fn data(mut self, data: impl Any + Send + Sync) -> Self {
        self.data = Some(Arc::new(data));
        self
    }

    /// Who it is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// See [`addr`](Self::addr).
    #[must_use]
    pub const fn get_addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// See [`data`](Self::data); `None` when that is of another type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.data.as_deref()?.downcast_ref()
    }

    /// See [`name`](Self::name).
    #[must_use]
    pub fn get_name(&self) -> &[u8] {
        &self.name
    }

    /// See [`tags`](Self::tags).
    #[must_use]
    pub const fn get_tags(&self) -> &Tags<TAG_BYTES_MAX> {
        &self.tags
    }

    /// See [`weight`](Self::weight).
    #[must_use]
    pub const fn get_weight(&self) -> u16 {
        self.weight
    }

    /// See [`standing`](Self::standing).
    #[must_use]
    pub const fn get_standing(&self) -> Standing {
        self.standing
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("tags", &self.tags.as_str())
            .field("weight", &self.weight)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}
