//! What each strategy costs with 16 endpoints: RAM, and instructions per request as QEMU counts them (`-icount shift=0`).
//!
//! Each runs 1000 requests over a pool whose loads move: requests end in another order than they began, and a report
//! comes with every fourth. What is counted is the pick and what the strategy is told of the request (`ended`, or `begin`
//! and `finish`): the same requests are done once more with the picks written down, and that is taken off. All goes through
//! dynamic calls, which is in both.
//!
//! Tables are those that fit beside the pool into 2 KiB. Where that is less than [`lb_core::pick::AnyStrategy`] takes, the
//! line says `profile=small`: Maglev has 193 entries (12 for each endpoint, 13 for one of them) instead of 1021, and the
//! rings have 3 points for each endpoint instead of 160, so some get several times as much as others. Rendezvous is even,
//! and takes a fifth of the RAM.
#![no_std]
#![no_main]

mod pool;
mod timer;

use lb_core::pick::{
    Adaptive, Bias, Bounded, By, Choices, Corrected, FirstFit, HotCold, Hybrid, Ketama, LeastConnections,
    LoadBuckets, Maglev, Overflow, PeakEwma, Random, Rendezvous, Ring, RingSize, RoundRobin, SmoothWeighted,
    StaticStride, Strategy, StrategyKind, Tabled, WeightedLeast, WeightedRandom,
};
use lb_core::rng::Sfc32;
use qemu_mps2::host;
use qemu_mps2::print::say;

use crate::pool::{Endpoints, SLOTS};

/// What the pool, the random numbers and any one strategy may take.
const RAM_MAX: usize = 2_048;

const REQUESTS: usize = 1_000;
/// Requests in flight at a time.
const DEPTH: usize = 24;

/// A prime that is 1 more than a multiple of the endpoints, so that shares differ by one entry, and that one only.
const ENTRIES: u32 = 193;
const POINTS: u32 = 3 * SLOTS as u32;
/// Turns of a schedule, as [`lb_core::pick::AnyStrategy`] has them.
const TURNS: usize = 8 * SLOTS;
const BOUND: u16 = 125;

const ADAPTIVE: usize = Adaptive::words(SLOTS);
const SMOOTH: usize = SmoothWeighted::<()>::words(SLOTS, TURNS);
const STRIDE: usize = StaticStride::<()>::words(SLOTS);
const ALIAS: usize = WeightedRandom::<()>::words(SLOTS);
const LEAST: usize = WeightedLeast::<()>::words(SLOTS);
const BUCKETS: usize = LoadBuckets::<()>::words(SLOTS);
const RENDEZVOUS: usize = Rendezvous::words(SLOTS);
const MAGLEV: usize = Maglev::words(SLOTS, ENTRIES);
const RING: usize = Ring::words(SLOTS, POINTS);

fn rendezvous() -> Option<Rendezvous<[u32; RENDEZVOUS]>> {
    Rendezvous::new([0; RENDEZVOUS], SLOTS).ok()
}

fn maglev() -> Option<Maglev<[u32; MAGLEV]>> {
    Maglev::new([0; MAGLEV], SLOTS, ENTRIES).ok()
}

fn ring() -> Option<Ring<[u32; RING]>> {
    let size = RingSize::Envoy {
        at_least: POINTS,
        at_most: POINTS,
    };
    Ring::new([0; RING], SLOTS, size).ok()
}

fn bounded<S>(strategy: Option<S>, overflow: Overflow) -> Option<Bounded<S>> {
    strategy.map(|strategy| Bounded::new(strategy, BOUND, overflow))
}

macro_rules! strategies {
    ($($name:literal, $profile:literal: $type:ty = $make:expr;)*) => {
        const NAMES: &[&str] = &[$($name),*];

        /// State and memory of each.
        const BYTES: &[usize] = &[$(size_of::<$type>()),*];

        fn measure_all(bench: &mut Bench) {
            $({
                #[inline(never)]
                fn one(bench: &mut Bench) {
                    let Some(strategy): Option<$type> = $make else { host::fail($name) };
                    bench.measure($name, $profile, strategy, false);
                }
                one(bench);
            })*
            // What depends most on whether weights differ, once more with equal ones.
            let Some(rendezvous) = rendezvous() else { host::fail("rendezvous") };
            bench.measure("rendezvous-equal", "full", rendezvous, true);
            bench.measure("two-choices-equal", "full", Choices::new(2, By::OwnRequests), true);
        }
    };
}

