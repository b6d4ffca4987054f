//! An edge among servers: it joins, calls, fails over, and survives cables being pulled.
#![allow(missing_docs)]

mod support;

use embassy_time::Duration;
use lb_core::edge::PickError;
use lb_core::member::Filter;
use lb_embassy::CallError;

use support::clock;
use support::hub::Faults;
use support::orchard::{EdgeSite, Orchard};

const LOSSY: Faults = Faults {
    loss: 200,
    duplication: 20,
    delay: (200, 3_000),
};

#[test]
fn joins_and_is_answered() {
    let (mut orchard, site) = Orchard::attached(1);
    assert_eq!(
        orchard.log.borrow().joins,
        2,
        "it learnt of the other server, and joined there"
    );
    let (body, answer) = orchard.call(&site, "upper", b"hello", 1000).unwrap();
    assert_eq!(body, b"HELLO");
    assert!([1, 2].contains(&answer.server.get()));
    let status = site.handle.status();
    assert!(status.attached);
    assert_eq!((status.servers, status.sessions), (2, 2));
    assert_eq!(site.handle.servers().count(), 2);
}

#[test]
fn a_quiet_edge_is_quiet() {
    let (mut orchard, site) = Orchard::attached(1);
    orchard.world.run_for(60_000);
    let (polls, sent) = (orchard.world.polls, site.handle.counters().sent);
    orchard.world.run_for(60_000);
    let sent = site.handle.counters().sent - sent;
    assert!(
        (20..=30).contains(&sent),
        "heartbeats of two servers in a minute: {sent}"
    );
    // All tasks of three hosts together.
    let polls = orchard.world.polls - polls;
    assert!(polls < 600, "{polls} polls in a minute of silence");
}

#[test]
fn a_fifth_of_the_frames_lost_loses_no_call() {
    for seed in 1..=5 {
        let (mut orchard, site) = Orchard::attached(seed);
        orchard.world.hub.set_faults(LOSSY);
        for turn in 0..100u8 {
            let answer = orchard.call(&site, "upper", &[b'a' + turn % 26], 5_000);
            let (body, _) = answer.unwrap_or_else(|error| panic!("seed {seed}, call {turn}: {error}"));
            assert_eq!(body, [b'A' + turn % 26]);
        }
        assert!(site.handle.counters().requests > 110, "nothing was sent twice");
    }
}

#[test]
fn each_server_executes_a_call_once() {
    let (mut orchard, site) = Orchard::attached(7);
    orchard.world.hub.set_faults(LOSSY);
    for _ in 0..50 {
        orchard.call(&site, "upper", b"x", 5_000).unwrap();
    }
    let executed = orchard.log.borrow().executed.clone();
    let mut once = executed.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), executed.len());
}

#[test]
fn calls_move_on_when_their_server_dies() {
    let (mut orchard, site) = Orchard::attached(3);
    orchard.world.run_for(10_000);
    orchard.pull(orchard.servers[0].port, false);
    for turn in 0..20 {
        let (who, _) = orchard
            .call(&site, "who", b"", 3_000)
            .unwrap_or_else(|error| panic!("call {turn}: {error}"));
        assert_eq!(who, [2]);
    }
    orchard.pull(orchard.servers[0].port, true);
    orchard.world.run_for(30_000);
    let who: Vec<_> = (0..20)
        .map(|_| orchard.call(&site, "who", b"", 3_000).unwrap().0[0])
        .collect();
    assert!(who.contains(&1), "it is used again: {who:?}");
}

/// The stack sends in order, and what is for a neighbour that does not answer to ARP waits. So a dead server on the same
/// Ethernet, once its entry has expired, holds up whatever is sent to the others.
#[test]
fn a_dead_neighbour_does_not_stop_the_others() {
    let (mut orchard, site) = Orchard::attached(4);
    orchard.world.run_for(10_000);
    orchard.pull(orchard.servers[0].port, false);
    orchard.world.run_for(90_000);
    let mut longest = 0;
    for _ in 0..200 {
        let began = clock::now();
        assert_eq!(orchard.call(&site, "who", b"", 3_000).unwrap().0, [2]);
        longest = longest.max(clock::now() - began);
        orchard.world.run_for(300);
    }
    assert!(longest < 500_000, "a call took {longest} us");
    assert!(site.handle.status().attached);
}

