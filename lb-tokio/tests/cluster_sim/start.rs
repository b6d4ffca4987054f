//! What a simulated node refuses to be.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;

use lb_tokio::StartError;
use lb_tokio::core::wire::seal::DeviceKey;
use lb_tokio::edge::{EdgeKeys, EdgeListenerConfig};

use crate::{lab::Lab, sim};

#[derive(Debug)]
struct NoKeys;

impl EdgeKeys for NoKeys {
    fn keys(&self, _: u32) -> [Option<DeviceKey>; 2] {
        [None, None]
    }

    fn version(&self) -> u64 {
        0
    }
}

#[test]
fn no_simulated_node_listens_on_the_real_network() {
    // Whose port the node would find taken, if it tried.
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let addr = taken.local_addr().expect("it is bound");
    let start = async {
        let edges = EdgeListenerConfig::new(addr, Arc::new(NoKeys));
        Lab::new(7).node(1, &[]).edges(edges).start().await
    };
    let error = sim::run(start).expect_err("refused");
    assert!(matches!(error, StartError::EdgesSimulated), "{error}");
    assert!(error.to_string().contains("leave out edges()"), "{error}");
}
