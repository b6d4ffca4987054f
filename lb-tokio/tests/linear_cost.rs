//! Large bodies cost in proportion to their size: what is allocated and what is sent, counted.

mod support;

use lb_tokio::{Bytes, ClusterClientConfig, LoadBalancingStrategy};
use support::{World, server};

const CALLS: u64 = 20;

/// Bytes allocated per call that echoes a body of this size, client and worker together.
fn allocated_per_call(size: usize) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let body = Bytes::from(vec![7; size]);
    let client = runtime.block_on(async {
        let world = World::new();
        let workers = world.workers(1, &server()).await;
        let config = ClusterClientConfig::default();
        let client = world
            .client(9, &workers, LoadBalancingStrategy::default(), config)
            .await;
        client.call_worker("echo", body.clone(), None).await.unwrap();
        (client, workers)
    });
    let counted = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..CALLS {
                assert_eq!(
                    client.0.call_worker("echo", body.clone(), None).await.unwrap(),
                    body
                );
            }
        });
    });
    counted.bytes_total / CALLS
}

#[test]
fn sixteen_times_the_body_costs_about_sixteen_times_the_memory_traffic() {
    let (small, large) = (allocated_per_call(100_000), allocated_per_call(1_600_000));
    let (per_byte, ratio) = (small as f64 / 1e5, large as f64 / small as f64);
    println!("{per_byte:.1} bytes allocated per byte of body at 100 kB, x{ratio:.1} at 1.6 MB");
    // Buffers that double make it a little more than 16.
    assert!(ratio < 32.0, "linear is 16, quadratic is 256: {ratio}");
}