#[test]
fn a_pulled_cable_needs_no_reboot() {
    let (mut orchard, site) = Orchard::attached(5);
    orchard.pull(site.port, false);
    orchard.world.run_for(5_000);
    let before = site.handle.counters().sent;
    orchard.world.run_for(60_000);
    assert_eq!(
        site.handle.counters().sent,
        before,
        "nothing is sent without a link"
    );
    assert!(orchard.call(&site, "who", b"", 500).is_err());
    orchard.pull(site.port, true);
    let began = clock::now();
    orchard.call(&site, "who", b"", 3_000).unwrap();
    assert!(clock::now() - began < 1_500_000, "{} us", clock::now() - began);
    assert!(site.handle.status().attached);
}

#[test]
fn an_outage_of_five_seconds_is_forgiven() {
    let (mut orchard, site) = Orchard::attached(6);
    orchard.world.run_for(10_000);
    orchard.pull(site.port, false);
    orchard.world.run_for(5_000);
    orchard.pull(site.port, true);
    let began = clock::now();
    orchard.call(&site, "who", b"", 3_000).unwrap();
    assert!(clock::now() - began < 100_000, "{} us", clock::now() - began);
    let handshakes = site.handle.counters().handshakes;
    orchard.world.run_for(20_000);
    assert_eq!(
        site.handle.counters().handshakes,
        handshakes,
        "the sessions are still good"
    );
}

#[test]
fn all_servers_may_go_and_come_back() {
    let (mut orchard, site) = Orchard::attached(8);
    orchard.world.run_for(10_000);
    let ports = [orchard.servers[0].port, orchard.servers[1].port];
    for port in ports {
        orchard.pull(port, false);
    }
    orchard.world.run_for(120_000);
    assert!(!site.handle.status().attached);
    assert!(matches!(
        orchard.call(&site, "who", b"", 1_000),
        Err(CallError::NoServer(_) | CallError::Deadline)
    ));
    for port in ports {
        orchard.pull(port, true);
    }
    assert!(orchard.attach(&site, 30_000), "it does not come back");
    orchard.call(&site, "who", b"", 3_000).unwrap();
}

#[test]
fn a_call_waits_for_the_first_server() {
    let mut orchard = Orchard::new(9, 1, &[]);
    orchard.pull(orchard.servers[0].port, false);
    let site = orchard.edge(0, &[1]);
    orchard.world.run_for(3_000);
    orchard.pull(orchard.servers[0].port, true);
    assert_eq!(orchard.call(&site, "who", b"", 30_000).unwrap().0, [1]);
}

#[test]
fn more_calls_than_places_wait_for_one() {
    let (mut orchard, site) = Orchard::attached(10);
    let handle = site.handle;
    let mut results = Vec::new();
    for _ in 0..12 {
        let result = std::rc::Rc::new(std::cell::Cell::new(None));
        results.push(std::rc::Rc::clone(&result));
        orchard.world.spawn(async move {
            let mut out = [0; 8];
            let asked = handle.call("slow", &[0, 200], &mut out, Duration::from_secs(10));
            result.set(Some(asked.await));
        });
    }
    let all = || results.iter().all(|result| matches!(result.get(), Some(Ok(_))));
    assert!(orchard.world.run_until(10_000, all));
}

#[test]
fn calls_of_many_tasks_take_turns() {
    let (mut orchard, site) = Orchard::attached(23);
    let handle = site.handle;
    let counts: Vec<_> = (0..6)
        .map(|_| std::rc::Rc::new(std::cell::Cell::new(0)))
        .collect();
    for count in &counts {
        let count = std::rc::Rc::clone(count);
        orchard.world.spawn(async move {
            let mut out = [0; 8];
            loop {
                let asked = handle.call("who", b"", &mut out, Duration::from_secs(2));
                asked.await.unwrap();
                count.set(count.get() + 1);
            }
        });
    }
    orchard.world.run_for(300);
    let counts: Vec<u32> = counts.iter().map(|count| count.get()).collect();
    let (least, most) = (counts.iter().min(), counts.iter().max());
    assert!(
        least > Some(&20) && least.map(|least| least * 2) > most.copied(),
        "{counts:?}"
    );
}

