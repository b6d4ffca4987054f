//! The peers: other crates that do what one of our strategies does, each through its own public interface.
//!
//! They get whatever is cheapest for them: integers for identities where they are generic, their own default
//! hasher, loads as plain integers. What they cannot leave out (a clone of the endpoint, a pool of random numbers
//! of a thread) is part of their pick. `README.md` says which crates are missing and why.

pub mod consistent;
#[cfg(feature = "pingora")]
pub mod pingora;
pub mod poise;
pub mod tower;
pub mod weighted;

use crate::measure::Contender;

/// A peer: its crate with the version that `Cargo.toml` pins, and what of it is used.
fn peer(krate: &str, what: &str, pick: impl FnMut(u64) -> usize + 'static) -> Contender {
    let version = version(krate).unwrap_or("?");
    let label = [krate, version, what].join(" ");
    Contender::new(label.trim_end(), pick)
}

/// The version that the manifest pins.
fn version(krate: &str) -> Option<&'static str> {
    let pins = include_str!("../../Cargo.toml").lines();
    pins.filter_map(|line| line.split_once(" = "))
        .find(|(name, _)| *name == krate)
        .and_then(|(_, pin)| pin.split("\"=").nth(1))
        .and_then(|pin| pin.split('"').next())
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_those_of_the_manifest() {
        assert_eq!(version("jumphash"), Some("0.1.9"));
        assert_eq!(version("tower"), Some("0.5.3"));
        assert_eq!(version("nothing"), None);
    }
}
