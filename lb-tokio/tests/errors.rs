//! Every error a user can meet: its kind, that its text says what to do, and that it leaves nothing behind.

mod support;

use std::time::Duration;

use lb_tokio::{
    CallError, CallOptions, Cluster, ClusterClient, ClusterClientConfig, JoinError, LoadBalancingStrategy,
    NodeId, SelectError, Server, StartError, WorkerRegistry,
};
use support::{PATIENCE, World, eventually, server};

async fn one_worker(
    world: &World,
    server: Server,
    config: ClusterClientConfig,
) -> (ClusterClient, Vec<Cluster>) {
    let workers = world.workers(1, &server).await;
    (
        world
            .client(9, &workers, LoadBalancingStrategy::default(), config)
            .await,
        workers,
    )
}

fn in_flight(client: &ClusterClient) -> u32 {
    client
        .registry()
        .workers()
        .iter()
        .map(|worker| worker.own_in_flight)
        .sum()
}

#[tokio::test]
async fn no_workers_and_no_match() {
    let world = World::new();
    let alone = world.node(9).start().await.unwrap();
    let registry = WorkerRegistry::new(alone, LoadBalancingStrategy::default());
    let client = ClusterClient::new(registry.clone(), ClusterClientConfig::default());
    assert_eq!(registry.select_worker(None).unwrap_err(), SelectError::NoWorkers);
    let error = client
        .call_worker("echo", "x", Some("role=worker"))
        .await
        .unwrap_err();
    assert_eq!(error, CallError::Select(SelectError::NoWorkers));
    assert!(
        error.to_string().contains("start one or check the seeds"),
        "{error}"
    );

    let (client, _workers) = one_worker(&world, server(), ClusterClientConfig::default()).await;
    let error = client
        .call_worker("echo", "x", Some("role=director"))
        .await
        .unwrap_err();
    assert_eq!(
        error,
        CallError::Select(SelectError::NoMatch {
            filter: "role=director".to_owned()
        })
    );
    assert!(error.to_string().contains("check the tags"), "{error}");
    let error = client.call_worker("echo", "x", Some("a b")).await.unwrap_err();
    assert!(error.to_string().starts_with("filter: filter term 1"), "{error}");
}

#[tokio::test]
async fn a_worker_that_was_insisted_on_and_cannot_be() {
    let world = World::new();
    let (client, _workers) = one_worker(&world, server(), ClusterClientConfig::default()).await;
    let call = async |options: CallOptions<'_>| client.call_worker_with("echo", "x", &options).await;
    let [one, two] = [1, 2].map(NodeId::new);
    assert_eq!(call(CallOptions::new().only(one)).await.unwrap(), "x");
    assert_eq!(call(CallOptions::new().hint(two)).await.unwrap(), "x");
    let error = call(CallOptions::new().only(two)).await.unwrap_err();
    assert_eq!(error, CallError::Select(SelectError::Unavailable { id: two }));
    assert!(error.to_string().contains("allow others"), "{error}");
    let error = call(CallOptions::new().only(one).exclude([one]))
        .await
        .unwrap_err();
    assert_eq!(error, CallError::Select(SelectError::Unavailable { id: one }));
    let error = call(CallOptions::new().exclude([one])).await.unwrap_err();
    assert_eq!(error, CallError::Select(SelectError::AllTried));
    let error = call(CallOptions::new().filter("role=director"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("check the tags"), "{error}");
}

#[tokio::test]
async fn a_full_worker_sheds_and_is_then_passed_over() {
    let world = World::new();
    let config = ClusterClientConfig::default().retries(0);
    let (first, workers) = one_worker(&world, server().concurrency(2), config).await;
    let second = world
        .client(10, &workers, LoadBalancingStrategy::default(), config)
        .await;
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let first = first.clone();
            tokio::spawn(async move { first.call_worker("sleep", "700", None).await })
        })
        .collect();
    eventually("both are served", || {
        workers[0].status().members[0].in_flight == 2
    })
    .await;
    // The first client fills it by itself and knows; the second one is told by the worker.
    let error = first.call_worker("echo", "x", None).await.unwrap_err();
    assert_eq!(error, CallError::Select(SelectError::AllAtCapacity));
    let error = second.call_worker("echo", "x", None).await.unwrap_err();
    assert!(
        matches!(error, CallError::Overloaded { retry_after, .. } if retry_after > Duration::ZERO),
        "{error}"
    );
    let error = second.call_worker("echo", "x", None).await.unwrap_err();
    assert_eq!(
        error,
        CallError::Select(SelectError::AllAtCapacity),
        "no message is spent on it again"
    );
    for call in busy {
        call.await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    second.call_worker("echo", "x", None).await.unwrap();
    assert_eq!((in_flight(&first), in_flight(&second)), (0, 0));
}