#[test]
fn who_finds_no_place_in_time_is_told() {
    let (mut orchard, site) = Orchard::attached(11);
    occupy(&mut orchard, &site);
    let refused = orchard.call(&site, "who", b"", 300);
    assert_eq!(refused.unwrap_err(), CallError::Busy);
}

/// Has every place taken by a call that takes five seconds.
fn occupy(orchard: &mut Orchard, site: &EdgeSite) {
    let handle = site.handle;
    for _ in 0..support::orchard::CALLS {
        orchard.world.spawn(async move {
            let mut out = [0; 8];
            let body = 5_000u16.to_be_bytes();
            let asked = handle.call("slow", &body, &mut out, Duration::from_secs(10));
            asked.await.unwrap();
        });
    }
    orchard.world.run_for(50);
}

#[test]
fn what_does_not_fit_is_refused_with_its_size() {
    let (mut orchard, site) = Orchard::attached(12);
    let mut big = |size: u16| orchard.call(&site, "big", &size.to_be_bytes(), 2_000);
    assert_eq!(big(350).unwrap().0, vec![7; 350]);
    assert_eq!(big(401).unwrap_err(), CallError::ResponseTooLarge { size: 401 });
    let rude = orchard.call(&site, "rude", &401u16.to_be_bytes(), 2_000);
    assert_eq!(rude.unwrap_err(), CallError::ResponseTooLarge { size: 401 });
    let long = orchard.call(&site, "upper", &[b'a'; 500], 2_000).unwrap_err();
    let CallError::RequestTooLarge { limit } = long else {
        panic!("{long}");
    };
    let most = vec![b'a'; limit as usize];
    let most = orchard.call(&site, "upper", &most, 2_000);
    assert!(matches!(most, Ok(_) | Err(CallError::ResponseTooLarge { .. })));
}

#[test]
fn refusals_come_through() {
    let (mut orchard, site) = Orchard::attached(13);
    let unknown = orchard.call(&site, "fly", b"", 1_000).unwrap_err();
    assert_eq!(unknown, CallError::UnknownMethod);
    assert_eq!(
        orchard.call(&site, "", b"", 1_000).unwrap_err(),
        CallError::Method
    );
    let handle = site.handle;
    let refused = orchard.world.wait(1_000, async move {
        let mut out = [0; 5];
        let asked = handle.call("refuse", b"", &mut out, Duration::from_secs(1));
        (asked.await.unwrap_err(), out)
    });
    assert_eq!(
        refused,
        Some((CallError::Handler { len: 5 }, *b"no, t")),
        "as much of the text as fits"
    );
}

#[test]
fn a_deadline_is_kept_and_the_server_told() {
    let (mut orchard, site) = Orchard::attached(14);
    let began = clock::now();
    let late = orchard.call(&site, "slow", &10_000u16.to_be_bytes(), 1_000);
    assert_eq!(late.unwrap_err(), CallError::Deadline);
    assert!((1_000_000..1_010_000).contains(&(clock::now() - began)));
}

/// A quarter of what is left, again and again, is soon no time at all.
#[test]
fn near_its_deadline_a_call_is_not_repeated_without_end() {
    let (mut orchard, site) = Orchard::attached(24);
    for server in 0..2 {
        orchard.pull(orchard.servers[server].port, false);
    }
    let before = site.handle.counters().requests;
    let handle = site.handle;
    orchard.world.wait(2_000, async move {
        let mut out = [0; 8];
        let asked = handle.call("who", b"", &mut out, Duration::from_secs(1));
        assert_eq!(asked.no_fail_over().await, Err(CallError::Deadline));
    });
    let requests = site.handle.counters().requests - before;
    assert!((3..20).contains(&requests), "{requests} requests in a second");
}

#[test]
fn a_filter_chooses_among_servers() {
    let mut orchard = Orchard::new(15, 3, &["kind=a", "kind=b", "kind=c"]);
    let site = orchard.edge(0, &[1]);
    assert!(orchard.attach(&site, 10_000));
    orchard.world.run_for(10_000);
    let handle = site.handle;
    let mut ask = |filter: &'static str, within: u64| {
        orchard
            .world
            .wait(within + 100, async move {
                let mut out = [0; 8];
                let filter = Filter::parse(filter).unwrap();
                let asked = handle.call("who", b"", &mut out, Duration::from_millis(within));
                asked.filter(&filter).await.map(|answer| answer.server.get())
            })
            .unwrap()
    };
    for _ in 0..5 {
        assert_eq!(ask("kind=b", 3_000), Ok(2));
        assert_eq!(ask("kind=c", 3_000), Ok(3));
    }
    assert_eq!(ask("kind=d", 500), Err(CallError::NoServer(PickError::NoMatch)));
    let pick = handle.pick(&Filter::parse("kind=c").unwrap()).unwrap();
    assert_eq!(pick.server.map(lb_core::NodeId::get), Some(3));
}

