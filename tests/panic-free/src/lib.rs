//! A program that calls all of lb-core's state machines, the edge with its cipher (Ascon) included, with values the
//! compiler knows nothing of. Its panic handler calls a function that does not exist, so it links only if no panic is
//! left after optimisation.
//!
//! `cargo xtask firmware` builds and links it. If it fails, `arm-none-eabi-objdump -dr` on the object shows who calls
//! `core::panicking`.
#![no_std]

use core::hint::black_box;

use lb_core::edge::{self, CallPoll, Edge, Outgoing, Received};
use lb_core::elect::{Candidate, Election};
use lb_core::health::Timers;
use lb_core::load::{
    Ended, Finished, HybridWeights, LoadCache, LoadFigures, LoadMeter, MetricMap, Weighed, Weigher,
    WeightRules,
};
use lb_core::member::{Addr, Filter, Role, Tags};
use lb_core::node::{Config, Node, Request};
use lb_core::pick::subset::{self, Portion};
use lb_core::pick::{
    Adaptive, AnyStrategy, Bounded, CachePool, Fallback, Found, Ketama, LoadBuckets, Maglev, Overflow,
    PickCounters, PickError, Pool, Rendezvous, Ring, RingSize, Rung, Shares, SlicePool, SlotSet, SlowStart,
    SlowStarting, SpillRules, Strategy, StrategyKind, Tabled, TierGroup, TierHealth, TierRules, Tiers, Tried,
    Without, ZoneCounts, ZoneLoad, ZoneRules, answer_us, coverage, crc32, find, key_hash, load_aware, sticky,
    zone_aware,
};
use lb_core::rng::Sfc32;
use lb_core::wire::seal::{Ascon128, DeviceKey};
use lb_core::{Duration, Instant, NodeId, wire};

/// Any strategy, with its memory.
type Any = AnyStrategy<[u32; 1_024]>;

unsafe extern "C" {
    fn lb_core_can_panic() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: there is no such function; the program does not link if this is reachable.
    unsafe { lb_core_can_panic() }
}

fn now() -> Instant {
    Instant::from_micros(black_box(7))
}

fn id() -> NodeId {
    NodeId::new(black_box(3))
}

fn ended() -> Ended {
    match black_box(0) {
        0 => Ended::Answered(span()),
        1 => Ended::Failed {
            retry_after: black_box(Some(span())),
        },
        _ => Ended::Abandoned,
    }
}

fn span() -> Duration {
    Duration::from_micros(black_box(5))
}

fn a_node(bytes: &mut [u8], text: &str, filter: &Filter, strategy: &mut Any) {
    let Ok(timers) = Timers::new(span(), span(), span(), span()) else {
        return;
    };
    let Ok(tags) = Tags::<64>::parse(text) else { return };
    let config = Config::new(id(), black_box(1), black_box(Role::Worker))
        .tags(tags)
        .addr(Addr::NONE);
    let config = config.timers(timers).forget(span()).seed(black_box(9));
    let Ok(mut node) = Node::<16, 64>::new(now(), config) else {
        return;
    };
    let mut meter = LoadMeter::new(black_box(1), black_box(8));
    while black_box(true) {
        let arrival = meter.begin(now());
        meter.finish(now(), black_box(arrival), black_box(Finished::Answered(span())));
        let report = meter.report(now());
        node.set_load(report);
        let _ = black_box(node.add_peer(now(), id(), Addr::NONE));
        let _ = black_box(node.handle_message(now(), id(), black_box(&*bytes)));
        node.handle_timeout(now());
        node.handle_request(now(), id(), black_box(1));
        node.handle_response(now(), id(), black_box(report));
        node.handle_connect(now(), id());
        node.handle_disconnect(now(), id());
        node.handle_overloaded(now(), id(), span());
        node.set_draining(now(), black_box(true));
        node.set_addr(now(), Addr::NONE);
        if let Ok(tags) = Tags::parse(black_box(text)) {
            node.set_tags(now(), tags);
        }
        let tried = [id()];
        let request = Request::new(filter).exclude(&tried).include_self(black_box(true));
        if let Ok(ticket) = node.pick(now(), &request, strategy) {
            node.finish(now(), black_box(ticket), ended());
        }
        if let Some(ticket) = node.begin(id()) {
            node.finish(now(), black_box(ticket), ended());
        }
        while let Some(out) = node.poll_transmit(now(), black_box(&mut *bytes)) {
            black_box(out);
        }
        while let Some(event) = node.poll_event() {
            black_box(event);
        }
        for peer in node.peers() {
            black_box((peer.status, peer.axes));
        }
        black_box((node.next_deadline(), node.own_status(), node.counters().refused()));
    }
    node.leave(now());
    black_box(node.has_left());
}

