//! The defects of earlier systems of this kind, each as a test that they are absent here.
//!
//! Those of the load cache (time to live enforced, acknowledgements used, unknown peers neutral) are beside
//! the code in `lb-core`: `load::cache`, `node::tests`, `pick::corrected`.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lb_tokio::registry::FILTERS_MAX;
use lb_tokio::{Cluster, ClusterClientConfig, LoadBalancingStrategy, NodeId};
use support::{PATIENCE, World, eventually, server};

fn counts(picks: &BTreeMap<NodeId, u64>) -> Vec<u64> {
    picks.values().copied().collect()
}

#[tokio::test]
async fn five_nodes_joined_through_one_address_know_five_ids_and_no_ghost() {
    let world = World::new();
    let workers = world.workers(5, &server()).await;
    for worker in &workers {
        let known: Vec<u32> = worker.status().members.iter().map(|member| member.id).collect();
        assert_eq!(known, [1, 2, 3, 4, 5], "as node {} sees it", worker.id());
        for member in &worker.status().members {
            let owner = &workers[member.id as usize - 1];
            assert_eq!(member.addr, Some(owner.local_addr()), "one address per id");
            assert_eq!(member.tags, "role=worker");
        }
    }
}

#[tokio::test]
async fn sequential_calls_by_least_connections_are_spread_evenly() {
    let world = World::new();
    let workers = world.workers(4, &server()).await;
    let strategy = LoadBalancingStrategy::LeastConnections;
    let client = world
        .client(9, &workers, strategy, ClusterClientConfig::default())
        .await;
    for _ in 0..400 {
        client
            .call_worker("echo", "x", Some("role=worker"))
            .await
            .unwrap();
    }
    assert_eq!(counts(&client.registry().picks()), [100; 4]);
}

#[tokio::test]
async fn a_cold_burst_is_spread_evenly_over_one_connection_per_worker() {
    let world = World::new();
    let workers = world.workers(4, &server()).await;
    for strategy in [
        LoadBalancingStrategy::LeastConnections,
        LoadBalancingStrategy::Corrected,
    ] {
        let client = world
            .client(9, &workers, strategy, ClusterClientConfig::default())
            .await;
        let calls: Vec<_> = (0..400)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.call_worker("sleep", "50", None).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let picks = counts(&client.registry().picks());
        let (min, max) = (picks.iter().min().unwrap(), picks.iter().max().unwrap());
        assert!(*max as f64 / *min as f64 <= 1.2, "{strategy}: {picks:?}");
        assert_eq!(client.registry().cluster().connections(), 4, "{strategy}");
        client.registry().cluster().leave().await;
    }
}

#[tokio::test]
async fn alternating_filters_do_not_starve_anybody() {
    let world = World::new();
    let mut workers = Vec::new();
    for (id, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        let seeds: Vec<SocketAddr> = workers.first().map(Cluster::local_addr).into_iter().collect();
        let builder = world.node(id).tag("zone", zone).seeds(seeds).server(server());
        workers.push(builder.start().await.unwrap());
    }
    let strategy = LoadBalancingStrategy::RoundRobin;
    let client = world
        .client(9, &workers, strategy, ClusterClientConfig::default())
        .await;
    for _ in 0..100 {
        client.call_worker("echo", "x", Some("zone=a")).await.unwrap();
        client.call_worker("echo", "x", Some("zone=b")).await.unwrap();
    }
    assert_eq!(counts(&client.registry().picks()), [50; 4]);
}

