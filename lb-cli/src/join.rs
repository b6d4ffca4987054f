//! Taking part in a cluster for a moment: as an observer, which picks and calls but never serves.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};
use lb_tokio::Cluster;
use lb_tokio::identity::NodeIdentity;

use crate::cli::JoinArgs;

/// Joins as the observer with this identity.
pub(crate) async fn observe(args: &JoinArgs) -> Result<Cluster> {
    let identity = NodeIdentity::read_from(&args.dir, args.node_id())?;
    let cluster = Cluster::builder(identity)
        .seeds(resolve(&args.seeds)?)
        .observer()
        .start()
        .await?;
    Ok(cluster)
}

/// The addresses behind `host:port` names; the first one of each.
pub(crate) fn resolve(seeds: &[String]) -> Result<Vec<SocketAddr>> {
    seeds
        .iter()
        .map(|seed| {
            if let Ok(addr) = seed.parse() {
                return Ok(addr);
            }
            if !seed.contains(':') {
                bail!("the seed {seed} has no port; write it like {seed}:7401");
            }
            let mut found = seed
                .to_socket_addrs()
                .with_context(|| format!("cannot resolve the seed {seed}; write it like 10.0.0.1:7401"))?;
            found
                .next()
                .with_context(|| format!("the seed {seed} has no address"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_addresses_or_names() {
        let of = |seed: &str| resolve(&[seed.to_owned()]).map_err(|error| format!("{error:#}"));
        assert_eq!(of("127.0.0.1:1"), Ok(vec!["127.0.0.1:1".parse().unwrap()]));
        assert_eq!(of("[::1]:1"), Ok(vec!["[::1]:1".parse().unwrap()]));
        assert_eq!(of("localhost:1").unwrap()[0].port(), 1);
        assert!(of("localhost").unwrap_err().contains("localhost:7401"));
        assert!(of("localhost:many").unwrap_err().contains("cannot resolve"));
    }
}