#[test]
fn two_edges_do_not_disturb_each_other() {
    let mut orchard = Orchard::new(16, 2, &[]);
    let sites = [orchard.edge(0, &[1]), orchard.edge(1, &[2])];
    for site in &sites {
        assert!(orchard.attach(site, 10_000));
    }
    orchard.world.run_for(5_000);
    for turn in 0..20u8 {
        for site in &sites {
            assert_eq!(
                orchard.call(site, "upper", &[b'a', turn], 1_000).unwrap().0,
                [b'A', turn]
            );
        }
    }
}

/// embassy-net lets one task wait for the link; two wake each other.
#[test]
fn another_task_may_watch_the_link() {
    let (mut orchard, site) = Orchard::attached(18);
    let stack = site.stack;
    let seen = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = std::rc::Rc::clone(&seen);
    orchard.world.spawn(async move {
        loop {
            stack.wait_link_down().await;
            stack.wait_link_up().await;
            count.set(count.get() + 1);
        }
    });
    let polls = orchard.world.polls;
    orchard.world.run_for(60_000);
    let polls = orchard.world.polls - polls;
    assert!(polls < 1_000, "{polls} polls in a minute of silence");
    orchard.pull(site.port, false);
    orchard.world.run_for(8_000);
    orchard.pull(site.port, true);
    orchard.world.run_for(8_000);
    assert_eq!(seen.get(), 1);
    orchard.call(&site, "who", b"", 1_000).unwrap();
}

#[test]
fn new_tags_are_told() {
    let (mut orchard, site) = Orchard::attached(19);
    let joins = orchard.log.borrow().joins;
    site.handle.set_tags("zone=b").unwrap();
    orchard.world.run_for(100);
    assert_eq!(orchard.log.borrow().joins, joins + 2, "both servers");
    site.handle.set_tags("no tags").unwrap_err();
}

/// `cargo test --features proto-ipv6`
#[cfg(feature = "proto-ipv6")]
#[test]
fn ipv6_serves_as_well() {
    let mut orchard = Orchard::new(20, 1, &[]);
    let site = orchard.edge_of(0, &["[fd00::1]:7500".parse().unwrap()]);
    assert!(orchard.attach(&site, 10_000));
    assert_eq!(orchard.call(&site, "who", b"", 1_000).unwrap().0, [1]);
}

#[test]
fn goodbye_is_said() {
    let (mut orchard, site) = Orchard::attached(17);
    orchard.world.run_for(10_000);
    site.handle.leave();
    orchard.world.run_for(1_000);
    assert_eq!(orchard.log.borrow().leaves, 2);
    assert!(!site.handle.status().attached);
    let sent = site.handle.counters().sent;
    orchard.world.run_for(60_000);
    assert_eq!(site.handle.counters().sent, sent);
}

/// Half a minute of trouble; gives what was answered, and the trace of the network.
fn story(seed: u64) -> (Vec<Result<u32, CallError>>, (u64, u64)) {
    let (mut orchard, site) = Orchard::attached(seed);
    orchard.world.hub.set_faults(LOSSY);
    let mut answers = Vec::new();
    for turn in 0..60 {
        match turn {
            20 => orchard.pull(orchard.servers[0].port, false),
            30 => orchard.pull(site.port, false),
            33 => orchard.pull(site.port, true),
            40 => orchard.pull(orchard.servers[0].port, true),
            _ => {}
        }
        let answer = orchard.call(&site, "upper", b"abc", 1_000);
        answers.push(answer.map(|(_, answer)| answer.server.get()));
    }
    (answers, orchard.world.hub.trace())
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let (answers, trace) = story(21);
    assert!(answers.iter().filter(|answer| answer.is_ok()).count() > 40);
    assert_eq!(story(21), (answers, trace));
    assert_ne!(story(22).1, trace);
}