#[tokio::test]
async fn a_worker_restarted_on_its_address_is_called_again() {
    let world = World::new();
    let mut workers = world.workers(2, &server()).await;
    let strategy = LoadBalancingStrategy::RoundRobin;
    let client = world
        .client(9, &workers, strategy, ClusterClientConfig::default())
        .await;
    client.call_worker("echo", "x", None).await.unwrap();
    client.call_worker("echo", "x", None).await.unwrap();

    let (old, seed) = (workers.remove(0), workers[0].local_addr());
    let (addr, epoch) = (old.local_addr(), old.epoch());
    drop(old);
    let rebind = || {
        world
            .node(1)
            .tag("role", "worker")
            .listen(addr)
            .seeds([seed])
            .server(server())
    };
    let again = loop {
        // The dropped node lets go of its socket when its last task has ended.
        match rebind().start().await {
            Ok(again) => break again,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let known = || client.registry().cluster().status().members[0].clone();
    eventually("the restarted worker is known", || {
        known().epoch > epoch && known().liveness == "alive"
    })
    .await;
    let before = client.registry().picks()[&NodeId::new(1)];
    for _ in 0..20 {
        client.call_worker("echo", "x", None).await.unwrap();
    }
    assert!(client.registry().picks()[&NodeId::new(1)] >= before + 8);
    assert!(again.epoch() > epoch);
}

#[tokio::test]
async fn cancelled_calls_leak_nothing_and_stop_the_handler() {
    let world = World::new();
    let workers = world.workers(2, &server()).await;
    let strategy = LoadBalancingStrategy::LeastConnections;
    let client = world
        .client(9, &workers, strategy, ClusterClientConfig::default())
        .await;
    let cancelled = (0..50).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let call = client.call_worker("sleep", "60000", None);
            tokio::time::timeout(Duration::from_millis(100), call).await
        })
    });
    for call in cancelled.collect::<Vec<_>>() {
        assert!(call.await.unwrap().is_err(), "cancelled");
    }
    let mine = || {
        client
            .registry()
            .workers()
            .iter()
            .map(|worker| worker.own_in_flight)
            .sum::<u32>()
    };
    assert_eq!(mine(), 0, "released at once");
    let theirs = || {
        workers
            .iter()
            .map(|worker| worker.status().members)
            .map(|all| {
                all.iter()
                    .filter(|member| member.is_self)
                    .map(|member| member.in_flight)
                    .sum::<u32>()
            })
            .sum::<u32>()
    };
    eventually("the handlers are dropped", || theirs() == 0).await;
}

#[tokio::test]
async fn a_lease_counts_until_it_is_dropped() {
    let world = World::new();
    let workers = world.workers(1, &server()).await;
    let client = world
        .client(
            9,
            &workers,
            LoadBalancingStrategy::default(),
            ClusterClientConfig::default(),
        )
        .await;
    let registry = client.registry();
    let leases: Vec<_> = (0..3)
        .map(|_| registry.select_worker(Some("role=worker")).unwrap())
        .collect();
    assert_eq!(registry.workers()[0].own_in_flight, 3);
    assert_eq!(registry.cluster().status().members[0].own_in_flight, 3);
    drop(leases);
    assert_eq!(registry.workers()[0].own_in_flight, 0);
}

#[tokio::test]
async fn tags_of_a_known_worker_refresh() {
    let world = World::new();
    let workers = world.workers(2, &server()).await;
    let client = world
        .client(
            9,
            &workers,
            LoadBalancingStrategy::default(),
            ClusterClientConfig::default(),
        )
        .await;
    workers[1].set_tag("gpu", "true").unwrap();
    let cluster = client.registry().cluster();
    cluster
        .wait_for_workers(1, Some("gpu=true"), PATIENCE)
        .await
        .unwrap();
    for _ in 0..5 {
        client.call_worker("echo", "x", Some("gpu=true")).await.unwrap();
    }
    assert_eq!(client.registry().picks(), BTreeMap::from([(NodeId::new(2), 5)]));
    assert!(workers[1].remove_tag("gpu"));
    eventually("the tag is gone", || {
        client.registry().select_worker(Some("gpu")).is_err()
    })
    .await;
}

#[tokio::test]
async fn a_slow_handler_does_not_hold_up_others() {
    let world = World::new();
    let workers = world.workers(1, &server()).await;
    let client = world
        .client(
            9,
            &workers,
            LoadBalancingStrategy::default(),
            ClusterClientConfig::default(),
        )
        .await;
    let slow = client.call_worker("sleep", "60000", None);
    let fast = async {
        for _ in 0..100 {
            client.call_worker("echo", "x", None).await.unwrap();
        }
    };
    tokio::select! {
        _ = slow => panic!("the slow one cannot be first"),
        () = fast => {}
    }
}

#[tokio::test]
async fn more_filters_than_are_kept_still_pick() {
    let world = World::new();
    let workers = world.workers(2, &server()).await;
    let strategy = LoadBalancingStrategy::RoundRobin;
    let client = world
        .client(9, &workers, strategy, ClusterClientConfig::default())
        .await;
    let registry = client.registry();
    for round in 0..2 {
        for number in 0..=FILTERS_MAX {
            let filter = format!("!absent-{number}");
            let lease = registry.select_worker(Some(&filter));
            assert!(lease.is_ok(), "round {round}, {filter}");
        }
    }
    let picked: u64 = registry.picks().values().sum();
    assert_eq!(picked, 2 * (FILTERS_MAX as u64 + 1));
}
