//! What one request asks of a pick.

use lb_core::NodeId;
use lb_core::pick::key_hash;

/// What one request asks for, beyond the picker's filter and strategy.
///
/// ```
/// use lb_tokio::NodeId;
/// use lb_tokio::pick::Ask;
/// let tried = [NodeId::new(3)];
/// let ask = Ask::new().key("user-7").exclude(&tried).hint(NodeId::new(4));
/// # let _ = ask;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    pub(super) key: Option<u64>,
    pub(super) exclude: &'a [NodeId],
    pub(super) hint: Option<Hint>,
}

/// An endpoint the request would like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hint {
    pub(super) id: NodeId,
    /// That one or none.
    pub(super) only: bool,
}

impl<'a> Ask<'a> {
    /// Anyone.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            key: None,
            exclude: &[],
            hint: None,
        }
    }

    /// Where requests of the same key go, as far as the strategy is an affine one: a user, a session, an object.
    #[must_use]
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.key_hash(key_hash(key.as_ref()))
    }

    /// [`key`](Self::key) for a key that is a hash already, each of its bits fair.
    #[must_use]
    pub const fn key_hash(mut self, hash: u64) -> Self {
        self.key = Some(hash);
        self
    }

    /// None of these: they were tried already.
    #[must_use]
    pub const fn exclude(mut self, tried: &'a [NodeId]) -> Self {
        self.exclude = tried;
        self
    }

    /// This one, if it matches and has a place, else whoever the strategy says: a session lives there.
    #[must_use]
    pub const fn hint(mut self, id: NodeId) -> Self {
        self.hint = Some(Hint { id, only: false });
        self
    }

    /// This one or none.
    #[must_use]
    pub const fn only(mut self, id: NodeId) -> Self {
        self.hint = Some(Hint { id, only: true });
        self
    }
}
