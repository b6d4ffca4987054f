//! Waiting for workers, over loopback.

use std::error::Error;
use std::time::Duration;

use lb_tokio::identity::{ClusterCa, ClusterName};
use lb_tokio::{Cluster, NodeId, Server};

const DAY: Duration = Duration::from_secs(86_400);
const MOMENT: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_secs(2);

/// A new tag changes nobody's status, so no event tells of it.
#[tokio::test]
async fn a_tag_set_later_ends_the_wait() -> Result<(), Box<dyn Error>> {
    let ca = ClusterCa::generate(&ClusterName::new("waiting")?)?;
    let worker = Cluster::builder(ca.issue(NodeId::new(1), DAY)?)
        .server(Server::new())
        .start()
        .await?;
    let client = Cluster::builder(ca.issue(NodeId::new(2), DAY)?)
        .seeds([worker.local_addr()])
        .start()
        .await?;
    client.wait_for_workers(1, None, SOON).await?;
    let set = async {
        tokio::time::sleep(MOMENT).await;
        worker.set_tag("gpu", "a100")
    };
    let (own, other, set) = tokio::join!(
        worker.wait_for_workers(1, Some("gpu"), SOON),
        client.wait_for_workers(1, Some("gpu"), SOON),
        set,
    );
    set?;
    own?;
    other?;
    Ok(())
}