fn the_signals(bytes: &mut [u8], text: &str) {
    let used = black_box(3);
    let mut metrics = wire::metrics(bytes).unwrap_or_default();
    black_box(
        metrics
            .set(black_box(MetricMap::Named), text, black_box(1))
            .is_ok(),
    );
    black_box(metrics.highest_milli(MetricMap::Utilization, |name| name == black_box(text)));
    black_box(wire::append_metrics(&metrics, black_box(&mut *bytes), used).is_ok());
    black_box(wire::report_metrics(black_box(bytes)).is_some());
    let mut weigher = Weigher::new(black_box(WeightRules::default()));
    let (mut memory, mut weights) = (black_box([Weighed::default(); 16]), black_box([0; 16]));
    let report = |slot: usize| {
        Some((
            black_box(LoadFigures::default()),
            Duration::from_millis(slot as u64),
        ))
    };
    black_box(weigher.update(now(), report, &mut memory, &mut weights));
    black_box(weights);
}

fn around<P: Pool + ?Sized>(pool: &P, strategy: Any, rng: &mut Sfc32) {
    let shares: Shares<4> = Shares::proportional(&black_box([3, 7, 0, 6]));
    black_box((shares.draw(rng), shares.share(black_box(2)), coverage(pool)));
    let levels = black_box([TierHealth::default(); 3]);
    let tiers: Tiers<3> = Tiers::new(&levels, black_box(TierRules::default()));
    black_box((tiers.draw(rng), tiers.load(black_box(1))));
    let zones = black_box([ZoneCounts::default(); 4]);
    black_box(zone_aware::<4>(
        black_box(1),
        &zones,
        black_box(ZoneRules::default()),
    ));
    let mut loads = black_box([ZoneLoad::default(); 4]);
    for load in &mut loads {
        load.update(black_box(3), black_box([(4, span()); 3]).into_iter(), span());
    }
    black_box(load_aware::<4>(
        black_box(1),
        &loads,
        black_box(SpillRules::default()),
    ));

    let mut tried = Tried::<4>::new();
    let mut counters = PickCounters::default();
    let mut slow: SlowStarting<Any, 4> = SlowStarting::new(strategy, black_box(SlowStart::default()));
    while black_box(true) {
        slow.start(black_box(3), now());
        slow.moved(black_box(3), black_box(4));
        slow.progress(now(), pool.len());
        slow.stop(black_box(5));
        black_box(SlowStart::default().weight(black_box(7), span()));
        let late = |slot: usize| answer_us(&pool.load(slot)) > black_box(9);
        let rest = Without::new(pool, |slot| tried.contains(slot) || late(slot));
        let hint = black_box(Some(1));
        let stuck = sticky(
            &mut slow,
            &rest,
            hint,
            black_box(Fallback::Any),
            black_box(Some(5)),
            rng,
        );
        counters.hinted(stuck);
        match stuck {
            Some(stuck) => {
                tried.insert(stuck.slot());
                counters.picked(black_box(TierGroup::All), black_box(true), black_box(true));
            }
            None => counters.shed(black_box(Found::default()).missing()),
        }
        black_box(find(pool, black_box(b"name")));
    }
    black_box(counters.sheds_for(black_box(PickError::TooLate)));
}