#[tokio::test]
async fn a_shed_call_goes_to_another_worker() {
    let world = World::new();
    let workers = world.workers(2, &server().concurrency(1)).await;
    let config = ClusterClientConfig::default();
    let strategy = LoadBalancingStrategy::RoundRobin;
    let (first, second) = (
        world.client(9, &workers, strategy, config).await,
        world.client(10, &workers, strategy, config).await,
    );
    let busy = tokio::spawn(async move { first.call_worker("sleep", "500", None).await });
    let serving = || {
        workers
            .iter()
            .map(|it| {
                it.status()
                    .members
                    .iter()
                    .filter(|m| m.is_self)
                    .map(|m| m.in_flight)
                    .sum::<u32>()
            })
            .sum::<u32>()
    };
    eventually("one is busy", || serving() == 1).await;
    for _ in 0..20 {
        second.call_worker("echo", "x", None).await.unwrap();
    }
    busy.await.unwrap().unwrap();
}

#[tokio::test]
async fn deadlines_reach_the_worker() {
    let world = World::new();
    let config = ClusterClientConfig::default().timeout(Duration::from_millis(100));
    let (client, workers) = one_worker(&world, server(), config).await;
    let error = client.call_worker("sleep", "60000", None).await.unwrap_err();
    assert_eq!(
        error,
        CallError::Deadline {
            timeout: Duration::from_millis(100)
        }
    );
    assert_eq!(in_flight(&client), 0);
    eventually("the handler is dropped", || {
        workers[0].status().members[0].in_flight == 0
    })
    .await;
}

#[tokio::test]
async fn handlers_that_fail_panic_or_do_not_exist() {
    let world = World::new();
    let (client, workers) = one_worker(&world, server(), ClusterClientConfig::default()).await;
    let id = NodeId::new(1);
    let call = async |method: &str| client.call_worker(method, "x", None).await.unwrap_err();
    assert_eq!(
        call("fail").await,
        CallError::Handler {
            id,
            message: "as asked".to_owned()
        }
    );
    assert_eq!(
        call("panic").await,
        CallError::Handler {
            id,
            message: "the handler panicked".to_owned()
        }
    );
    assert_eq!(
        call("no-such").await,
        CallError::UnknownMethod {
            id,
            method: "no-such".to_owned()
        }
    );
    assert_eq!(call("").await, CallError::MethodName);
    assert_eq!(call(&"m".repeat(65)).await, CallError::MethodName);
    assert!(
        matches!(call(&"m".repeat(64)).await, CallError::UnknownMethod { .. }),
        "64 bytes are allowed"
    );
    client.call_worker("echo", "still there", None).await.unwrap();
    assert_eq!(
        (in_flight(&client), workers[0].status().members[0].in_flight),
        (0, 0)
    );
}