strategies! {
    "round-robin", "full": RoundRobin = Some(RoundRobin::new());
    "random", "full": Random = Some(Random);
    "smooth-weighted", "full": SmoothWeighted<[u32; SMOOTH]> = SmoothWeighted::new([0; SMOOTH], SLOTS).ok();
    "static-stride", "full": StaticStride<[u32; STRIDE]> = StaticStride::new([0; STRIDE]).ok();
    "weighted-random", "full": WeightedRandom<[u32; ALIAS]> = WeightedRandom::new([0; ALIAS]).ok();
    "least-connections", "full": LeastConnections = Some(LeastConnections::default());
    "load-buckets", "full": Counted = LoadBuckets::new([0; BUCKETS]).ok().map(Counted);
    "weighted-least", "full": WeightedLeast<[u32; LEAST]> = WeightedLeast::new([0; LEAST], Bias::default()).ok();
    "two-choices", "full": Choices = Some(Choices::new(2, By::OwnRequests));
    "two-reported", "full": Choices = Some(Choices::new(2, By::Reported));
    "two-corrected", "full": Choices = Some(Choices::new(2, By::Corrected));
    "peak-ewma", "full": PeakEwma = Some(PeakEwma::default());
    "hot-cold", "full": HotCold = Some(HotCold::new());
    "corrected", "full": Corrected = Some(Corrected::default());
    "hybrid", "full": Hybrid = Some(Hybrid::default());
    "first-fit", "full": FirstFit = Some(FirstFit::new());
    "adaptive", "full": Adaptive<[u32; ADAPTIVE]> = Adaptive::new([0; ADAPTIVE], 7).ok();
    "rendezvous", "full": Rendezvous<[u32; RENDEZVOUS]> = rendezvous();
    "bounded-rendezvous", "full": Bounded<Rendezvous<[u32; RENDEZVOUS]>> = bounded(rendezvous(), Overflow::Jump);
    "maglev", "small": Maglev<[u32; MAGLEV]> = maglev();
    "bounded-maglev", "small": Bounded<Maglev<[u32; MAGLEV]>> = bounded(maglev(), Overflow::Jump);
    "ring", "small": Ring<[u32; RING]> = ring();
    "bounded-ring", "small": Bounded<Ring<[u32; RING]>> = bounded(ring(), Overflow::Forward);
    "ketama", "small": Ketama<[u32; RING]> = Ketama::new([0; RING], SLOTS).ok();
}

/// What there is whatever the strategy.
const POOL: usize = size_of::<Endpoints>() + size_of::<Sfc32>();

/// The largest strategy's, and all together.
const RAM: (usize, usize) = {
    let (mut largest, mut sum, mut rest) = (0, 0, BYTES);
    while let [bytes, others @ ..] = rest {
        if *bytes > largest {
            largest = *bytes;
        }
        sum += *bytes;
        rest = others;
    }
    (largest, sum)
};

const _: () = assert!(POOL + RAM.0 <= RAM_MAX);

/// The buckets are to be told of every request.
struct Counted(LoadBuckets<[u32; BUCKETS]>);

/// What picks.
trait Chooser {
    /// Brings its table up to date.
    fn update(&mut self, pool: &Endpoints);
    fn pick(&mut self, pool: &Endpoints, key: u64) -> Option<usize>;
    fn ended(&mut self, slot: usize);
}

struct Picker<S> {
    strategy: S,
    rng: Sfc32,
}

impl<S: Strategy + Tabled> Chooser for Picker<S> {
    fn update(&mut self, pool: &Endpoints) {
        while !self.strategy.update(pool, 64) {}
    }

    fn pick(&mut self, pool: &Endpoints, key: u64) -> Option<usize> {
        self.strategy.pick(pool, Some(key), &mut self.rng)
    }

    fn ended(&mut self, slot: usize) {
        self.strategy.ended(slot);
    }
}

impl Strategy for Counted {
    fn pick<P, R>(&mut self, pool: &P, key: Option<u64>, rng: &mut R) -> Option<usize>
    where
        P: lb_core::pick::Pool + ?Sized,
        R: lb_core::rng::Rng + ?Sized,
    {
        let slot = self.0.pick(pool, key, rng)?;
        self.0.begin(slot);
        Some(slot)
    }