fn the_parts(bytes: &mut [u8], text: &str, strategy: &mut Any) {
    let mut cache: LoadCache<16> = LoadCache::new(span(), span());
    let mut eligible = SlotSet::new();
    if let Ok(report) = wire::decode_report(bytes) {
        let _ = black_box(cache.record(now(), id(), report));
        black_box(wire::encode_report(&report, black_box(bytes)).is_ok());
    }
    if let Some(slot) = cache.slot_of(id()) {
        eligible.insert(slot);
        cache.begin(slot);
        cache.finish(slot, now(), ended());
        black_box((cache.freshness(slot, now()), cache.fresh(slot, now()).is_some()));
    }
    let mut rng = Sfc32::new(black_box(1));
    let pool = CachePool::new(&cache, &eligible, now());
    black_box(strategy.pick(&pool, None, &mut rng));
    around(&pool, strategy.clone(), &mut rng);
    let mut election = Election::new();
    let candidate = Candidate {
        id: id(),
        score: black_box(4),
    };
    black_box(election.evaluate(Some(id()), [candidate; 3].into_iter()));
    black_box(HybridWeights::new(black_box(70), black_box(30)).is_ok());
    let mut tags: Tags<32> = Tags::new();
    black_box((
        tags.set(text, text).is_ok(),
        tags.remove(text),
        tags.get(text).is_some(),
    ));
}

fn tables(pool: &impl Pool, memory: &mut [u32]) {
    fn used(mut strategy: impl Strategy + Tabled, pool: &impl Pool) {
        while !strategy.update(pool, black_box(100)) {}
        let key = black_box(Some(key_hash(b"key") ^ u64::from(crc32(b"key"))));
        black_box(strategy.pick(pool, key, &mut Sfc32::new(black_box(1))));
    }
    fn bounded<S>(strategy: S) -> Bounded<S> {
        Bounded::new(strategy, black_box(125), black_box(Overflow::Jump))
    }
    let slots = black_box(16);
    let envoy = RingSize::Envoy {
        at_least: black_box(1_024),
        at_most: black_box(4_096),
    };
    let size = if black_box(true) {
        envoy
    } else {
        RingSize::PerWeight(black_box(160))
    };
    if let Ok(rendezvous) = Rendezvous::new(&mut *memory, slots) {
        black_box(rendezvous.top(pool, black_box(7), &mut black_box([0; 4])));
        used(bounded(rendezvous), pool);
    }
    if let Ok(maglev) = Maglev::new(&mut *memory, slots, black_box(251)) {
        used(bounded(maglev), pool);
    }
    if let Ok(ring) = Ring::new(&mut *memory, slots, size) {
        used(bounded(ring), pool);
    }
    if let Ok(ketama) = Ketama::new(&mut *memory, slots) {
        used(bounded(ketama), pool);
    }
    let mut slice = [Portion::default(); 8];
    black_box(subset::by_rendezvous(pool, black_box(7), &mut black_box([0; 4])));
    black_box(subset::by_aperture(
        pool,
        black_box(1),
        black_box(9),
        black_box(4),
        &mut slice,
    ));
}

fn an_edge(bytes: &mut [u8], text: &str, filter: &Filter) {
    let Ok(timers) = Timers::new(span(), span(), span(), span()) else {
        return;
    };
    let Ok(tags) = Tags::<16>::parse(text) else { return };
    let Some(psk) = bytes.first_chunk() else { return };
    let key = |id| DeviceKey::new(black_box(id), psk, black_box(text));
    let config = edge::Config::new(key(7), black_box(1)).older_key(key(8));
    let config = config.epoch(black_box(1)).tags(tags).timers(timers);
    let config = config
        .datagram(black_box(512))
        .seed(black_box(9))
        .serves(black_box(true));
    let Ok(config) = config.check() else { return };
    let mut edge = Edge::<16, 4, 2, 16, Ascon128>::new(now(), config);
    let mut buffer = [0; 512];
    while black_box(true) {
        let addr = Addr::from(black_box(core::net::SocketAddr::from(([10, 0, 2, 2], 7500))));
        let _ = black_box(edge.add_seed(now(), addr));
        edge.handle_timeout(now(), &mut || black_box([7; 16]));
        edge.handle_link(now(), black_box(true));
        edge.set_load(LoadMeter::new(black_box(1), black_box(8)).report(now()));
        if let Ok(tags) = Tags::parse(black_box(text)) {
            edge.set_tags(now(), tags);
        }
        match edge.handle_datagram(now(), addr, black_box(&mut *bytes)) {
            Ok(Received::Answer(answer)) => edge.finish(now(), black_box(answer).call),
            other => drop(black_box(other)),
        }
        if let Ok(call) = edge.call(now(), span(), black_box(true)) {
            let outgoing = Outgoing {
                method: black_box(text),
                body: black_box(text.as_bytes()),
                response_max: black_box(64),
                filter,
            };
            while let CallPoll::Transmit(transmit) = edge.poll_call(now(), call, &outgoing, &mut buffer) {
                black_box(transmit);
            }
            black_box(edge.choice(call));
            edge.finish(now(), call);
        }
        black_box(edge.pick(now(), filter).is_ok());
        while let Some(transmit) = edge.poll_transmit(now(), &mut buffer) {
            black_box((transmit, &buffer));
        }
        while let Some(event) = edge.poll_event() {
            black_box(event);
        }
        for server in edge.servers() {
            black_box(server);
        }
        black_box((edge.next_deadline(), edge.status(), edge.counters(), edge.id()));
    }
    edge.leave(now());
    black_box(edge);
}