#[tokio::test]
async fn sizes_are_bounded_on_both_sides_and_at_the_byte() {
    let world = World::new();
    let served = server()
        .max_request(1_000)
        .max_response(500)
        .handler("grow", |_| async { Ok(vec![0; 501].into()) });
    let (client, _workers) =
        one_worker(&world, served, ClusterClientConfig::default().max_request(2_000)).await;
    let call = async |size: usize| client.call_worker("echo", vec![0; size], None).await;
    assert_eq!(call(500).await.unwrap().len(), 500);
    assert_eq!(
        call(501).await.unwrap_err(),
        CallError::ResponseTooLarge {
            size: 501,
            limit: 500
        }
    );
    assert_eq!(
        call(1_001).await.unwrap_err(),
        CallError::RequestTooLarge {
            size: 1_001,
            limit: 1_000
        }
    );
    assert_eq!(
        call(2_001).await.unwrap_err(),
        CallError::RequestTooLarge {
            size: 2_001,
            limit: 2_000
        }
    );
    let grown = client.call_worker("grow", "", None).await.unwrap_err();
    assert_eq!(
        grown,
        CallError::ResponseTooLarge {
            size: 501,
            limit: 500
        }
    );

    let small = ClusterClientConfig::default().max_response(499);
    let client = ClusterClient::new(client.registry().clone(), small);
    let error = client.call_worker("echo", vec![0; 500], None).await.unwrap_err();
    assert_eq!(
        error,
        CallError::ResponseTooLarge {
            size: 500,
            limit: 499
        }
    );
    assert_eq!(in_flight(&client), 0);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_with_its_reason() {
    let (world, foreign) = (World::new(), World::new());
    let worker = world.worker(1, &[], server()).await;
    let stranger = foreign
        .node(9)
        .seeds([worker.local_addr()])
        .start()
        .await
        .unwrap();
    let error = stranger
        .wait_for_workers(1, None, Duration::from_millis(500))
        .await
        .unwrap_err();
    assert!(matches!(error, JoinError::Seed { .. }), "{error}");
    assert!(error.to_string().contains("TLS identity refused"), "{error}");
    assert_eq!(worker.status().members.len(), 1, "the stranger is not known");
}

#[tokio::test]
async fn another_node_at_a_known_address_is_refused() {
    let world = World::new();
    let config = ClusterClientConfig::default().timeout(Duration::from_secs(3));
    let (client, mut workers) = one_worker(&world, server(), config).await;
    let worker = workers.remove(0);
    let addr = worker.local_addr();
    drop(worker);
    let impostor = loop {
        match world.node(2).listen(addr).server(server()).start().await {
            Ok(impostor) => break impostor,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let error = loop {
        match client.call_worker("echo", "x", None).await.unwrap_err() {
            // Until the old connection's end is noticed.
            CallError::Unreachable { .. } => tokio::time::sleep(Duration::from_millis(20)).await,
            other => break other,
        }
    };
    assert!(
        matches!(&error, CallError::IdentityRefused { id, .. } if *id == NodeId::new(1)),
        "{error}"
    );
    drop(impostor);
}

#[tokio::test]
async fn too_few_workers_are_counted() {
    let world = World::new();
    let workers = world.workers(2, &server()).await;
    let error = workers[0]
        .wait_for_workers(3, None, Duration::from_millis(100))
        .await
        .unwrap_err();
    assert_eq!(
        error,
        JoinError::TooFew {
            found: 2,
            wanted: 3,
            within: Duration::from_millis(100)
        }
    );
    workers[0]
        .wait_for_workers(2, Some("role=worker"), PATIENCE)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_node_that_cannot_start_says_why() {
    let world = World::new();
    let running = world.worker(1, &[], server()).await;
    let addr = running.local_addr();
    let error = world.node(2).listen(addr).start().await.unwrap_err();
    assert!(
        matches!(error, StartError::AddressInUse { addr: taken } if taken == addr),
        "{error}"
    );
    assert!(error.to_string().contains("choose another port"), "{error}");

    let error = world.node(2).tag("a b", "c").start().await.unwrap_err();
    assert!(matches!(error, StartError::Tag { .. }), "{error}");
    let error = world.node(2).epoch(0).start().await.unwrap_err();
    assert!(matches!(error, StartError::Config(_)), "{error}");
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let error = world
        .node(2)
        .listen(everywhere)
        .server(server())
        .start()
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Advertise { .. }), "{error}");
    for method in ["echo", "", "lb.mine", &"m".repeat(65)] {
        let server = server().handler(method, |_| async { Ok("".into()) });
        let error = world.node(2).server(server).start().await.unwrap_err();
        assert!(
            matches!(&error, StartError::Method { method: bad } if bad == method),
            "{error}"
        );
    }
}

#[tokio::test]
async fn calls_on_a_node_that_left_fail_clearly() {
    let world = World::new();
    let (client, workers) = one_worker(&world, server(), ClusterClientConfig::default()).await;
    client.registry().cluster().leave().await;
    let error = client.call_worker("echo", "x", None).await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    eventually("the worker knows", || {
        workers[0].status().members.iter().any(|it| it.status == "LEFT")
    })
    .await;
}