    fn ended(&mut self, slot: usize) {
        self.0.finish(slot);
    }
}

impl Tabled for Counted {
    fn update<P: lb_core::pick::Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        self.0.update(pool, budget)
    }
}

/// The same picks once more, from where they are written down.
struct Replay<'a>(core::slice::Iter<'a, u8>);

impl Chooser for Replay<'_> {
    fn update(&mut self, _: &Endpoints) {}

    fn pick(&mut self, _: &Endpoints, _: u64) -> Option<usize> {
        self.0.next().map(|&slot| slot.into())
    }

    fn ended(&mut self, _: usize) {}
}

/// Does the same requests with every strategy.
struct Bench {
    picked: [u8; REQUESTS],
    spread: [u16; SLOTS],
    measured: u32,
}

impl Bench {
    #[inline(never)]
    fn measure<S: Strategy + Tabled>(&mut self, name: &str, profile: &str, strategy: S, equal: bool) {
        let bytes = size_of::<S>() as u32;
        let mut picker = Picker {
            strategy,
            rng: Sfc32::new(42),
        };
        self.report(name, profile, bytes, &mut picker, equal);
    }

    #[inline(never)]
    fn report(&mut self, name: &str, profile: &str, bytes: u32, picker: &mut dyn Chooser, equal: bool) {
        self.measured += 1;
        let mut pool = Endpoints::new(equal);
        let update = timer::count(|| picker.update(&pool));
        let mut picked = [0; REQUESTS];
        let all = timer::count(|| run(&mut pool, picker, &mut picked));
        self.picked = picked;
        let mut pool = Endpoints::new(equal);
        let rest = timer::count(|| run(&mut pool, &mut Replay(self.picked.iter()), &mut picked));
        if picked != self.picked {
            host::fail("the replay is another one");
        }
        self.spread = [0; SLOTS];
        for &slot in &self.picked {
            match self.spread.get_mut(usize::from(slot)) {
                Some(count) => *count += 1,
                None => host::fail("nobody was picked"),
            }
        }
        let most = self.spread.iter().copied().max().unwrap_or(0);
        let instructions = all.saturating_sub(rest) / REQUESTS as u32;
        say!(
            "pick=",
            name,
            " profile=",
            profile,
            " instructions=",
            instructions,
            " update=",
            update,
            " ram=",
            bytes,
            " most=",
            most
        );
    }
}

/// Requests that begin and end. Who is picked is written down; a number above all slots if nobody is.
#[inline(never)]
fn run(pool: &mut Endpoints, chooser: &mut dyn Chooser, picked: &mut [u8; REQUESTS]) {
    let mut in_flight = [None; DEPTH];
    let mut random = 1_u32;
    for (count, place) in picked.iter_mut().enumerate() {
        // Marsaglia's xorshift: cheap, and good enough for keys and the order of ends.
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let key = u64::from(random) << 32 | u64::from(random.rotate_left(11));
        let slot = chooser.pick(pool, key);
        *place = slot.map_or(u8::MAX, |slot| slot as u8);
        let Some(slot) = slot else { continue };
        pool.begin(slot);
        let which = ((random >> 16) as usize * DEPTH) >> 16;
        if let Some(ended) = in_flight.get_mut(which).and_then(|there| there.replace(slot)) {
            pool.finish(ended, 500 + (random & 0xfff));
            chooser.ended(ended);
        }
        if count % 4 == 0 {
            pool.report(count / 4 % SLOTS, (random >> 8 & 7) as u16);
        }
        pool.pass();
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    timer::start();
    if !StrategyKind::ALL
        .iter()
        .all(|kind| NAMES.contains(&kind.as_str()))
    {
        host::fail("a strategy is missing");
    }
    let mut bench = Bench {
        picked: [0; REQUESTS],
        spread: [0; SLOTS],
        measured: 0,
    };
    measure_all(&mut bench);
    let (largest, sum) = RAM;
    say!(
        "picks=",
        bench.measured,
        " endpoints=",
        SLOTS as u32,
        " pool=",
        POOL as u32,
        " largest=",
        largest as u32,
        " sum=",
        sum as u32
    );
    host::succeed()
}