/// Every kind that can be chosen at run time, with all that is called of it, and those that cannot.
fn strategies(pool: &impl Pool, memory: &mut [u32], text: &str) {
    let mut rng = Sfc32::new(black_box(1));
    let (slots, key) = (black_box(16), black_box(Some(7)));
    for kind in StrategyKind::ALL.into_iter().chain(text.parse()) {
        black_box((kind.is_affine(), kind.words(slots), kind.as_str()));
        let Ok(any) = AnyStrategy::new(kind, &mut *memory, slots, black_box(9)) else {
            continue;
        };
        let mut any = any.map(|memory| black_box(memory));
        while !any.update(pool, black_box(64)) {}
        while let Some(slot) = any.pick(pool, key, &mut rng) {
            any.ended(black_box(slot));
        }
        black_box(any.kind());
    }
    if let Ok(mut adaptive) = Adaptive::new(&mut *memory, black_box(9)) {
        while !adaptive.update(pool, black_box(64)) {}
        let explanation = adaptive.explain(pool, &mut rng);
        adaptive.ended(explanation.picked.map_or(0, usize::from));
        black_box(explanation.considered.first().copied());
        black_box((explanation.rung.map(Rung::as_str), explanation));
        black_box(adaptive.rung());
    }
    if let Ok(mut buckets) = LoadBuckets::new(&mut *memory) {
        while !buckets.update(pool, black_box(64)) {}
        while let Some(slot) = buckets.pick(pool, key, &mut rng) {
            buckets.begin(slot);
            buckets.finish(black_box(slot));
            buckets.moved(black_box(1), black_box(2));
            black_box(buckets.in_flight(slot));
        }
    }
}

/// # Safety
/// `bytes` points to `length` bytes that nobody else uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start(bytes: *mut u8, length: usize) {
    // SAFETY: as promised by the caller.
    let bytes = unsafe { core::slice::from_raw_parts_mut(bytes, length) };
    let (bytes, text) = bytes
        .split_at_mut_checked(black_box(40))
        .unwrap_or((&mut [], &mut []));
    let text = core::str::from_utf8(text).unwrap_or("");
    let Ok(filter) = Filter::parse(text) else { return };
    let Some(kind) = StrategyKind::ALL.get(black_box(2)) else {
        return;
    };
    let Ok(mut strategy) = AnyStrategy::new(*kind, [0; 1_024], black_box(16), black_box(1)) else {
        return;
    };
    a_node(bytes, text, &filter, &mut strategy);
    an_edge(bytes, text, &filter);
    the_parts(bytes, text, &mut strategy);
    let names = black_box([text.as_bytes(); 3]);
    let pool = SlicePool {
        candidates: &black_box([0, 1, 2]),
        admitted: &black_box([7]),
        names: &names,
        weights: &black_box([1, 2, 3]),
        version: black_box(1),
        ..SlicePool::default()
    };
    tables(&pool, black_box(&mut [0; 1_024]));
    strategies(&pool, black_box(&mut [0; 1_024]), text);
    the_signals(bytes, text);
}
